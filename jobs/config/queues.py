"""The queues. Each has workers of its own, so that one noisy workload cannot starve another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    crew: int
    """How many calls one worker has in flight, unless its setting says otherwise."""
    start_within_s: float
    """The SLO of its lag: from the request to the first call for it."""
    starts_per_s: float
    """What a worker starts in a second while enough waits, as a first guess: until a relay has measured it."""
    leaves: float = 0.0
    """The share of an account's tokens that it leaves to the other queues, while they use them (`jobs.limits`)."""
    local: bool = False
    """Its workers run functions of ours, of which one reads Stripe, and none changes anything there."""
    mails: bool = False
    """Its workers send e-mails, and read at Stripe only who a customer is. They need settings of their own
    (docs/moves/email.md), so a stack of ours starts one only where these are set."""
    keeps: bool = False
    """Its workers fetch documents of invoices, and store them in the archive's bucket, each in a process of its own.
    Where no bucket is configured there is nothing to do for them (docs/moves/documents.md)."""

    @property
    def apart(self) -> bool:
        """Whether each of its calls is made in a process of its own (`jobs.process.apart`)."""
        return self.local or self.keeps


QUEUES = (
    Queue("captures", crew=32, start_within_s=10, starts_per_s=30),
    # Its work has no deadline, so a claim would take it before a capture whose authorization lapses in a week: with a
    # queue of its own, many refunds at once delay no capture.
    Queue("refunds", crew=8, start_within_s=60, starts_per_s=8, leaves=0.5),
    # An authorization lapses; an invoice can wait a second. It makes at least four calls, one after the other.
    Queue("invoices", crew=8, start_within_s=120, starts_per_s=2, leaves=0.5),
    # A mail server takes a second for each, and many limit how many connections one sender has.
    Queue("emails", crew=4, start_within_s=300, starts_per_s=2, mails=True),
    # A process, a download and two requests to S3 take about two seconds, and nobody waits for them.
    Queue("documents", crew=2, start_within_s=900, starts_per_s=1, keeps=True),
    Queue("maintenance", crew=1, start_within_s=3600, starts_per_s=1, local=True),
)
NAMES = tuple(queue.name for queue in QUEUES)
MAILING = frozenset(queue.name for queue in QUEUES if queue.mails)
KEEPING = frozenset(queue.name for queue in QUEUES if queue.keeps)
LOCAL = frozenset(queue.name for queue in QUEUES if queue.local)
