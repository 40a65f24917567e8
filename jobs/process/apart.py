"""Runs each function of ours, and fetches each document, in a process of its own: what it does there fails nothing but
its own run.

On the queues `maintenance` and `documents` it stands where other queues have the gateway to Stripe. The process has a
limit of memory and of time, gives way to others on a busy machine from its first moment, and ends with the worker. It
reads its settings and secrets itself, as the worker did, so none is handed over.
"""

import json
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from billing.gateway import RUN, Answer, Budget, NotSent, Request, Response, boot_clock
from jobs.logs import RaisedElsewhere
from jobs.process import leash

PROGRAM = (sys.executable, "-m", "jobs.process.function")
DOCUMENT = (sys.executable, "-m", "jobs.process.document")
STARTS_WITHIN = 0.5
"""The part of a call's time that is left for the start of its process, which is a second on a free machine. What has
not started by then is not killed but waited for again, so that a busy machine delays a run and does not fail it."""

Process = subprocess.Popen[bytes]


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
        self._starting: deque[Process] = deque()

    def send(self, request: Request, budget: Budget) -> Answer:
        """Run the function that the path names. Raises RaisedElsewhere for what it raises, if it is killed, and if it
        takes longer than its budget."""
        if request.method != self._method:
            return NotSent("this queue runs functions of ours only")
        if (part := request.unfit) is not None:
            return NotSent(f"the {part} has characters that we never write; it was not sent")
        if (left_s := budget.over_at - boot_clock()) <= 0:
            return NotSent("too late to start")
        child = self._started(STARTS_WITHIN * left_s)
        if child is None:
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
        with child:
            try:
                said, _ = child.communicate(json.dumps(asked).encode(), timeout=max(0, budget.over_at - boot_clock()))
            except subprocess.TimeoutExpired:
                child.kill()
                raise RaisedElsewhere([{"kind": f"OutOfTime: it was killed after {left_s:.0f} s", "at": []}]) from None
        if child.returncode < 0:
            name = signal.Signals(-child.returncode).name
            raise RaisedElsewhere([{"kind": f"Killed: its process got {name}", "at": []}])
        try:
            answer = json.loads(said)
        except ValueError:
            raise RaisedElsewhere([{"kind": f"NoAnswer: it ended with {child.returncode}", "at": []}]) from None
        if "raised" in answer:
            raise RaisedElsewhere(answer["raised"])
        if "not_sent" in answer:
            return NotSent(answer["not_sent"], unreached=answer.get("unreached", False))
        kept = json.dumps(answer["data"]).encode()
        return Response(answer["status"], kept, answer["data"], answer["request_id"], replayed=False)

    def _started(self, within_s: float) -> Process | None:
        """A process that waits for what to run, or that has ended already. None: it has not started within this time,
        and the next call waits for it again."""
        try:
            child = self._starting.popleft()
        except IndexError:
            child = self._starter.submit(self._start).result()
        assert child.stdout is not None
        waiting = select.poll()
        waiting.register(child.stdout)
        if not waiting.poll(1000 * within_s):
            self._starting.append(child)
            return None
        child.stdout.readline()  # `READY`, or nothing if it has ended
        return child

    def _start(self) -> Process:
        command = leash.tied(self._program, niceness=self._niceness)
        # Unbuffered, so that the line which says that it has started is all that is read then.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603 - our own program, and no shell
