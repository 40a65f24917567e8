"""The archive: its bucket with lock and rules, retention, facts that could not be archived, and lag."""

from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from archive.errors import ArchiveError, BadRetention
from archive.keeping import bucket_changes
from archive.policy.retention import Policy
from archive.s3 import abilities
from archive.writing import batches, publishing, set_aside
from archive.writing.publishing import Published
from archive.writing.set_aside import SetAside
from billing import database
from billing.errors import WrongDatabase
from jobs.checkup.findings import NAMED, Finding, Level, first_line
from jobs.config.secrets import SecretError
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.process import archiving, buckets
from jobs.process.runtime import Runtime

LAG_WARN_S = 60.0
"""Added to BILLING_ARCHIVE_WAIT_S, for which facts are gathered on purpose."""


def archive(runtime: Runtime) -> Iterator[Finding]:
    """Bucket, lock, retention and lag; one line where there is no bucket."""
    settings = runtime.settings
    if settings.archive_bucket is None:
        yield Finding("archive", Level.OK, "no bucket is set (BILLING_ARCHIVE_BUCKET): facts are in Postgres only")
        return
    usable = False
    try:
        with buckets.opened(settings) as store:
            store.check(settings.environment)
            usable = True
            message = f"{store.bucket}, for {settings.environment}; keys from {store.credentials()}"
            yield Finding("bucket", Level.OK, message)
            lacks = abilities.all_of_them(store)
        for lack in lacks:
            level = Level.FAIL if lack.ability.needed else Level.WARN
            yield Finding(f"bucket's {lack.ability.name}", level, lack.found, lack.ability.fix)
        if not lacks:
            message = "a locked object could not be deleted, nor its lock shortened, nor a taken key overwritten"
            yield Finding("bucket's lock", Level.OK, message)
    except (ArchiveError, SecretError, SettingsError) as error:
        yield Finding("bucket", Level.FAIL, "cannot be used", str(error))
    try:
        policy = archiving.policy(settings)
        message = ", ".join(f"{name} {rule.keep} {rule.mode.lower()}" for name, rule in policy.rules.items())
        yield Finding("retention", Level.OK, message)
        if usable:
            yield _rules(settings, policy)
    except BadRetention as error:
        yield Finding("retention", Level.FAIL, "cannot be used", str(error))
    try:
        with database.transaction(runtime.engine) as session:
            lag = batches.lag(session)
        with database.transaction(runtime.engine) as session:
            aside = set_aside.named(session)
        with database.transaction(runtime.engine) as session:
            classes = batches.standing(session)
        with database.transaction(runtime.engine) as session:
            published = publishing.standing(session)
    except (SettingsError, SecretError, WrongDatabase):
        return  # reported by another check
    except SQLAlchemyError as error:
        yield Finding("archive", Level.FAIL, first_line(error), "see the server's log")
        return
    yield _facts_not_archived(aside)
    yield _signatures(classes)
    yield _heads(published)
    if lag.waiting and lag.oldest_age_s > settings.archive_wait_s + LAG_WARN_S:
        message = f"{lag.waiting} facts wait, the oldest for {lag.oldest_age_s:.0f} s"
        yield Finding("archive", Level.WARN, message, "start an archiver (`billing archive run`), or read its log")
    else:
        yield Finding("archive", Level.OK, f"{lag.waiting} facts wait" if lag.waiting else "everything is archived")


def _heads(published: list[Published]) -> Finding:
    """Whether the heads of each day are where the archive cannot write."""
    outside = [each for each in published if each.place != "postgres"]
    if not outside:
        message = "published nowhere but in Postgres: set BILLING_HEADS_BUCKET or BILLING_HEADS_DIRECTORY for archivers"
        return Finding("heads", Level.OK, message)
    if late := [each for each in outside if each.behind]:
        message = "; ".join(f"{each.place}: {each.behind} missing ({each.problem or 'not tried yet'})" for each in late)
        return Finding("heads", Level.WARN, message, "billing archive status; the archiver tries again every minute")
    return Finding("heads", Level.OK, ", ".join(f"{each.place} has those of {each.newest}" for each in outside))


def _signatures(classes: list[batches.Standing]) -> Finding:
    """Whether the newest manifests are signed. Not to sign is allowed."""
    unsigned = [each.retention_class for each in classes if each.head and not each.key_id]
    if unsigned:
        message = f"manifests are not signed ({', '.join(unsigned)}): `billing archive key new` makes a key"
    elif keys := sorted({each.key_id for each in classes if each.key_id}):
        message = f"manifests are signed by key {', '.join(keys)}"
    else:
        message = "there are no manifests yet"
    return Finding("signatures", Level.OK, message)


def _rules(settings: Settings, policy: Policy) -> Finding:
    """Whether the bucket has what the retention file asks for."""
    try:
        with buckets.opened(settings) as store:
            differing = bucket_changes.differences(store, policy)
    except ArchiveError as error:
        return Finding("bucket's rules", Level.WARN, "cannot be read", str(error))
    changeable = [each for each in differing if not each.refused]
    if not changeable:
        besides = f"; this server does not {differing[0].refused}" if differing else ""
        return Finding("bucket's rules", Level.OK, f"as the retention file asks{besides}")
    parts = ", ".join(each.part for each in changeable[:NAMED])
    more = f" and {len(changeable) - NAMED} more" if len(changeable) > NAMED else ""
    message = f"not as the retention file asks: {parts}{more}"
    return Finding("bucket's rules", Level.WARN, message, "billing archive policy diff, then apply")


def _facts_not_archived(aside: SetAside) -> Finding:
    """Facts that the archiver could not archive and has set aside."""
    if not aside.count:
        return Finding("facts not archived", Level.OK, "none")
    facts = "fact is" if aside.count == 1 else "facts are"
    named = "; ".join(f"fact {fact.fact_id}: {set_aside.words(fact.why)}" for fact in aside.facts[:NAMED])
    more = f"; and {aside.count - NAMED} more" if aside.count > NAMED else ""
    message = f"{aside.count} {facts} set aside, because they cannot be archived: {named}{more}"
    return Finding(
        "facts not archived", Level.WARN, message, "billing archive status; correct the row, then restart an archiver"
    )
