"""Counts what the lines of one process tell: sums in memory, by labels, until Prometheus asks.

It is on the way of every capture, so it does no more than it must: labels are bounded when they are shown.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.metrics.instruments import UNCOUNTED, instruments
from jobs.metrics.labels import bounded
from jobs.metrics.sources import FromLog, Instrument, Kind, Line

Labels = tuple[str, ...]

SERIES_MOST = 1000
"""So many sets of labels are kept apart for each number as they were said; any more are bounded at once."""


@dataclass(slots=True)
class Observed:
    """One series of a histogram: how many values were no higher than each bound, the last being none; and their sum."""

    counts: list[int]
    sum: float = 0.0

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        self.counts[bisect_left(bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Counted:
    """One number."""

    instrument: Instrument
    sums: dict[tuple[object, ...], float] = field(default_factory=dict)
    observed: dict[tuple[object, ...], Observed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sums.update(dict.fromkeys(self.instrument.from_zero if self.instrument.labels else [()], 0.0))

    def add(self, value: float, said: tuple[object, ...]) -> None:
        """Raises TypeError and ValueError for what is no number that grows."""
        if value < 0:
            raise ValueError("a count never falls")
        sums = self.sums
        if said in sums:
            sums[said] += value
            return
        if self.instrument.kind is Kind.HISTOGRAM:
            self._observe(value, said)
            return
        key = self._key(said, len(sums))
        sums[key] = sums.get(key, 0.0) + value

    def _observe(self, value: float, said: tuple[object, ...]) -> None:
        bounds = self.instrument.buckets
        one = self.observed.get(said)
        if one is None:
            key = self._key(said, len(self.observed))
            one = self.observed.setdefault(key, Observed([0] * (len(bounds) + 1)))
        one.add(value, bounds)

    def _key(self, said: tuple[object, ...], known: int) -> tuple[object, ...]:
        return said if known < SERIES_MOST else self._bounded(said)

    def _bounded(self, said: tuple[object, ...]) -> Labels:
        return tuple(bounded(name, value) for name, value in zip(self.instrument.labels, said, strict=True))

    def shown_sums(self) -> Mapping[Labels, float]:
        shown: dict[Labels, float] = {}
        for said, value in self.sums.items():
            labels = self._bounded(said)
            shown[labels] = shown.get(labels, 0.0) + value
        return shown

    def shown_observed(self) -> Mapping[Labels, Observed]:
        shown: dict[Labels, Observed] = {}
        for said, one in self.observed.items():
            labels = self._bounded(said)
            all_ = shown.get(labels) or Observed([0] * len(one.counts))
            counts = [count + more for count, more in zip(all_.counts, one.counts, strict=True)]
            shown[labels] = Observed(counts, all_.sum + one.sum)
        return shown


class Counting:
    """Every number that a kind of process counts. For many threads."""

    def __init__(self, role: str) -> None:
        self._lock = threading.Lock()
        self._counted = {
            each.name: Counted(each)
            for each in instruments()
            if role in each.roles and isinstance(each.source, FromLog)
        }
        sources = [(one, one.instrument.source) for one in self._counted.values()]
        by_line = [
            (source.events, (source.adds, one.instrument.labels, one.add))
            for one, source in sources
            if isinstance(source, FromLog) and source.adds is not None
        ]
        self._of_all = tuple(counter for events, counter in by_line if not events)
        self._of_event = {
            event: (*self._of_all, *(counter for events, counter in by_line if event in events))
            for event in {event for events, _ in by_line for event in events}
        }

    def count(self, line: Line) -> None:
        """Raises nothing: the line is written, and what it tells is done, whatever becomes of its counting."""
        with self._lock:
            try:
                say = line.get
                for adds, labels, add in self._of_event.get(line["event"], self._of_all):
                    value = adds(line)
                    if value is not None:
                        add(value, tuple(map(say, labels)))
            except Exception:  # noqa: BLE001 - it is counted, and must not keep a settled capture from its end
                self._counted[UNCOUNTED.name].add(1, ())

    def add(self, instrument: Instrument, *labels: str) -> None:
        """One more of what no line tells."""
        with self._lock:
            self._counted[instrument.name].add(1, labels)

    def sums(self) -> Mapping[str, Mapping[Labels, float]]:
        """By name, of counters."""
        with self._lock:
            every = self._counted.items()
            return {name: one.shown_sums() for name, one in every if one.instrument.kind is Kind.COUNTER}

    def observed(self) -> Mapping[str, Mapping[Labels, Observed]]:
        """By name, of histograms."""
        with self._lock:
            every = self._counted.items()
            return {name: one.shown_observed() for name, one in every if one.instrument.kind is Kind.HISTOGRAM}
