"""What commands do with facts that leave Postgres: remove them by hand, and read them from the archive afterwards.

Not in `runtime`, so that only these processes load what S3 and Parquet need.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from archive.errors import ArchiveError
from archive.purging import lookup
from archive.purging.purger import Purger
from billing.audit import SERVICE
from billing.explain import Explanation, with_archived
from jobs.config.secrets import SecretError
from jobs.config.sources import SettingsError
from jobs.process import archiving, buckets
from jobs.process.patience import patiently
from jobs.process.runtime import Runtime


@contextmanager
def by_hand(runtime: Runtime, actor: str = SERVICE, *, only_count: bool = False) -> Iterator[Purger | None]:
    """None if BILLING_KEEP_FACTS_DAYS or BILLING_ARCHIVE_BUCKET is not set.

    Raises WrongBucket, SettingsError, SecretError, StoreAway, StoreRefused.
    """
    if runtime.settings.keep_facts_days is None or runtime.settings.archive_bucket is None:
        yield None
        return
    with buckets.opened(runtime.settings) as store:
        store.check(runtime.settings.environment)
        yield archiving.purger(runtime, store, by=actor, only_count=only_count)


class Told(NamedTuple):
    """`missing`: in one line, why facts that left Postgres are not in the story; None if all are there."""

    story: Explanation
    missing: str | None


def from_the_archive(runtime: Runtime, story: Explanation) -> Told:
    """The story with the facts that left Postgres, as the archive has them. Raises what Postgres raises."""
    if not story.purged:
        return Told(story, None)
    kind = story.kind
    # What nobody requested has its first fact in Postgres: only attempts of it are purged.
    since = story.request.get("requested_at") or min([story.status.since, *(fact.at for fact in story.facts)])
    try:
        with buckets.opened(runtime.settings) as store:
            store.check(runtime.settings.environment)
            rows = lookup.facts_of(partial(patiently, runtime), store, kind, story.status.id, since, story.purged)
    except (ArchiveError, SettingsError, SecretError) as error:
        return Told(story, str(error))
    whole = with_archived(story, rows)
    return Told(whole, f"the archive has no more than {len(rows)} of them" if whole.purged else None)
