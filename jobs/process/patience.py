"""One short transaction of a person's command, made again where the workers or a busy machine were in its way."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database
from jobs.process.runtime import Runtime
from jobs.road.verdicts import Failure, classify

T = TypeVar("T")
_TRIES = 20
"""A captain holds a row for some milliseconds, and a connection of ours waits 200 ms for it: this is 4 s."""
_SLOW_TRIES = 3


def patiently(runtime: Runtime, step: Callable[[Session], T]) -> T:
    """`step` in a transaction of its own, again when the workers held what it needs, or a busy machine was too slow."""
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
