"""The bytes of a file as lines of text, numbered, with the digest of all that was read so far.

A file may be larger than memory, and a line longer: no line is read beyond `LINE_MOST`. It is UTF-8, with or without a
byte-order mark. What other programs write instead is recognized by its first bytes, and refused with what to do.
"""

import hashlib
from typing import IO

from jobs.bulk.errors import UnusableFile

LINE_MOST = 65_536
"""Bytes of a line. The longest row of cells that can be asked for has a tenth of it."""
_BLOCK = 1 << 20
_LOOKED_AT = 512
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STRANGERS = {
    b"\xff\xfe": "is UTF-16, as Excel writes 'Unicode text'; save it as 'CSV UTF-8'",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"PK\x03\x04": "is a workbook (or a zip file); save the sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "is an old workbook; save the sheet as 'CSV UTF-8'",
    b"\x1f\x8b": "is compressed; unpack it first (gunzip)",
    b"%PDF": "is a PDF; a table in it cannot be read",
    b"{\\rtf": "is a text document; save it as plain text in UTF-8",
}


class BadLine(Exception):
    """This line cannot be read; the next one can."""


class Lines:
    """An iterator of lines with their ends. It raises BadLine for one that cannot be read, and goes on after it.

    `most`: bytes of a line. `number`: of the last line that was read, from 1. `bytes_read` counts the bytes up to its
    end.
    """

    def __init__(self, stream: IO[bytes], most: int = LINE_MOST) -> None:
        self._most = most
        self.number = self.bytes_read = 0
        self._stream = stream
        self._sha256 = hashlib.sha256()
        stream.seek(0)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        raw = self._read()
        if not raw:
            raise StopIteration
        self.number += 1
        if len(raw) > self._most:
            while raw and not raw.endswith(b"\n"):
                raw = self._read()
            raise BadLine(f"has more than {self._most:,} bytes")
        if self.number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        if b"\0" in raw:
            raise BadLine("holds a NUL byte, which no text has")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise BadLine(
                f"is not UTF-8: byte {error.start + 1} of it is 0x{raw[error.start]:02X}; save the file as 'CSV UTF-8'"
            ) from None

    def _read(self) -> bytes:
        raw = self._stream.readline(self._most + 1)
        self._sha256.update(raw)
        self.bytes_read += len(raw)
        return raw

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all bytes up to the end of the last line."""
        return self._sha256.hexdigest()


def digest_of(stream: IO[bytes]) -> str:
    """SHA-256 of the whole file, in hexadecimal."""
    stream.seek(0)
    sha256 = hashlib.sha256()
    while block := stream.read(_BLOCK):
        sha256.update(block)
    return sha256.hexdigest()


def refuse_strangers(stream: IO[bytes]) -> None:
    """Raises UnusableFile for an empty file, and for one that is no text in UTF-8 by its first bytes."""
    stream.seek(0)
    first = stream.read(_LOOKED_AT)
    for beginning, what in _STRANGERS.items():
        if first.startswith(beginning):
            raise UnusableFile(f"the file {what}")
    if not first.removeprefix(_BYTE_ORDER_MARK).strip():
        stream.seek(0)
        if not any(block.removeprefix(_BYTE_ORDER_MARK).strip() for block in iter(lambda: stream.read(_BLOCK), b"")):
            raise UnusableFile("the file is empty")
    if first.count(b"\0") > len(first) // 4:
        raise UnusableFile("the file is UTF-16 without a mark, or no text at all; save it as 'CSV UTF-8'")
