"""Where a month's copy lies: in a bucket (`archive.s3.plain_bucket`), or in a directory."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from archive.errors import BadQuestion

UNFINISHED = "unfinished/"
"""Where files are written before they are moved to their place."""


class Place(Protocol):
    """Whoever reads a key sees the old file or the new one, whole."""

    @property
    def name(self) -> str: ...

    def keys(self, prefix: str) -> list[str]: ...

    def read(self, key: str) -> bytes | None:
        """None if it is not there."""

    def digest(self, key: str) -> str | None:
        """The SHA-256 of what is there; None if nothing is."""

    def put(self, key: str, file: Path) -> None: ...

    def remove(self, key: str) -> None:
        """It need not be there."""


class Directory:
    """A directory on this machine or a file server. Every method may raise BadQuestion."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        return f"{self._root}/"

    def keys(self, prefix: str) -> list[str]:
        with self._reworded():
            return sorted(
                path.relative_to(self._root).as_posix()
                for path in (self._root / prefix).rglob("*")
                if path.is_symlink() or not path.is_dir()
            )

    def read(self, key: str) -> bytes | None:
        with self._reworded():
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                return None

    def digest(self, key: str) -> str | None:
        with self._reworded():
            try:
                with (self._root / key).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None

    def put(self, key: str, file: Path) -> None:
        path = self._root / key
        unfinished = self._root / UNFINISHED / uuid4().hex
        with self._reworded():
            for folder in (unfinished.parent, path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            try:
                with file.open("rb") as source, unfinished.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
                    copy.flush()
                    # Else the index, which is written later, may outlive it in a power failure.
                    os.fsync(copy.fileno())
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        with self._reworded():
            (self._root / key).unlink(missing_ok=True)

    @contextmanager
    def _reworded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadQuestion(f"--to {self._root}: {error.strerror or error}") from None
