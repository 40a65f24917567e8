"""Whether a process exports metrics: only where a port is set. That it cannot is an error in its log, and no reason to
end: a process that takes money must not stop because of a port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine

from jobs import logs
from jobs.config.settings import Settings
from jobs.metrics.sources import Process

if TYPE_CHECKING:
    from jobs.metrics.exporter import Exporter

log = structlog.get_logger()


@contextmanager
def exported(
    settings: Settings, process: Process, open_engine: Callable[[float], Engine] | None = None
) -> Iterator[None]:
    """While it is open, the lines of this process are counted and Prometheus is answered, where a port is set.

    `open_engine`: for the reader of the database. It is given the limit of a statement in seconds.
    """
    exporter = _exporter(settings.metrics_host, settings.metrics_port, process, open_engine)
    if exporter is None:
        yield
        return
    logs.hear_lines(exporter.count)
    exporter.start()
    try:
        yield
    finally:
        exporter.close()


def _exporter(
    host: str, port: int | None, process: Process, open_engine: Callable[[float], Engine] | None
) -> Exporter | None:
    if port is None:
        return None
    with suppress(ImportError):
        from jobs.metrics.exporter import Exporter  # noqa: PLC0415 - nothing of it is loaded where metrics are off

        return Exporter(process, host, port, open_engine)
    log.error("metrics.unavailable", host=host, port=port, why="the extra `metrics` is not installed")
    return None
