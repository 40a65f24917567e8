"""Scratch schemas: whether one is left of an investigation that should be over."""

from archive.errors import ArchiveError
from archive.scratch import schemas
from jobs.checkup.findings import NAMED, Finding, Level, some
from jobs.config.secrets import SecretError
from jobs.config.sources import SettingsError
from jobs.process import scratch
from jobs.process.runtime import Runtime


def investigations(runtime: Runtime) -> Finding:
    """Asked only where BILLING_SCRATCH_URL is set."""
    try:
        with scratch.connected(runtime.settings) as connection:
            found = schemas.listed(connection)
    except (ArchiveError, SettingsError, SecretError) as error:
        return Finding("scratch", Level.WARN, "cannot be looked at", str(error))
    if old := [each.name for each in found if each.old]:
        message = f"older than {schemas.OLD.days} days: {some(old[:NAMED], len(old))}"
        return Finding("scratch", Level.WARN, message, f"billing archive restore --drop {old[0]}, if its case is over")
    return Finding("scratch", Level.OK, f"{len(found)} scratch schemas, none of them old")
