"""Whether a process exports traces: only where OpenTelemetry's own variable names a collector. That it cannot is an
error in its log, and no reason to end: captures matter more than their traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from jobs import logs
from jobs.config.settings import Settings

if TYPE_CHECKING:
    from jobs.traces.exporter import Exporter

log = structlog.get_logger()

Counts = Callable[[], Mapping[str, int]]
"""How many spans were `exported`, `failed` and `dropped`; nothing where traces are off."""


@contextmanager
def exported(settings: Settings, role: str) -> Iterator[Counts]:
    """While it is open, the lines of this process become spans, and go to the collector if one is named."""
    exporter = _exporter(settings, role)
    if exporter is None:
        yield dict
        return
    logs.hear_lines(exporter.hear)
    try:
        yield exporter.counts
    finally:
        exporter.close()


def _exporter(settings: Settings, role: str) -> Exporter | None:
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    try:
        from jobs.traces.exporter import Exporter  # noqa: PLC0415 - nothing of it is loaded where traces are off

        return Exporter(settings.service, settings.environment, role, settings.otel_exporter_otlp_endpoint)
    except ImportError:
        why = "the extra `traces` is not installed"
    except ValueError as error:
        # A variable of OpenTelemetry's with a value that its SDK refuses.
        why = f"a variable OTEL_... is wrong: {type(error).__name__}"
    log.error("traces.unavailable", why=why)
    return None
