"""The three exports that a proof compares: files of JSON lines, each with a header before them and an end after them.

    ours      what was asked of this service, and how each request stands: from Postgres
    stripe    the effects that Stripe shows, by its lists
    archive   the effects that the archive tells of, from verified copies

Nobody is named in them: they hold ids, amounts, states and times. A file without its end was not written to its end.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from archive.errors import BadExport

FORM = 1
OURS, STRIPE, ARCHIVE = "ours", "stripe", "archive"
EXPORTS = (OURS, STRIPE, ARCHIVE)
_EVERY = 1000
_LONGEST = 10_000
"""Bytes of a line. The longest of ours, with ids of 255 characters in every place, has 2,000."""

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """What an export is of. `since`: requests from then on. `begun` and `ended`: when it was read, by the clock of the
    machine that read it. `heads`: of the archive, the number of the newest manifest of each class."""

    export: str
    environment: str
    livemode: bool
    since: datetime
    begun: datetime
    ended: datetime
    lines: int = 0
    sha256: str = ""
    heads: Mapping[str, int] = field(default_factory=dict)


def write(
    path: Path,
    header: Header,
    lines: Iterable[Line],
    now: Callable[[], datetime],
    progress: Callable[[int], None] = lambda _: None,
) -> Header:
    """Write an export, and put it in its place once it is whole: a file that is there already stays until then.

    `header.ended` is what `now` says after the last line. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with unfinished.open("wb") as file:
            digest = hashlib.sha256()

            def put(line: Line) -> None:
                body = json.dumps(line, separators=(",", ":")).encode() + b"\n"
                digest.update(body)
                file.write(body)

            put(
                {
                    "export": header.export,
                    "form": FORM,
                    "environment": header.environment,
                    "livemode": header.livemode,
                    "since": header.since.isoformat(),
                    "begun": header.begun.isoformat(),
                    "heads": dict(header.heads),
                }
            )
            for line in lines:
                put(line)
                count += 1
                if count % _EVERY == 0:
                    progress(count)
            ended = now()
            put({"end": True, "lines": count, "ended": ended.isoformat()})
        unfinished.replace(path)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
    return Header(
        header.export,
        header.environment,
        header.livemode,
        header.since,
        header.begun,
        ended,
        count,
        digest.hexdigest(),
        header.heads,
    )


def read(path: Path) -> Header:
    """Read the whole file, and check that it is an export from its header to its end.

    Raises BadExport, which names the file, the line and what is wrong.
    """
    digest, count, first, last = hashlib.sha256(), 0, b"", b""
    try:
        for number, line in enumerate(_lines_of(path), 1):
            digest.update(line)
            if number == 1:
                first = line
            last, count = line, number
    except OSError as error:
        raise BadExport(path, f"cannot be read: {error.strerror}") from None
    if not count:
        raise BadExport(path, "is empty")
    header, end = _object(path, 1, first), _object(path, count, last)
    if header.get("export") not in EXPORTS:
        raise BadExport(path, "is no export; write one with `billing export`")
    if header.get("form") != FORM:
        raise BadExport(path, f"has form {header.get('form')!r}, and this version reads form {FORM}")
    if end.get("end") is not True:
        raise BadExport(path, "has no end: it was not written to its end, or was cut; write it again")
    if end.get("lines") != count - 2:
        raise BadExport(path, f"has {count - 2:,} lines, and its end says {end.get('lines')!r}; write it again")
    try:
        return Header(
            header["export"],
            str(header["environment"]),
            bool(header["livemode"]),
            datetime.fromisoformat(header["since"]),
            datetime.fromisoformat(header["begun"]),
            datetime.fromisoformat(end["ended"]),
            count - 2,
            digest.hexdigest(),
            {str(name): int(number) for name, number in header["heads"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadExport(path, f"has a header or an end that lacks something: {type(error).__name__}") from None


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST + 1):
            number += 1
            if len(line) > _LONGEST:
                raise BadExport(path, f"line {number} has more than {_LONGEST:,} bytes; this is no export")
            yield line


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadExport(path, f"line {number} is no JSON object; write it again")
    return found
