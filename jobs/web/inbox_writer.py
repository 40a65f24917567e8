"""Writes events into the inbox: one thread and one connection for all requests of a process.

Whatever waits at a moment is one statement and one commit, so under load a commit is shared by many events. A request
is answered after the commit of its event, and never before.
"""

import asyncio
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from billing import database, inbox
from billing.tables.received_events import ReceivedEvent
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

BATCH = 500
WAITING_MOST = 5000
"""So many events wait at most: some seconds' worth. More are refused at once, and Stripe sends them again."""


class InboxFull(Exception):
    """More events wait than are taken."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    event: ReceivedEvent
    answer: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class InboxWriter:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(WAITING_MOST)
        self._thread = threading.Thread(target=self._work, name="inbox", daemon=True)
        self._thread.start()

    async def put(self, event: ReceivedEvent) -> None:
        """Returns once the event is committed. Raises InboxFull, and what Postgres raises."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        try:
            self._waiting.put_nowait(_Waiting(event, answer, loop))
        except queue.Full:
            raise InboxFull from None
        await answer

    def close(self) -> None:
        """What waits is written first."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ended = [first], False
            while len(batch) < BATCH and not ended:
                try:
                    another = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    ended = True
                else:
                    batch.append(another)
            self._write(batch)
            if ended:
                return

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            with database.transaction(self._engine) as session:
                new = inbox.put(session, [each.event for each in batch])
        except Exception as error:
            # It is the answer of each of these requests, and is logged.
            if classify(error) is Failure.DATA and len(batch) > 1:
                for each in batch:
                    self._write([each])
                return
            if classify(error) is Failure.RECONNECT:
                self._engine.dispose()
            log.warning("webhooks.unstored", count=len(batch), error=type(error).__name__, exc_info=error)
            _tell(batch, error)
            return
        log.info("webhooks.stored", new=new, duplicates=len(batch) - new)
        _tell(batch, None)


def _tell(batch: Sequence[_Waiting], error: Exception | None) -> None:
    """Once for the whole batch: to wake the loop costs more than to answer."""

    def answer() -> None:
        for each in batch:
            if each.answer.done():
                continue  # its client has left
            if error is None:
                each.answer.set_result(None)
            else:
                each.answer.set_exception(error)

    # Where the server has stopped, nobody waits for the answer any more; the events after these are written, too.
    with suppress(RuntimeError):
        batch[0].loop.call_soon_threadsafe(answer)
