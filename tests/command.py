"""The command in this process, with the settings of one test's own service."""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from service import Service

from jobs import logs
from jobs.cli import main, whole
from jobs.config.settings import Settings
from jobs.config.sources import variable
from jobs.local.forked import Forked

BILLING = (sys.executable, "-m", "jobs.cli")
"""For a test of what a process is given when it starts; `forked` says what else it is good for."""


@dataclass(frozen=True)
class Ran:
    """What a command ended with: its status, and what it wrote to both outputs."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What `--json` printed. If that is no JSON the test fails with what the command said instead."""
        try:
            return json.loads(self.out)
        except ValueError:
            pytest.fail(f"no JSON: status {self.status}\nstdout: {self.out}\nstderr: {self.err}")


Run = Callable[..., Ran]


@contextmanager
def process_as_before() -> Iterator[None]:
    """What a command sets for its process is undone: signals, hooks and logs."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hooks = sys.excepthook, threading.excepthook
    configured = structlog.get_config()
    try:
        yield
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        sys.excepthook, threading.excepthook = hooks
        logging.captureWarnings(False)
        structlog.configure(**configured)


@pytest.fixture
def settings(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, str]:
    """The environment of a process of this service; set in this process, too."""
    values = {
        "BILLING_ENVIRONMENT": "test",
        "BILLING_TIMING": "short",
        "BILLING_STRIPE_KEY": "sk_test_house",
        "BILLING_HEALTH_DIRECTORY": str(tmp_path / "health"),
        "DATABASE_URL": service.url,
        "REDIS_URL": service.redis_url,
        "STRIPE_API_BASE": service.stripe_api_base,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def run(settings: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as `billing ...` would, and take what it wrote. The tests' own logging stays as it is."""
    return run_here(capsys, monkeypatch)


def run_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str] | None = None
) -> Run:
    """The command in this process. `environment`: its settings, instead of those of this process."""
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)

    def run(*arguments: str) -> Ran:
        with monkeypatch.context() as here, process_as_before():
            here.setattr(sys, "argv", ["billing", *arguments])
            if environment is not None:
                for name in (*Settings.model_fields, "config"):
                    here.delenv(variable(name), raising=False)
                for name, value in environment.items():
                    here.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        told = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), told.out, told.err)

    return run


@pytest.fixture
def run_apart(settings: dict[str, str]) -> Run:
    """The same in a process of its own: where what is written to the log, or how the process ends, is looked at."""

    def run(*arguments: str) -> Ran:
        return in_a_process(arguments)

    return run


def in_a_process(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """The command with this environment, or with that of the tests."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as error:
        ran = Forked(arguments, os.environ if environment is None else environment, output.fileno(), error.fileno())
        try:
            status = ran.wait(200)
        finally:
            ran.kill()
        output.seek(0)
        error.seek(0)
        return Ran(status, output.read(), error.read())


def is_command(words: list[str]) -> bool:
    """Whether these words begin with a command of `billing`."""
    command = whole()
    for word in words:
        if not (inner := getattr(command, "commands", None)):
            return True
        if word not in inner:
            return False
        command = inner[word]
    return not hasattr(command, "commands")
