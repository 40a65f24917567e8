"""What happens at a set time, without a request: an authorization expires, an invoice is finalized by itself.

A job is a function of a `Call`, as that of a route is. Its call has the time of the job, and no request.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .books import Books

Job = Callable[[Any], None]  # of a Call, which imports the world and so this module


class Entry(NamedTuple):
    at: int
    n: int  # jobs of one second run in the order they were noted
    job: Job
    books: Books
    row_id: str


class Agenda:
    """Jobs by the second they are due at, on the stand-in's clock."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._noted = 0
        self._paused: set[Job] = set()
        self._put_off: list[Entry] = []

    def note(self, at: int, job: Job, books: Books, row_id: str) -> None:
        self._noted += 1
        heapq.heappush(self._entries, Entry(at, self._noted, job, books, row_id))

    def due(self, now: float) -> Iterator[Entry]:
        """The jobs that are due, each once, in the order of their times; also those noted meanwhile."""
        while self._entries and self._entries[0].at <= now:
            entry = heapq.heappop(self._entries)
            if entry.job in self._paused:
                self._put_off.append(entry)
            else:
                yield entry

    def next_at(self) -> int | None:
        return self._entries[0].at if self._entries else None

    def pause(self, job: Job) -> None:
        """Do not run these jobs when they are due, as if Stripe's own job were late."""
        self._paused.add(job)

    def resume(self, job: Job, now: int) -> None:
        """Run the jobs again.

        Those that came due meanwhile are due now, so that no object is older than one made before it.
        """
        self._paused.discard(job)
        for entry in self._put_off:
            heapq.heappush(self._entries, entry._replace(at=now))
        self._put_off.clear()

    def paused(self, job: Job) -> bool:
        return job in self._paused
