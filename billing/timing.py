"""Every duration of the money protocol in one value, with the inequalities that make it safe."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Every time that Stripe names lies between these two. Any other is a mistake, or was written without our checks."""


def may_be_real(moment: datetime) -> bool:
    """Whether Stripe can have named this time."""
    return EARLIEST <= moment < LATEST


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. Raises ValueError when an inequality that the protocol rests on does not hold."""

    lease_s: float
    """A dead worker's call is taken up by another after this; renewed while the call is within its budget."""
    not_after_s: float
    """A prepared call that has not started by then is never started: a paused process sends nothing."""
    call_budget_s: float
    """One provider call in all: connecting, sending and the whole answer. The longest that a contract may allow."""
    margin_s: float
    """Slack on top of lease + budget before an unreported send counts as over."""
    settle_s: float
    """How long the provider may still be working on a request whose answer we lost."""
    retry_first_s: float
    retry_max_s: float
    look_first_s: float
    look_max_s: float
    linger_s: float
    """How long a shift with an empty queue waits for more before it ends."""
    deadline_margin_s: float = 3600.0
    """From this long before `capture_before` a capture is urgent, and it is looked at once before it is sent."""
    past_deadline_s: float = 3600.0
    """This long after `capture_before`, a capture whose authorization is still unchanged counts as undecided."""
    grace_s: float = 3600.0
    """Work without a deadline ages as if it had one this far after its creation, so nothing starves."""
    horizon_s: float = 23 * 3600.0
    """A key this old is never sent again. Stripe may forget keys after 24 hours; one hour of margin.
    Source: docs.stripe.com/api/idempotent_requests."""
    probe_s: float = 5.0
    """The pause between two calls while the provider is silent; after its first answer all calls are made again."""
    transaction_timeout_s: float = 2.0
    reading_timeout_s: float = 10.0
    """The longest statement of an archiver or a command. They read much more at once, and no other process waits for
    them."""

    def __post_init__(self) -> None:
        promises = {
            "a call must start while its lease is alive": self.not_after_s < self.lease_s,
            "a transaction must end before a lease can": self.transaction_timeout_s < self.lease_s,
            "a call prepared at the horizon must end before the key is forgotten": self.horizon_s
            + self.lease_s
            + self.call_budget_s
            < 24 * 3600,
            "no pause is longer than an hour": max(self.retry_max_s, self.look_max_s) <= 3600,
            "durations are positive": all(getattr(self, each.name) > 0 for each in fields(self)),
            "a first pause is not longer than the longest": self.retry_first_s <= self.retry_max_s
            and self.look_first_s <= self.look_max_s,
        }
        for promise, kept in promises.items():
            if not kept:
                raise ValueError(f"timing: {promise}")

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_s)

    @property
    def abandoned(self) -> timedelta:
        """This long after its prepare, a send that was not reported can no longer start or be running."""
        return timedelta(seconds=self.lease_s + self.call_budget_s + self.margin_s)


PRODUCTION = Timing(
    lease_s=15,
    not_after_s=10,
    call_budget_s=30,
    margin_s=15,
    settle_s=60,
    retry_first_s=1,
    retry_max_s=300,
    look_first_s=60,
    look_max_s=3600,
    linger_s=1.0,
)

# For the demo and the tests, which go through crashes in seconds; every inequality above holds here, too.
SHORT = Timing(
    lease_s=3,
    not_after_s=1,
    call_budget_s=2,
    margin_s=1,
    settle_s=1,
    retry_first_s=0.2,
    retry_max_s=1,
    look_first_s=0.5,
    look_max_s=2,
    probe_s=0.5,
    linger_s=0.3,
    transaction_timeout_s=1,
)
