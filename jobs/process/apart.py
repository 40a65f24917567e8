"""Runs each function of ours in a process of its own: what it does there fails nothing but its own run.

On the queue `maintenance` it stands where other queues have the gateway to Stripe. The process has a limit of memory
and of time, gives way to others on a busy machine, and ends with the worker. It reads its settings and secrets itself,
as the worker did, so none is handed over.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from billing.gateway import RUN, Answer, Budget, NotSent, Request, Response, boot_clock
from jobs.logs import RaisedElsewhere
from jobs.process import leash

PROGRAM = (sys.executable, "-m", "jobs.process.function")


class Apart:
    """A `Gateway` to functions of ours. `memory_mb`: what each may use."""

    def __init__(self, memory_mb: int, *, livemode: bool, program: Sequence[str | Path] = PROGRAM) -> None:
        self.livemode = livemode
        self._memory_mb, self._program = memory_mb, program

    def send(self, request: Request, budget: Budget) -> Answer:
        """Run the function that the path names. Raises RaisedElsewhere for what it raises, if it is killed, and if it
        takes longer than its budget."""
        if request.method != RUN:
            return NotSent("this queue runs functions of ours only")
        if (left_s := budget.over_at - boot_clock()) <= 0:
            return NotSent("too late to start")
        asked = {
            "path": request.path,
            "body": request.body,
            # A function may start late, because it may run again at any time; only its whole length is limited.
            "not_after": budget.over_at,
            "over_at": budget.over_at,
            "memory_mb": self._memory_mb,
        }
        with subprocess.Popen(  # noqa: S603 - our own program, and no shell
            leash.tied(self._program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                said, _ = child.communicate(json.dumps(asked), timeout=left_s)
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
            return NotSent(answer["not_sent"])
        kept = json.dumps(answer["result"]).encode()
        return Response(200, kept, {"livemode": self.livemode, "result": answer["result"]}, None, replayed=False)
