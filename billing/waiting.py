"""Waiting until a capture or an invoice is final: short reads with growing pauses, and no transaction in between.

Waiting is for a program that has nothing else to do, such as a command or a test. A service that reacts to each end,
also to those of yesterday, follows `billing.changes`.
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
"""Where nothing is in its way a capture takes a fraction of a second; what takes longer waits for Stripe, or for a
person, and is asked for once a second."""
LONGEST_S = 86_400.0
"""A day: whoever waits for longer follows the changes instead."""


class NotFinal(BillingError):
    """It was waited for in vain; the work goes on. `status` is the last one that was seen."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.id} is not final: {status.state}; {status.next}")
        self.status = status


def wait(engine: Engine, entity_id: str, *, timeout_s: float = 30.0) -> Status:
    """Wait until the capture or invoice with this id is final, and return that status.

    Commit the transaction that asked for it first: until then nobody else knows of it. Each look is a transaction of
    its own on a connection of `engine`, and none is held in between.

    Raises NotFinal, with the last status, after `timeout_s`, and at once where an operator has to decide. It ends the
    waiting and nothing else: the work goes on. Raises UnknownEntity, and InvalidRequest for wrong types.
    """
    if not isinstance(engine, Engine):
        raise WrongEngine(type(engine).__name__, "sqlalchemy.Engine", "in async code there is billing.wait_async")
    pauses = _pauses(timeout_s)
    while True:
        with engine.connect() as connection:
            now = _look(connection, entity_id)
        if now.final:
            return now
        time.sleep(_next_pause(pauses, now))


async def wait_async(engine: "AsyncEngine", entity_id: str, *, timeout_s: float = 30.0) -> Status:
    """As `wait`, on an engine of `sqlalchemy.ext.asyncio`: the event loop goes on meanwhile, and a task that waits may
    be canceled at any time. What this needs is installed by `pip install 'billing-reference[asyncio]'`.
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
            now = await connection.run_sync(_look, entity_id)
        if now.final:
            return now
        await asyncio.sleep(_next_pause(pauses, now))


def _look(connection: Connection, entity_id: str) -> Status:
    with Session(connection) as session:
        return status(session, entity_id)


def _next_pause(pauses: Iterator[float], now: Status) -> float:
    """How long to wait before the next look. Raises NotFinal where there is none."""
    pause_s = None if now.needs_decision else next(pauses, None)
    if pause_s is None:
        raise NotFinal(now)
    return pause_s


def _pauses(timeout_s: float) -> Iterator[float]:
    """Growing, until the time is over. The last one ends with it, so that one look is made at the very end."""
    return _until(time.monotonic() + seconds("timeout_s", timeout_s, LONGEST_S))


def _until(end: float) -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while (left_s := end - time.monotonic()) > 0:
        yield min(pause_s, left_s)
        pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)
