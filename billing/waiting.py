"""Wait until an operation is final: short reads with growing pauses, and no open transaction in between.

This is for programs that have nothing else to do, such as a command or a test. A service that reacts to every change,
also after a restart, follows `billing.changes`.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from billing.asking import seconds
from billing.errors import BillingError, WrongEngine
from billing.status import Status, status

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

FIRST_PAUSE_S, LONGEST_PAUSE_S, GROWTH = 0.05, 1.0, 1.5
"""An undisturbed capture takes a fraction of a second. One that takes longer waits for Stripe or for an operator, so it
is read once a second."""
LONGEST_S = 86_400.0
"""A day. To wait for longer, follow the changes."""


class NotFinal(BillingError):
    """The time is over, or an operator must decide; the work goes on. `status` is the last status that was read."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.id} is not final: {status.state}; {status.next}")
        self.status = status


def wait(engine: Engine, entity_id: str, *, timeout_s: float = 30.0) -> Status:
    """Wait until the operation with this id is final, and return that status.

    Commit the request first: until then no other connection sees it. Each read is a transaction of its own on a
    connection of `engine`; no connection is held in between.

    Raises NotFinal with the last status after `timeout_s` seconds, and at once if an operator must decide. The work
    itself goes on. Raises UnknownEntity, and InvalidRequest for wrong types.
    """
    if not isinstance(engine, Engine):
        raise WrongEngine(type(engine).__name__, "sqlalchemy.Engine", "in async code there is billing.wait_async")
    pauses = _pauses(timeout_s)
    while True:
        with engine.connect() as connection:
            now = _read(connection, entity_id)
        if now.final:
            return now
        time.sleep(_next_pause(pauses, now))


async def wait_async(engine: "AsyncEngine", entity_id: str, *, timeout_s: float = 30.0) -> Status:
    """As `wait`, on an engine of `sqlalchemy.ext.asyncio`: it does not block the event loop, and the task may be
    canceled at any time. Needs `pip install 'billing-reference[asyncio]'`.
    """
    if not any(
        (each.__module__.partition(".engine")[0], each.__name__) == ("sqlalchemy.ext.asyncio", "AsyncEngine")
        for each in type(engine).__mro__
    ):
        raise WrongEngine(
            type(engine).__name__,
            "sqlalchemy.ext.asyncio.AsyncEngine",
            "it needs greenlet: pip install 'billing-reference[asyncio]'",
        )
    pauses = _pauses(timeout_s)
    while True:
        async with engine.connect() as connection:
            now = await connection.run_sync(_read, entity_id)
        if now.final:
            return now
        await asyncio.sleep(_next_pause(pauses, now))


def _read(connection: Connection, entity_id: str) -> Status:
    with Session(connection) as session:
        return status(session, entity_id)


def _next_pause(pauses: Iterator[float], now: Status) -> float:
    """How long to wait before the next read. Raises NotFinal if there is none."""
    pause_s = None if now.needs_decision else next(pauses, None)
    if pause_s is None:
        raise NotFinal(now)
    return pause_s


def _pauses(timeout_s: float) -> Iterator[float]:
    """Growing pauses until the time is over. The last pause ends with the time, so that one read is made at the end."""
    return _until(time.monotonic() + seconds("timeout_s", timeout_s, LONGEST_S))


def _until(end: float) -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while (left_s := end - time.monotonic()) > 0:
        yield min(pause_s, left_s)
        pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)
