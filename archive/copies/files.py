"""The files of the copies: only plain files of this user count, and each is there as a whole or not at all."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from archive.errors import ExposedCache, TooLarge


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file of ours for reading. Raises OSError if it is a link or no plain file."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is no plain file")
        yield file


@contextmanager
def room(what: str = "a copy cannot be written") -> Iterator[None]:
    """Raise TooLarge where the directory of the copies has no room for what is done in here."""
    try:
        yield
    except OSError as error:
        raise TooLarge(f"BILLING_CACHE_DIRECTORY: {what} there ({error.strerror or error})") from None


def put(unfinished: Path, path: Path) -> None:
    """Move a whole file to its place: a reader at the same time sees the old file or the new one, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished.chmod(0o400)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    unfinished.replace(path)


def private(path: Path) -> Path:
    """Create the directory unless it exists. Raises ExposedCache if other users could put files into it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if path.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ExposedCache(
            f"BILLING_CACHE_DIRECTORY: {path} must be a directory of this user that nobody else can write; chmod 700 it"
        )
    return path
