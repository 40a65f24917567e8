"""Compares the newest hourly snapshot of the queues with the same hour of earlier weeks, and names what is unusual.

Each weekday and hour has its own normal: Monday at nine is compared with Mondays at nine. What is usual is the median
of those hours, and the spread their median distance from it, so that one bad week changes neither much.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import database, ids
from billing.facts import PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.operations import by_id
from billing.shapes import whole
from billing.tables.facts import Fact

SCHEDULE = "snapshot_queues"
"""The schedule whose runs are the snapshots. A run that is done is a fact, with what its function found in `result`."""
WEEKS = 8
"""So many earlier weeks are compared."""
LEAST_WEEKS = 3
"""From fewer, nothing is called unusual."""
SPREADS = 4.0
"""So many spreads above the usual are unusual. Many, because a spread that comes of few weeks is a rough guess."""
NORMAL = 1.4826
"""Times the median distance: the standard deviation, for values that vary by chance."""
SHARE = 0.25
"""Less than this share above the usual is never unusual: what has hardly varied so far may vary a little."""
TOO_OLD = timedelta(hours=2)
_NAME = re.compile(r"[A-Za-z0-9_]{1,60}", re.ASCII)
"""Of a queue, a state, a kind of operation or a currency. A row with any other text is not ours."""
_HALF = timedelta(minutes=30)
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True)
class Number:
    """One kind of number in a snapshot: a field of the rows under a name.

    `says`: what it is, with the other fields of its row. `least`: a smaller difference means nothing. `next`: the
    command that shows more.
    """

    of: str
    field: str
    says: str
    least: int
    next: str


NUMBERS = (
    Number("work", "pieces", "{queue}: pieces of {state} work", 10, "billing retries"),
    Number("work", "oldest_s", "{queue}: seconds since the oldest {state} work came to wait", 60, "billing retries"),
    Number("in_doubt", "operations", "{operation}s in doubt, {currency}", 3, "billing quarantine list --undecided"),
    Number("in_doubt", "minor", "{operation}s in doubt, {currency}: minor units", 10_000, "billing doctor"),
    Number("in_doubt", "oldest_s", "{operation}s in doubt, {currency}: seconds, the longest", 600, "billing doctor"),
    Number("undecided", "calls", "{queue}: undecided calls", 1, "billing quarantine list --undecided"),
    Number("expiring", "captures", "{currency}: captures that expire within a day", 10, "billing doctor"),
    Number("expiring", "minor", "{currency}: minor units that expire within a day", 100_000, "billing doctor"),
)
"""Each grows when something is wrong. Of what the snapshot holds besides, nothing is compared."""


Kind = tuple[Number, str]
"""A number and what it says of one row: `captures: pieces of ready work`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: datetime
    numbers: Mapping[Kind, int]


@dataclass(frozen=True, slots=True)
class Usual:
    """What earlier weeks had at this hour. `weeks`: how many of them are known."""

    weeks: int
    median: float
    spread: float

    def limit(self, least: int) -> float | None:
        """What is above it is unusual. None: too few weeks are known to say so."""
        if self.weeks < LEAST_WEEKS:
            return None
        return self.median + max(SPREADS * self.spread, SHARE * self.median, least)


@dataclass(frozen=True, slots=True)
class Compared:
    """One number of the newest snapshot."""

    says: str
    now: int
    usual: Usual
    unusual: bool
    next: str

    @property
    def warning(self) -> str:
        usual = self.usual
        return (
            f"{self.says}: {self.now:,}; at this hour usually {usual.median:,.0f}, give or take {usual.spread:,.0f} "
            f"({usual.weeks} weeks)"
        )


@dataclass(frozen=True, slots=True)
class Trend:
    """`at`: of the newest snapshot; None if there is none. `too_old`: no snapshot came for two hours."""

    at: datetime | None
    too_old: bool
    compared: Sequence[Compared]

    @property
    def unusual(self) -> Sequence[Compared]:
        return [each for each in self.compared if each.unusual]


def snapshots(session: Session) -> list[Snapshot]:
    """Those of the weeks that are compared, the oldest first."""
    since = database.now(session) - (WEEKS + 1) * _WEEK
    # The index of facts is by type and id.
    mine = (Fact.entity_type == "run", Fact.entity_id >= ids.first("run", since), Fact.topic == "run.done")
    found: dict[datetime, Snapshot] = {}
    for (written,) in session.execute(select(PAYLOAD_TEXT).where(*mine).order_by(Fact.entity_id)):
        if (one := _snapshot(written)) is not None:
            found[one.at] = one
    return [found[at] for at in sorted(found)]


def _snapshot(written: str | None) -> Snapshot | None:
    """None for the run of another schedule, and for what no snapshot of ours looks like."""
    try:
        payload = read_payload(written)
        if payload.get("schedule") != SCHEDULE:
            return None
        at = datetime.fromisoformat(payload["at"])
        return Snapshot(at.astimezone(UTC), dict(_numbers(payload["result"]))) if at.tzinfo else None
    except (UnreadablePayload, KeyError, TypeError, ValueError, AttributeError):
        # An application's login writes facts, so a fact may hold anything.
        return None


def _numbers(result: Mapping[str, Any]) -> Iterator[tuple[Kind, int]]:
    for number in NUMBERS:
        for row in result.get(number.of, ()):
            names = {name: each for name, each in row.items() if isinstance(each, str)}
            # A row names an operation by the prefix of its ids.
            if (operation := by_id(names.get("operation", ""))) is not None:
                names["operation"] = operation.kind
            if whole(value := row.get(number.field)) and value >= 0 and all(map(_NAME.fullmatch, names.values())):
                yield (number, number.says.format_map(names)), value


def compare(known: Sequence[Snapshot], now: datetime) -> Trend:
    """The newest of these snapshots with the others."""
    if not known:
        return Trend(None, too_old=True, compared=())
    newest = known[-1]
    earlier = same_hours(known, newest.at)
    # What is usually there and is missing now is 0.
    compared = [_compare(kind, newest.numbers.get(kind, 0), usual(kind, earlier)) for kind in kinds((newest, *earlier))]
    return Trend(newest.at, now - newest.at > TOO_OLD, compared)


def _compare(kind: Kind, value: int, usually: Usual) -> Compared:
    number, says = kind
    limit = usually.limit(number.least)
    return Compared(says, value, usually, limit is not None and value > limit, number.next)


def kinds(snapshots: Iterable[Snapshot]) -> list[Kind]:
    """Every kind of number in them, in the order of the table."""
    every = {kind for snapshot in snapshots for kind in snapshot.numbers}
    return sorted(every, key=lambda kind: (NUMBERS.index(kind[0]), kind[1]))


def usual(kind: Kind, earlier: Iterable[Snapshot]) -> Usual:
    """Of this number in these snapshots, each of which has 0 where it does not name it."""
    values = [snapshot.numbers.get(kind, 0) for snapshot in earlier]
    if not values:
        return Usual(0, 0.0, 0.0)
    middle = median(values)
    return Usual(len(values), middle, NORMAL * median(abs(value - middle) for value in values))


def same_hours(known: Sequence[Snapshot], at: datetime) -> list[Snapshot]:
    """One snapshot of each earlier week, the nearest within half an hour of this one's time."""
    found: list[Snapshot] = []
    for week in range(1, WEEKS + 1):
        wanted = at - week * _WEEK
        near = [each for each in known if abs(each.at - wanted) <= _HALF]
        if near:
            found.append(min(near, key=lambda each: abs(each.at - wanted)))
    return found
