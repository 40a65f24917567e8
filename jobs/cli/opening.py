"""How a command opens what it needs: settings, logs, and a checked database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from billing import database
from jobs import logs
from jobs.config.settings import load
from jobs.process.runtime import Runtime
from jobs.road.verdicts import Failure, classify

T = TypeVar("T")
_TRIES = 20
_SLOW_TRIES = 3
"""A captain holds a row for some milliseconds, and a connection of ours waits 200 ms for it: this is 4 s."""


def open_runtime(name: str, *, logs_too: bool = False) -> Runtime:
    """The parts of this process by its settings; nothing is connected yet. Raises SettingsError."""
    settings = load()
    if logs_too:
        logs.configure(settings.log_level, settings.log_format)
        logs.own_the_process()
    return Runtime(settings, name)


@contextmanager
def opened() -> Iterator[Runtime]:
    """A runtime for one command, on a database that is ours. Raises WrongDatabase and what Postgres raises."""
    runtime = open_runtime("cli")
    try:
        patiently(
            runtime,
            lambda session: database.check_stamp(
                session, environment=runtime.settings.environment, livemode=runtime.settings.livemode
            ),
        )
        yield runtime
    finally:
        runtime.close()


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
