"""What `billing doctor` checks: every part of the service, with its state and how to correct it."""

from collections.abc import Iterator

from jobs.checkup import archive, documents, growth, postgres, scratch, servers
from jobs.checkup.findings import Finding, Level
from jobs.process.service import ServiceProcess

__all__ = ["Finding", "Level", "examine"]


def examine(runtime: ServiceProcess) -> Iterator[Finding]:
    """Every part in turn; a part that cannot be reached is a finding, never an exception."""
    yield servers.python()
    yield Finding("settings", Level.OK, f"environment {runtime.settings.environment}, timing {runtime.settings.timing}")
    key = servers.stripe_key(runtime)
    yield key
    yield from postgres.postgres(runtime)
    bells = servers.redis(runtime)
    yield bells
    if bells.level is not Level.FAIL:
        yield growth.redis(runtime)
    if key.level is Level.OK:
        yield servers.stripe(runtime)
    yield from archive.archive(runtime)
    yield documents.documents(runtime)
    yield from growth.facts(runtime)
    if runtime.settings.scratch_url.is_set:
        yield scratch.investigations(runtime)
