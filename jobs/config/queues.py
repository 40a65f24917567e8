"""The queues. Each has workers of its own, so that one noisy workload cannot starve another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    crew: int
    """How many calls one worker has in flight, unless its setting says otherwise."""
    leaves: float = 0.0
    """The share of an account's tokens that it leaves to the other queues, while they use them (`jobs.limits`)."""
    local: bool = False
    """Its workers run functions of ours, and need neither Stripe nor its key."""


# An authorization lapses; an invoice can wait a second.
QUEUES = (
    Queue("captures", crew=32),
    Queue("invoices", crew=8, leaves=0.5),
    Queue("maintenance", crew=1, local=True),
)
NAMES = tuple(queue.name for queue in QUEUES)
LOCAL = frozenset(queue.name for queue in QUEUES if queue.local)
