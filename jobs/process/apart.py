"""Runs each function of ours, and fetches each document, in a process of its own: what it does there fails nothing but
its own run.

On the queues `maintenance` and `documents` it stands where other queues have the gateway to Stripe. The process has a
limit of memory and of time, gives way to others on a busy machine from its first moment, and ends with the worker. It
reads its settings and secrets itself, as the worker did, so none is handed over. It is forked from one that has
imported everything (`jobs.process.forking`), which is started at the first call.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from billing.gateway import RUN, Answer, Budget, NotSent, Request, Response, boot_clock
from jobs.logs import RaisedElsewhere
from jobs.process import leash

PROGRAM = (sys.executable, "-m", "jobs.process.function")
DOCUMENT = (sys.executable, "-m", "jobs.process.document")
STARTS_WITHIN = 0.5
"""The part of a call's time that is left for the start of the process that forks, which is two seconds on a free
machine. What has not started by then is not killed but waited for again, so that a busy machine delays a run and does
not fail it."""


@dataclass(slots=True)
class _Forking:
    """The process that forks one for each call: where it is asked, and where it says that it is ready."""

    program: subprocess.Popen[bytes]
    asking: socket.socket
    ready: IO[bytes]
    is_ready: bool = False

    def end(self) -> None:
        """With all that it has forked."""
        self.program.kill()
        self.program.wait()
        self.asking.close()
        self.ready.close()


class Apart:
    """A `Gateway` to functions of ours; `method`: what it takes. `memory_mb`: what each may use. `niceness`: how much
    each gives way. With 10 it gets about a tenth of the time of a program that does not, on a busy machine: Linux gives
    it 110 shares, and the other 1,024 (kernel/sched/core.c, `sched_prio_to_weight`)."""

    def __init__(
        self,
        memory_mb: int,
        *,
        livemode: bool,
        niceness: int,
        program: Sequence[str | Path] = PROGRAM,
        method: str = RUN,
    ) -> None:
        self.livemode = livemode
        self._method = method
        self._memory_mb, self._niceness, self._program = memory_mb, niceness, program
        # The leash ends a process with the thread that started it. This one lives as long as the worker; a thread of
        # the crew ends with its shift, and would take a process along that has not started yet.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="start-function")
        self._starting = threading.Lock()
        self._forking: _Forking | None = None

    def send(self, request: Request, budget: Budget) -> Answer:
        """Run the function that the path names. Raises RaisedElsewhere for what it raises, if it is killed, and if it
        takes longer than its budget."""
        if request.method != self._method:
            return NotSent("this queue runs functions of ours only")
        if (part := request.unfit) is not None:
            return NotSent(f"the {part} has characters that we never write; it was not sent")
        if (left_s := budget.over_at - boot_clock()) <= 0:
            return NotSent("too late to start")
        forking = self._ready(budget.over_at - (1 - STARTS_WITHIN) * left_s)
        if forking is None:
            return NotSent("its process has not started yet")
        asked = {
            "path": request.path,
            "body": request.body,
            "account": request.account,
            # A function may start late, because it may run again at any time; only its whole length is limited.
            "not_after": budget.over_at,
            "over_at": budget.over_at,
            "memory_mb": self._memory_mb,
        }
        return _answer_of(_said(forking, asked, budget.over_at, left_s))

    def _ready(self, until: float) -> socket.socket | None:
        """Where the process listens that forks one for each call. None: it has not started by then, and the next call
        waits for it again. If it has ended, another is started."""
        # Calls that wait for the same start wait side by side: one after the other, the last would be over its budget.
        if not self._starting.acquire(timeout=_left_s(until)):
            return None
        try:
            if self._forking is None or self._forking.program.poll() is not None:
                self._forking = self._starter.submit(self._start).result()
                weakref.finalize(self, self._forking.end)
            forking = self._forking
            if not forking.is_ready:
                waiting = select.poll()
                waiting.register(forking.ready)
                if not waiting.poll(1000 * _left_s(until)):
                    return None
                forking.ready.readline()  # `READY`, or nothing if it has ended
                forking.is_ready = True
            return forking.asking
        finally:
            self._starting.release()

    def _start(self) -> _Forking:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with its:
            command = leash.tied(self._program, niceness=self._niceness)
            # Unbuffered, so that the line which says that it has started is all that is read then.
            program = subprocess.Popen(command, stdin=its.fileno(), stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own program, and no shell
        assert program.stdout is not None
        return _Forking(program, ours, program.stdout)


def _left_s(until: float) -> float:
    # Below zero it would mean: for ever.
    return max(0.0, until - boot_clock())


def _said(forking: socket.socket, asked: Mapping[str, Any], over_at: float, left_s: float) -> list[bytes]:
    """What is said about this call: the lines that `jobs.process.forking` describes. Raises RaisedElsewhere."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with its:
            try:
                socket.send_fds(forking, [b"1"], [its.fileno()])
                ours.sendall(json.dumps(asked).encode() + b"\n")
            except OSError:
                return []  # it has just ended
        said = b""
        while True:
            ours.settimeout(max(0.001, over_at - boot_clock()))
            try:
                more = ours.recv(1 << 16)
            except TimeoutError:
                _kill(said)
                raise RaisedElsewhere([{"kind": f"OutOfTime: it was killed after {left_s:.0f} s", "at": []}]) from None
            except OSError:
                more = b""
            if not more:
                return [each for each in said.split(b"\n") if each]
            said += more


def _kill(said: bytes) -> None:
    """The process that has not answered in time. Its own parent still waits for it, so the number is still its."""
    number, begun, _ = said.partition(b"\n")
    if begun:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGKILL)


def _answer_of(said: Sequence[bytes]) -> Answer:
    """By these lines. Raises RaisedElsewhere for what it raised, and if there is no answer."""
    match said:
        case [_, answered, b"0"]:
            answer = json.loads(answered)
        case [_, *_, ended] if ended.startswith(b"-") and ended[1:].isdigit():
            name = signal.Signals(int(ended[1:])).name
            raise RaisedElsewhere([{"kind": f"Killed: its process got {name}", "at": []}])
        case [_, ended] if ended.isdigit():
            raise RaisedElsewhere([{"kind": f"NoAnswer: it ended with {int(ended)}", "at": []}])
        case _:
            raise RaisedElsewhere([{"kind": "NoAnswer: its process is gone", "at": []}])
    if "raised" in answer:
        raise RaisedElsewhere(answer["raised"])
    if "not_sent" in answer:
        return NotSent(answer["not_sent"], unreached=answer.get("unreached", False))
    kept = json.dumps(answer["data"]).encode()
    return Response(answer["status"], kept, answer["data"], answer["request_id"], replayed=False)
