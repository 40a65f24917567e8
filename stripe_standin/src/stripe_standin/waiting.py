"""Requests that are held: for some seconds, until a test releases them, or until their client has left."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .faults import Fault
from .world import Request


class Ending(StrEnum):
    """How a wait ended."""

    PROCEED = "proceed"
    FORGET = "forget"  # as if the request had been lost on the way
    LEFT = "left"  # the client hung up


@dataclass
class Held:
    id: str
    request: Request
    fault: Fault
    released: asyncio.Future[Ending] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Waiting:
    def __init__(self) -> None:
        self._numbered = 0
        self._changed = asyncio.Event()
        self.held: dict[str, Held] = {}
        self.pauses: set[asyncio.Future[Ending]] = set()

    async def hold(
        self, request: Request, fault: Fault, client_left: Callable[[], Coroutine[Any, Any, None]]
    ) -> Ending:
        """Wait until the request is released, or the client leaves (unless the fault says that it survives that)."""
        self._numbered += 1
        held = Held(f"held_{self._numbered}", request, fault)
        self.held[held.id] = held
        self._wake()
        watcher = None if fault.survives else asyncio.create_task(client_left())
        try:
            ends: set[asyncio.Future[Any]] = {held.released}
            if watcher is not None:
                ends.add(watcher)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return held.released.result() if held.released.done() else Ending.LEFT
        finally:
            if watcher is not None:
                watcher.cancel()
            del self.held[held.id]
            self._wake()

    async def pause(self, seconds: float) -> Ending:
        """Wait some seconds, even if the client leaves. It ends early, as forgotten, if the server stops."""
        pause: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.pauses.add(pause)
        try:
            done, _ = await asyncio.wait({pause}, timeout=seconds)
            return pause.result() if done else Ending.PROCEED
        finally:
            self.pauses.discard(pause)

    def release(self, ids: list[str] | None, ending: Ending) -> list[str]:
        """Release these, or all. Returns the ids of those that were held."""
        chosen = [held for held in self.held.values() if ids is None or held.id in ids]
        for held in chosen:
            if not held.released.done():
                held.released.set_result(ending)
        return [held.id for held in chosen]

    def forget_all(self) -> None:
        """Drop all held requests, because the server stops or is reset."""
        self.release(None, Ending.FORGET)
        for pause in self.pauses:
            if not pause.done():
                pause.set_result(Ending.FORGET)

    async def until(self, count: int, seconds: float) -> None:
        """Return once at least `count` are held, or after `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while len(self.held) < count:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
