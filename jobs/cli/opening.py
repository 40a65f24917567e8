"""How a command opens what it needs: settings, logs, and a checked database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from billing import database
from jobs import logs
from jobs.config.loading import load
from jobs.config.settings import Settings
from jobs.process.patience import patiently
from jobs.process.runtime import Runtime

if TYPE_CHECKING:
    from jobs.process.service import ServiceProcess


def open_runtime(name: str, *, logs_too: bool = False) -> Runtime:
    """What a command or an archiver needs, by its settings; nothing is connected yet. Raises SettingsError."""
    return Runtime(_settings(logs_too), name)


def open_process(name: str, *, logs_too: bool = False) -> ServiceProcess:
    """As `open_runtime`, for what uses Redis or Stripe, too. Raises SettingsError."""
    from jobs.process.service import ServiceProcess

    return ServiceProcess(_settings(logs_too), name)


def _settings(logs_too: bool) -> Settings:
    settings = load()
    if logs_too:
        heard = settings.metrics_port is not None or settings.otel_exporter_otlp_endpoint is not None
        logs.configure(settings.log_level, settings.log_format, heard=heard)
        logs.own_the_process()
    else:
        # A command answers by what it prints. Lines of the rooms that it uses are for processes.
        logs.configure("error", "console")
    return settings


@contextmanager
def opened() -> Iterator[Runtime]:
    """A runtime for one command, on a database that is ours. Raises WrongDatabase and what Postgres raises."""
    runtime = open_runtime("cli")
    try:
        patiently(
            runtime,
            lambda session: database.check_stamp(
                session, environment=runtime.settings.environment, livemode=runtime.settings.livemode
            ),
        )
        yield runtime
    finally:
        runtime.close()
