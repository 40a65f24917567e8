"""What grows: the memory of Redis, the work of operations that ended long ago, and facts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from archive.errors import BadRetention
from archive.purging.purger import CLASSES, LOCKED_FOR
from jobs.checkup.findings import Finding, Level, first_line
from jobs.growth import redis_memory
from jobs.growth.clean_up import clean_up
from jobs.process import archiving
from jobs.process.runtime import Runtime
from jobs.process.service import ServiceProcess

REMOVABLE_WARN = 10_000
"""Operations. Where it is run every day, a run removes what ended on one day."""
LOOK_S = 1.0
"""So long the doctor counts them."""


def redis(runtime: ServiceProcess) -> Finding:
    """How full Redis is. At its limit it must refuse bells, which is in the log, and not throw keys away."""
    part = "redis memory"
    try:
        memory = redis_memory.memory(runtime.redis)
    except RedisError as error:
        return Finding(part, Level.WARN, f"not known: {first_line(error)}", "billing growth shows it")
    used = f"{memory.used_bytes / 1e6:.1f} MB used"
    if memory.share is None:
        return Finding(part, Level.WARN, f"{used}, without a limit", "set maxmemory there; 64mb is plenty for bells")
    message = f"{used} of {memory.limit_bytes / 1e6:.0f} MB, {memory.policy}"
    if memory.share > redis_memory.LIMIT_WARN:
        return Finding(
            part, Level.WARN, message, "billing growth shows our keys; raise maxmemory, or see who shares it"
        )
    if memory.policy != "noeviction":
        return Finding(part, Level.WARN, message, "set maxmemory-policy noeviction there: a lost bell is rung late")
    return Finding(part, Level.OK, message)


def postgres(runtime: Runtime) -> Finding:
    """How much could be removed: it says whether housekeeping is run."""
    part, days = "housekeeping", runtime.settings.keep_days
    try:
        removable = clean_up(runtime.engine, at_least_days=days, only_count=True, within_s=LOOK_S)
    except SQLAlchemyError as error:
        return Finding(part, Level.FAIL, first_line(error), "see the server's log")
    more = "" if removable.complete else "at least "
    message = f"the work of {more}{removable.operations} operations could be removed"
    if removable.operations >= REMOVABLE_WARN:
        return Finding(part, Level.WARN, message, "billing housekeeping run")
    return Finding(part, Level.OK, message if removable.operations else "nothing could be removed")


def facts(runtime: Runtime) -> Iterator[Finding]:
    """Whether facts can leave Postgres before the lock of their copy ends; nothing where they stay."""
    days = runtime.settings.keep_facts_days
    if days is None:
        return
    fix = "lock evidence for longer (BILLING_ARCHIVE_RETENTION), or purge earlier"
    today = datetime.now(UTC).date()
    try:
        policy = archiving.policy(runtime.settings)
    except BadRetention:
        return  # reported by another check
    purged_at = datetime.now(UTC) + timedelta(days=days)
    short = [name for name in CLASSES if policy.lock(name, today, today).until < purged_at + LOCKED_FOR]
    if short:
        message = f"facts stay longer than {days} days, because their copies are locked no longer: {', '.join(short)}"
        yield Finding("purge", Level.WARN, message, fix)
    else:
        yield Finding("purge", Level.OK, f"facts leave Postgres {days} days after their operation ended")
