"""The messages of a mailbox, one after the other: of a file with one, of an mbox, of a Maildir, or of standard input.

What is too large is passed over without being held, and only its number is told.
"""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from jobs.email.reports import MESSAGE_MOST

STDIN = "-"
_BEGINS = b"From "
_LINE_MOST = 64 * 1024
"""A longer line is read in pieces."""


def messages(place: str) -> Iterator[bytes]:
    """Each as bytes, cut at one byte more than the most. Raises OSError."""
    path = Path(place)
    if place != STDIN and path.is_dir():
        if not (path / "new").is_dir() or not (path / "cur").is_dir():
            raise NotADirectoryError(f"{place} is no Maildir: it has no folders `new` and `cur`")
        for each in sorted((*(path / "cur").iterdir(), *(path / "new").iterdir())):
            with each.open("rb") as file:
                yield file.read(MESSAGE_MOST + 1)
        return
    with nullcontext(sys.stdin.buffer) if place == STDIN else path.open("rb") as file:
        yield from _of_stream(file)


def _of_stream(file: BinaryIO) -> Iterator[bytes]:
    """An mbox if its first line says so, else one message. Messages of an mbox begin after an empty line (RFC 4155)."""
    held, size, mbox, after_empty, first = bytearray(), 0, False, False, True
    while line := file.readline(_LINE_MOST):
        if first:
            mbox, first = line.startswith(_BEGINS), False
            if mbox:
                continue
        elif mbox and after_empty and line.startswith(_BEGINS):
            yield bytes(held)
            held.clear()
            size, after_empty = 0, False
            continue
        after_empty = not line.strip()
        if size <= MESSAGE_MOST:
            held += line[: MESSAGE_MOST + 1 - size]
        size += len(line)
    if held:
        yield bytes(held)
