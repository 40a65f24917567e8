"""How a pass of reconciliation reads Stripe: with this process's own key, only reading, at the pace of all workers. And
the archive, where this process knows its bucket."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from billing.database import Transact
from jobs.config.settings import Settings
from jobs.limits.pace import Pace
from jobs.limits.shared import TIMEOUT_S, SharedBuckets
from jobs.process.service import ServiceProcess
from jobs.reconciliation.paced import LEAVES, Paced
from jobs.reconciliation.passes import SETTLE, SETTLE_SHORT, Reconciliation
from jobs.rq import bells

ALONE = 0.25
"""The share of the rate that it keeps to where Redis is away or not set."""


@contextmanager
def opened(
    settings: Settings, transact: Transact, tell: Callable[[str], object] = lambda _: None
) -> Iterator[Reconciliation]:
    """A reconciliation by these settings. BILLING_STRIPE_KEY may be a restricted key that can only read.

    `transact` runs its short transactions, and `tell` gets lines of progress. Raises SecretError where there is no key
    or it is of the other mode, and OtherAccount where it belongs to another account than this database.
    """
    process = ServiceProcess(settings, "reconciliation")
    with ExitStack() as until_the_end:
        until_the_end.callback(process.close)
        process.check_provider()
        shared = None
        if settings.redis_url.is_set:
            redis = until_the_end.enter_context(bells.open_redis(process.redis_url, TIMEOUT_S))
            shared = SharedBuckets(redis, settings.environment)
        pace = Pace(process.terms, shared=shared, share=ALONE, leaves=LEAVES)
        archive = None
        if settings.archive_bucket is not None:
            from jobs.process import reading_archive  # noqa: PLC0415 - lazy: what S3 and Parquet need is large

            archive = until_the_end.enter_context(reading_archive.opened(settings))
        settle = SETTLE_SHORT if settings.timing == "short" else SETTLE
        yield Reconciliation(Paced(process.gateway(1), pace), transact, settle, tell, archive)
