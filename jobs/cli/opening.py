"""How a command opens what it needs: settings, logs, and a checked database."""

from collections.abc import Iterator
from contextlib import contextmanager

from billing import database
from jobs import logs
from jobs.config.loading import load
from jobs.process.patience import patiently
from jobs.process.runtime import Runtime


def open_runtime(name: str, *, logs_too: bool = False) -> Runtime:
    """The parts of this process by its settings; nothing is connected yet. Raises SettingsError."""
    settings = load()
    if logs_too:
        logs.configure(settings.log_level, settings.log_format, counted=settings.metrics_port is not None)
        logs.own_the_process()
    return Runtime(settings, name)


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
