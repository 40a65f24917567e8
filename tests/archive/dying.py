"""An archiver that dies at a chosen or a random place; what it had not committed is gone, as after a `kill -9`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from archive.s3.store import Store

Passes = Callable[[str], None]


class Died(BaseException):
    """Nothing in the archive catches it."""


class At:
    """Dies at the n-th time of a place: `At("put.after:2")`. `passed` lists all that was passed."""

    def __init__(self, where: str = "") -> None:
        self.passed: list[str] = []
        self._where = where

    def __call__(self, place: str) -> None:
        self.passed.append(place)
        if f"{place}:{self.passed.count(place)}" == self._where:
            raise Died(self._where)


class Watched:
    """The real store, between two places for each object that is written or read."""

    def __init__(self, store: Store, passes: Passes) -> None:
        self._store, self._passes = store, passes

    def put_once(self, *args: Any) -> bool:
        self._passes("put.before")
        wrote = self._store.put_once(*args)
        self._passes("put.after")
        return wrote

    def get(self, *args: Any) -> Any:
        found = self._store.get(*args)
        self._passes("get.after")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@contextmanager
def watched_commits(passes: Passes) -> Iterator[None]:
    before, after = (lambda _: passes("commit.before")), (lambda _: passes("commit.after"))
    event.listen(Session, "before_commit", before)
    event.listen(Session, "after_commit", after)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", before)
        event.remove(Session, "after_commit", after)
