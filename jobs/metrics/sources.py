"""What a number that a process exports is, and where it comes from.

    FromLog        what became true is counted by the line that tells it, after the commit
    FromDatabase   what the database knows is read by a relay (`jobs.metrics.reading`)
    FromProcess    what a process knows of itself is asked at each scrape

The labels of a number are read by their names, from the fields of the line or the columns of the row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Line = Mapping[str, Any]
"""The fields of one line of the log, `event` and `level` among them."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Process:
    """What a process knows of itself. Each is called at a scrape, by another thread than the one whose loop it is."""

    role: str
    """As its health check calls it: `worker-captures`."""
    turns: Callable[[], int]
    """How often its loop has turned."""
    quiet_s: Callable[[], float]
    """Since it last turned."""
    waits_for: Callable[[], str | None]
    """The server that it waits for before it starts."""
    connections: Callable[[], Mapping[str, int]]
    """Of its pool: how many are `in_use` and `idle`."""
    spans: Callable[[], Mapping[str, int]] = dict
    """What became of its spans, by outcome; nothing where traces are off."""
    redis_bytes: Callable[[], Mapping[str, float]] = dict
    """The memory of Redis that is `used`, and its `limit`; nothing where it does not say."""


@dataclass(frozen=True, slots=True)
class FromLog:
    """`events`: of which lines; of all, where there are none. `adds`: how much one of them adds, or what is observed;
    None: nothing. A number without `adds` is counted by the exporter itself."""

    events: tuple[str, ...] = ()
    adds: Callable[[Line], float | None] | None = None


@dataclass(frozen=True, slots=True)
class FromDatabase:
    statement: str
    """Its name in `reading.sql`."""
    column: str


@dataclass(frozen=True, slots=True)
class FromProcess:
    """Values of the one label, each with its number; without a label, one number under an empty text."""

    ask: Callable[[Process], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Instrument:
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    """The kinds of process that export it."""
    meaning: str
    source: FromLog | FromDatabase | FromProcess
    buckets: tuple[float, ...] = ()
    """Of a histogram, their upper bounds."""
    from_zero: tuple[tuple[str, ...], ...] = ()
    """Labels under which it is 0 before there is anything to count."""
