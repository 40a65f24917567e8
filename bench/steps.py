"""Runs a program to its end, tells how far it is, and measures time, CPU and memory of its process."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bench import meter

TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one process did with all facts. `memory_mb`: the most that it had resident; None in Postgres."""

    name: str
    facts: int
    seconds: float
    cpu_s: float | None = None
    memory_mb: float | None = None
    remark: str = ""

    @property
    def row(self) -> str:
        cpu, memory = ("" if each is None else f"{each:,.0f}" for each in (self.cpu_s, self.memory_mb))
        per_s = self.facts / self.seconds
        return f"| {self.name} | {self.seconds:,.1f} | {per_s:,.0f} | {cpu} | {memory} | {self.remark} |"


HEAD = "| step | s | facts/s | CPU-s | most memory, MB | |\n" + "|---" * 6 + "|"


def run(
    name: str,
    facts: int,
    program: Sequence[str],
    environment: Mapping[str, str],
    count: Callable[[], int] | None,
    progress: Callable[[str], None],
) -> tuple[Step, str]:
    """Give Python this program. `count` says how many of the facts are done.

    Also returns what it printed. Raises RuntimeError with the end of that if it fails.
    """
    began = told = time.monotonic()
    memory_mb = 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *program], env=environment, stdout=output, stderr=output)  # noqa: S603 - ourselves
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            with suppress(*meter.GONE):
                memory_mb = max(memory_mb, meter.most_memory_mb(process.pid))
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                progress(f"{name}: {count():,} facts" if count else f"{name}: since {told - began:.0f} s")
            time.sleep(0.05)
        took_s = time.monotonic() - began
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(f"{name}: {said[-3000:]}")
    return Step(name, facts, took_s, used.ru_utime + used.ru_stime, memory_mb), said
