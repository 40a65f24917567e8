"""One short transaction of an operator's command, repeated if a worker held a row or the machine was too slow."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database
from jobs.process.runtime import Runtime
from jobs.road.verdicts import Failure, classify

T = TypeVar("T")
_TRIES = 20
"""A captain holds a row for some milliseconds, and our connection waits 200 ms for it: this is 4 s."""
_SLOW_TRIES = 3


def patiently(runtime: Runtime, step: Callable[[Session], T]) -> T:
    """Run `step` in a transaction of its own; again if a worker held a row of it, or the machine was too slow."""
    slow = 0
    for tries_left in reversed(range(_TRIES)):
        try:
            with database.transaction(runtime.engine) as session:
                return step(session)
        except DBAPIError as error:
            kind = classify(error)
            slow += kind is Failure.HALVE
            if kind not in (Failure.REPEAT, Failure.HALVE) or not tries_left or slow == _SLOW_TRIES:
                raise
    raise AssertionError("the last try returns or raises")
