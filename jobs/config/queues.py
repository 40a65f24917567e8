"""The queues. Each has workers of its own, so that one noisy workload cannot starve another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    crew: int
    """How many calls one worker has in flight, unless its setting says otherwise."""


QUEUES = (Queue("captures", crew=32), Queue("invoices", crew=8))
NAMES = tuple(queue.name for queue in QUEUES)
