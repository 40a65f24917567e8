"""Periods by which captures are collected on invoices: months, weeks or days of an account's own time zone.

A period is half-open, from one instant to another, and begins with a local day: at the first instant whose local time
is that day's midnight or later. So a midnight that a clock skips is the moment at which the clock goes on; of one that
comes twice the first counts; and a day that a zone skips as a whole (Samoa, 30 December 2011) is no period.

The rules of a zone, and what an account has set, may change. A period that is in use stays as it is, and a new one
fills only what those around it leave: so whatever changes, no two overlap, and every instant has one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LENGTHS = ("month", "week", "day")
"""A week begins on Monday (ISO 8601)."""
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)
FIRST, LAST = date(2000, 1, 1), date(2100, 12, 31)
"""Days that are in a period: those of this century. The rules of zones are not known for longer."""


class BadCalendar(ValueError):
    """A length, a zone, or the name of a period that does not exist. The message says what may be written."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """How long the periods of an account are, and in which zone their days begin. Raises BadCalendar."""

    length: str = "month"
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.length not in LENGTHS:
            raise BadCalendar(f"the length of a period is one of {', '.join(LENGTHS)}")
        zone_named(self.zone)

    def __str__(self) -> str:
        return f"{self.length} {self.zone}"


@dataclass(frozen=True, slots=True)
class Calendars:
    """The calendar of each account, by its name in facts (`own` is that of our own key); `default` of all others."""

    default: Calendar = field(default_factory=Calendar)
    by_account: Mapping[str, Calendar] = field(default_factory=dict)

    def of(self, account: str) -> Calendar:
        return self.by_account.get(account, self.default)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until before `end`, both in UTC."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@lru_cache(maxsize=1000)
def zone_named(name: str) -> ZoneInfo:
    """A zone by its IANA name. Raises BadCalendar."""
    unknown = BadCalendar("a zone is an IANA name of this system's data, such as Europe/Berlin or UTC")
    # A name is a path in the system's data: it is looked at before it is used as one.
    if re.fullmatch(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,2}", name, re.ASCII) is None:
        raise unknown
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise unknown from None


def first_day(length: str, day: date) -> date:
    """The first day of the month, week or day that this day is in."""
    match length:
        case "month":
            return day.replace(day=1)
        case "week":
            return day - timedelta(days=day.weekday())
    return day


def next_first_day(length: str, day: date) -> date:
    """The first day of the one that comes after."""
    first = first_day(length, day)
    match length:
        case "month":
            return (first + timedelta(days=31)).replace(day=1)
        case "week":
            return first + timedelta(days=7)
    return first + _DAY


@lru_cache(maxsize=10_000)
def begins(zone: str, day: date) -> datetime:
    """The first instant, in UTC, whose local time is this day's midnight or later. Raises BadCalendar."""
    tz, midnight = zone_named(zone), datetime.combine(day, time())

    def is_reached(instant: datetime) -> bool:
        return instant.astimezone(tz).replace(tzinfo=None) >= midnight

    # `fold=0` reckons with the offset before a change. Where midnight exists, that is its first instant.
    late = midnight.replace(tzinfo=tz).astimezone(UTC)
    if late.astimezone(tz).replace(tzinfo=None) == midnight:
        return late
    # The clock skips it. `fold=1` reckons with the offset after the change, and comes to an instant before it.
    early = midnight.replace(tzinfo=tz, fold=1).astimezone(UTC)
    while late - early > _SECOND:
        middle = early + (late - early) // 2
        early, late = (early, middle) if is_reached(middle) else (middle, late)
    return late.replace(microsecond=0)


def period_of(calendar: Calendar, moment: datetime) -> Period:
    """The period of this calendar with this moment in it. Raises BadCalendar outside of this century."""
    local = moment.astimezone(zone_named(calendar.zone)).date()
    if not FIRST <= local <= LAST:
        raise BadCalendar(f"{local} is in no period: they begin with {FIRST} and end with {LAST}")
    # An hour that comes twice at midnight has the day before as its local date once more, and belongs to the new day.
    following = next_first_day(calendar.length, local)
    first = following if begins(calendar.zone, following) <= moment else first_day(calendar.length, local)
    start, after = begins(calendar.zone, first), next_first_day(calendar.length, first)
    while (end := begins(calendar.zone, after)) <= start:
        after = next_first_day(calendar.length, after)  # a day that the zone skips
    return Period(start, end)


def between(wanted: Period, moment: datetime, before: datetime | None, after: datetime | None) -> Period:
    """What is left of a period around this moment, where another ends at `before` and one begins at `after`: the
    nearest to the moment on each side, or None."""
    start = wanted.start if before is None else max(wanted.start, before)
    end = wanted.end if after is None else min(wanted.end, after)
    assert start <= moment < end, "no other period has this moment in it"
    return Period(start, end)


_WRITTEN: Mapping[str, tuple[str, Callable[[re.Match[str]], date]]] = {
    "month": (r"(\d{4})-(\d{2})", lambda found: date(int(found[1]), int(found[2]), 1)),
    "week": (r"(\d{4})-W(\d{2})", lambda found: date.fromisocalendar(int(found[1]), int(found[2]), 1)),
    "day": (r"\d{4}-\d{2}-\d{2}", lambda found: date.fromisoformat(found[0])),
}


def named(zone: str, text: str) -> Period:
    """The period that a person names: 2026-10, 2026-W44, 2026-10-31, or by its first and last day, as
    2026-10-05..2026-10-31. Raises BadCalendar."""
    first, dots, last = text.partition("..")
    period = _whole(zone, first) if not dots else Period(_whole(zone, first).start, _whole(zone, last).end)
    if period.start >= period.end:
        raise BadCalendar(f"{text} has no time in it in {zone}: it ends before it begins, or the zone skipped that day")
    return period


def _whole(zone: str, text: str) -> Period:
    """The month, week or day of this name."""
    for length, (shape, first) in _WRITTEN.items():
        if (found := re.fullmatch(shape, text, re.ASCII)) is not None:
            try:
                day = first(found)
            except ValueError:
                break
            if FIRST <= day <= LAST:
                return Period(begins(zone, day), begins(zone, next_first_day(length, day)))
    raise BadCalendar("a period is a month (2026-10), a week (2026-W44) or a day (2026-10-31), from 2000 to 2100")


def name_of(zone: str, period: Period) -> str:
    """As a person names it: the month, week or day that it is; else its first and last day."""
    tz = zone_named(zone)
    first = period.start.astimezone(tz).date()
    # The first local day that it has at its start may be only a minute of it: see `begins`.
    if begins(zone, first + _DAY) <= period.start:
        first += _DAY
    last = (period.end - _SECOND).astimezone(tz).date()
    for length, name in (("month", f"{first:%Y-%m}"), ("week", f"{first:%G-W%V}"), ("day", f"{first}")):
        whole = first_day(length, first)
        if begins(zone, whole) == period.start and begins(zone, next_first_day(length, first)) == period.end:
            return name
    return f"{first}..{last}"
