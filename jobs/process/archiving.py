"""Sets up what the archive's commands need: the bucket, a running archiver, and the copies for queries.

Not in `runtime`, so that only these processes load what S3 and Parquet need: some 100 MB, in half a second.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from archive.copies.cache import Cache
from archive.errors import BadKey, EvidenceDiffers, StoreAway, WrongBucket
from archive.format.manifests import Source
from archive.keeping import bucket_changes
from archive.policy import retention, retention_file
from archive.purging.purger import Purger, Trouble
from archive.s3 import abilities
from archive.s3.store import Store
from archive.signing.signatures import Signer
from archive.writing import ahead, batches
from archive.writing.batch_size import BatchSize
from archive.writing.publishing import Directory, OtherBucket, Place, Publisher
from archive.writing.writer import Writer
from billing import database, lineage
from billing.errors import StillRestored
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.process import buckets
from jobs.process.runtime import Runtime
from jobs.process.waiting import until_ready
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

T = TypeVar("T")

PAUSE_S = 0.5
DAILY_S = 60.0
"""How often an archiver looks whether a day has ended that needs a batch without facts, or its heads published."""
AGAIN_S = 2.0
"""The pause after trouble: S3 or Postgres is away, or evidence differs and needs an operator."""
COMPARE_EVERY_S = 30.0
"""How often an archiver looks whether the bucket is ahead of Postgres: one request for each class. It does so before
its first batch, and in every round while evidence differs."""
PATIENCE_S = {"production": 30.0, "short": 2.0}
"""A batch takes about a second. An archiver that has held one for so long is taken to be dead. If that is wrong, the
work is only done twice."""
PURGE_AGAIN_S = 6 * 3600.0
"""From the end of one walk over all old batches to the next. Every day some become old enough. A batch that differs is
logged again in each walk."""


def policy(settings: Settings) -> retention.Policy:
    """Raises BadRetention."""
    return retention_file.load(
        Path(settings.archive_retention) if settings.archive_retention else retention_file.SHIPPED
    )


def cache(settings: Settings, store: Store) -> Cache:
    """Raises ExposedCache."""
    directory = Path(settings.cache_directory) if settings.cache_directory else None
    return Cache(store, directory, most_mb=settings.cache_most_mb)


def signer(settings: Settings) -> Signer | None:
    """What signs manifests; None if no key is set. Raises SecretError, SettingsError, StoreAway and StoreRefused."""
    if settings.signing_kms_key is not None:
        from archive.signing.kms import KmsSigner  # noqa: PLC0415 - lazy: few installations use it

        return KmsSigner(settings.signing_kms_key, region=settings.s3_region)
    if not settings.signing_key.is_set:
        return None
    from archive.signing.ed25519 import Ed25519Signer  # noqa: PLC0415 - lazy: needs cryptography, and a key

    try:
        return Ed25519Signer.read(settings.signing_key.reveal())
    except BadKey as error:
        raise SettingsError(f"{settings.signing_key.setting}: {error}") from None


def restored(runtime: Runtime, writer: Writer, *, ask_bucket: bool = True) -> bool:
    """Whether the database was restored; then nothing is archived, because its next batches have numbers that the
    bucket may have already.

    `ask_bucket`: find that the bucket is ahead of the database. That is written down, and a relay stops what is sent.
    """
    transact = partial(_in_a_transaction, runtime)
    standing = transact(lineage.look)
    if standing.restored_at is not None:
        return True
    sign = standing.sign
    if sign is None and ask_bucket and ahead.of_postgres(writer.store, writer.source.installation, transact):
        sign = lineage.BEHIND_THE_ARCHIVE
    if sign is not None and transact(partial(lineage.note, sign=sign)):
        log.error("database.restored", why=sign)
    return sign is not None


def _in_a_transaction(runtime: Runtime, step: Callable[[Session], T]) -> T:
    with database.transaction(runtime.engine) as session:
        return step(session)


def source(runtime: Runtime) -> Source:
    """Of which environment and installation the facts are. Raises WrongDatabase."""
    settings = runtime.settings
    with database.transaction(runtime.engine) as session:
        ours = database.check_stamp(session, environment=settings.environment, livemode=settings.livemode)
    return Source(settings.environment, ours.identity)


@contextmanager
def archiver(runtime: Runtime, heartbeat: Callable[[], None] = lambda: None) -> Iterator[Writer]:
    """The writer of batches, after the check that database and bucket belong to this environment.

    Raises WrongDatabase, WrongBucket, BadRetention, SettingsError, SecretError, and what an unreachable server raises.
    """
    settings = runtime.settings
    rules = policy(settings)
    ours = source(runtime)
    with buckets.opened(settings) as store, buckets.second_opened(settings) as second:
        store.check(settings.environment)
        _check_abilities(store)
        with database.transaction(runtime.engine) as session:
            bucket_changes.check_not_shorter(rules, [], batches.newest(session))
        batch_size, patience_s = BatchSize(runtime.engine, heartbeat=heartbeat), PATIENCE_S[settings.timing]
        signs = signer(settings)
        places: list[Place] = [] if second is None else [OtherBucket(second, rules)]
        if settings.heads_directory is not None:
            places.append(Directory(Path(settings.heads_directory)))
        publisher = Publisher(runtime.engine, ours, signs, places)
        writer = Writer(batch_size, store, rules, ours, settings.archive_wait_s, patience_s, signs, publisher)
        writer.publish_key()
        yield writer


def _check_abilities(store: Store) -> None:
    """Raises WrongBucket if the bucket cannot hold evidence, as far as an archiver's login can try it."""
    lacks = abilities.when_writing(store)
    if needed := [lack for lack in lacks if lack.ability.needed]:
        told = "; ".join(f"{lack} -> {lack.ability.fix}" for lack in needed)
        raise WrongBucket(f"BILLING_ARCHIVE_BUCKET: {store.bucket} cannot hold evidence: {told}")
    for lack in lacks:
        log.warning("bucket.lacks", ability=lack.ability.name, found=lack.found)


def purger(runtime: Runtime, store: Store, **terms: Any) -> Purger | None:
    """What removes facts from Postgres that this bucket, which was checked, holds; `terms`: more fields of `Purger`.

    None if BILLING_KEEP_FACTS_DAYS is not set: then facts stay.
    """
    days = runtime.settings.keep_facts_days
    return None if days is None else Purger(runtime.engine, store, timedelta(days=days), **terms)


def run(
    runtime: Runtime, stop_requested: Callable[[], bool], complain: Callable[[Exception], str | None] = lambda _: None
) -> None:
    """Run an archiver until asked to stop; it waits for a server that is away. Any number may run.

    `complain` gives the one line that a command prints for an error, or None. Raises what `archiver` raises if waiting
    cannot help.
    """
    with ExitStack() as open_till_the_end, runtime.in_service("archiver") as heartbeat:
        writer = until_ready(
            lambda: open_till_the_end.enter_context(archiver(runtime, heartbeat)),
            runtime.forget,
            stop_requested,
            heartbeat,
            complain,
        )
        put_back, logged, compared_at = False, set[str](), -math.inf
        purging = None if writer is None else purger(runtime, writer.store, heartbeat=heartbeat)
        daily_at, purge_at = -math.inf, time.monotonic()
        while writer is not None and not stop_requested():
            pause_s = PAUSE_S
            try:
                ask_bucket = bool(logged) or time.monotonic() > compared_at + COMPARE_EVERY_S
                compared_at = time.monotonic() if ask_bucket else compared_at
                if restored(runtime, writer, ask_bucket=ask_bucket):
                    _pause(AGAIN_S, stop_requested, heartbeat)
                    continue
                put_back = put_back or _put_back(writer)
                done = writer.round()
                if time.monotonic() - daily_at >= DAILY_S:
                    done.troubles += writer.daily().troubles
                    daily_at = time.monotonic()
                if done.archived:
                    # There may be more: the next batch follows at once.
                    pause_s = 0.0
                elif done.troubles:
                    pause_s = AGAIN_S
                elif purging is not None and time.monotonic() >= purge_at:
                    # Nothing waits to be archived, so there is time for one batch.
                    step = purging.next()
                    pause_s = 0.0
                    if step is None:
                        purge_at = time.monotonic() + PURGE_AGAIN_S
                    else:
                        _log_new(step.troubles, set())
                logged = _log_new(done.troubles, logged)
            except (StoreAway, SQLAlchemyError) as error:
                _log_trouble(error)
                pause_s = AGAIN_S
            heartbeat()
            _pause(pause_s, stop_requested, heartbeat)


def run_once(runtime: Runtime) -> int:
    """Archive now everything that a relay has planned, and unfinished batches. Returns how many facts that were.

    After everything else was done it raises what stopped a class, most likely EvidenceDiffers. Raises StillRestored
    before anything was done in a restored database.
    """
    with archiver(runtime) as writer:
        if restored(runtime, writer):
            raise StillRestored
        eager = replace(writer, wait_s=0.0, patience_s=0.0)
        _put_back(eager)
        archived, stuck = 0, set[str]()
        while True:
            done = eager.round()
            archived += done.archived
            troubles = {str(error) for error in done.troubles}
            if not done.archived and troubles <= stuck:
                break
            stuck |= troubles
        for error in [*done.troubles, *eager.daily().troubles]:
            raise error
        return archived


def _put_back(writer: Writer) -> bool:
    if back := writer.put_back():
        log.info("facts.put_back", facts=back)
    return True


def _log_new(troubles: Sequence[Trouble], logged: set[str]) -> set[str]:
    """Log each trouble that was not logged before. Returns those that exist now."""
    for error in troubles:
        if str(error) in logged:
            continue
        if isinstance(error, EvidenceDiffers):
            log.error("evidence.differs", key=error.key, message=str(error))
        else:
            _log_trouble(error)
    return {str(error) for error in troubles}


def _log_trouble(error: StoreAway | SQLAlchemyError) -> None:
    """A server that is away has another event than one that takes too long or refuses."""
    if isinstance(error, StoreAway):
        # It names the request, and what to do. Postgres's own message may hold values of rows.
        log.warning("archive.away", error=type(error).__name__, sqlstate=None, message=str(error))
        return
    away = classify(error) is Failure.RECONNECT
    kind = type(getattr(error, "orig", None) or error).__name__
    log.warning("archive.away" if away else "archive.failed", error=kind, sqlstate=database.sqlstate(error))


def _pause(seconds: float, stop_requested: Callable[[], bool], heartbeat: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stop_requested():
        time.sleep(0.05)
        heartbeat()
