"""A worker process that dies, or is stopped, at a named boundary: forked from the tests, sharing nothing but code."""

import os
import random
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from service import Service, patient_engine
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from billing import effects, transport
from billing.gateway import Gateway
from jobs.documents.keeping import Keeping
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift

KILLED = -signal.SIGKILL


class Boundaries:
    """Counts what a process passes, and does something at one of them: `send.before:2`, `commit.after:1`."""

    def __init__(self, at: str, do: Callable[[], None]) -> None:
        self._at, self._do = at, do
        self._passed: dict[str, int] = {}

    def passes(self, name: str) -> None:
        self._passed[name] = self._passed.get(name, 0) + 1
        if f"{name}:{self._passed[name]}" == self._at:
            self._do()


class Watched:
    """The real gateway, store or fetcher, with two boundaries around each of these calls."""

    def __init__(self, real: Any, boundaries: Boundaries, *calls: str) -> None:
        self._real, self._boundaries, self._calls = real, boundaries, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return partial(self._call, found) if name in self._calls else found

    def _call(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self._boundaries.passes("send.before")
        answer = call(*args, **more)
        self._boundaries.passes("send.after")
        return answer


def watched(gateway: Gateway, boundaries: Boundaries) -> Gateway:
    """This gateway, with a boundary before and after each call that it makes."""
    if isinstance(gateway, Keeping):
        return replace(
            gateway,
            stripe=Watched(gateway.stripe, boundaries, "read_whole"),
            fetcher=Watched(gateway.fetcher, boundaries, "fetch"),
            store=Watched(gateway.store, boundaries, "put_once", "get"),
        )
    return Watched(gateway, boundaries, "send")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    # Of this very thread: sent to the process, another thread may take it, and this one run on for a moment.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def fork_worker(
    service: Service,
    queue: str,
    *,
    at: str = "",
    do: Callable[[], None] = die,
    mutate: Callable[[], None] = lambda: None,
    crew: int = 1,
    gateway: Gateway | None = None,
) -> int:
    """Fork a worker that takes one shift, by default with one call at a time. Returns its pid; `reap` waits for it."""
    return fork_process(
        service, lambda *own: shift(service, queue, *own, crew=crew), at=at, do=do, mutate=mutate, gateway=gateway
    )


def shift(service: Service, queue: str, engine: Engine, gateway: Gateway, *, crew: int = 1) -> None:
    runner = Runner(service.call_settings, random.Random(1))
    Shift(engine, gateway, runner, queue, crew=crew, slice_s=30).run(Control())


def fork_process(
    service: Service,
    work: Callable[[Engine, Gateway], object],
    *,
    at: str = "",
    do: Callable[[], None] = die,
    mutate: Callable[[], None] = lambda: None,
    gateway: Gateway | None = None,
) -> int:
    """Fork a process that does this work with an engine and a gateway of its own, between boundaries. Returns its
    pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        # A lock that another thread of the parent held at this moment would be held for ever in here.
        transport._WATCH = transport._Watch()
        mutate()
        boundaries = Boundaries(at, do)
        engine = patient_engine(service.url, service.timing, name="victim")
        # Only transactions that wrote something: looking for work and finding none is no boundary.
        wrote: set[str] = set()
        event.listen(engine, "before_cursor_execute", lambda *told: _writes(told[2]) and wrote.add("something"))
        event.listen(engine, "commit", lambda _: wrote and boundaries.passes("commit.before"))
        event.listen(Session, "after_commit", lambda _: wrote and (wrote.clear(), boundaries.passes("commit.after")))
        work(engine, watched(gateway or service.gateway(), boundaries))
    except BaseException:  # noqa: BLE001 - a forked child must not go on as a second pytest
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def _writes(statement: str) -> bool:
    return "INSERT INTO" in statement or "UPDATE billing" in statement


def reap(pid: int) -> int:
    """Wait for the process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fresh_key_per_attempt() -> None:
    """The mutant: what a careless worker does. The crash tests must find it."""
    honest = effects.request_of
    effects.request_of = lambda record: replace(honest(record), key=f"fresh-{uuid4()}")
