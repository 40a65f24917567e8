"""The index of search, which is always a little behind.

A change is known `lag_s` seconds after it was made, on the stand-in's clock. The index never goes back: if the lag
grows, as in an outage, the index does not move until the lag is over. It stores only what it does not know yet.
Source: docs.stripe.com/search, data freshness ("searchable in under 1 minute", later than that during an outage).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

# Long enough that code that searches for what it has just made fails in its tests, too.
LAG_S = 10.0
LAG_MAX_S = 365 * 86_400


class Change(NamedTuple):
    """`before` is the version that the index still knows; None if it does not know the object yet."""

    at: float
    row_id: str
    before: Any


class Index:
    """One for all accounts and modes: ids are unique."""

    def __init__(self, time: Callable[[], float], lag_s: float) -> None:
        self._time = time
        self._lag_s = lag_s
        self._unknown: deque[Change] = deque()
        # A job of the agenda runs with its own time, and its changes have that age.
        self.job_at: float | None = None

    @property
    def lag_s(self) -> float:
        return self._lag_s

    @lag_s.setter
    def lag_s(self, lag_s: float) -> None:
        self._catch_up(self._time())
        self._lag_s = lag_s

    def changed(self, row_id: str, before: Any) -> None:
        """Note that a new version of this object has replaced `before`."""
        at = self._time() if self.job_at is None else self.job_at
        self._catch_up(at)
        self._unknown.append(Change(at, row_id, before))

    def behind(self) -> dict[str, Any]:
        """The version that the index knows, for each object where it is behind. Of all others it knows the latest."""
        self._catch_up(self._time())
        known: dict[str, Any] = {}
        for change in self._unknown:
            known.setdefault(change.row_id, change.before)
        return known

    def _catch_up(self, now: float) -> None:
        while self._unknown and self._unknown[0].at + self._lag_s <= now:
            self._unknown.popleft()
