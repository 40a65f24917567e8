"""Files that somebody asked for on this machine: written whole, or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from archive.errors import NotWritten


def write_file(option: str, path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write a file, which then takes the place of the one that is there: somebody may be reading that.

    `option`: what the command calls this file. Raises NotWritten.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".billing-") as place:
            unfinished = Path(place) / path.name
            write(unfinished)
            unfinished.replace(path)
    except OSError as error:
        raise NotWritten(f"{option} {path}: {error.strerror or error}") from None


def write_new(option: str, path: Path, body: bytes, *, only_for_us: bool = False) -> None:
    """Write a file that does not exist yet; one that does stays as it is. `only_for_us`: no other user may read it.

    `option`: what the command calls this file. Raises NotWritten.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if only_for_us else 0o666)
    except FileExistsError:
        raise NotWritten(f"{option} {path} exists, and stays; name another file") from None
    except OSError as error:
        raise NotWritten(f"{option} {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise NotWritten(f"{option} {path}: {error.strerror or error}") from None
