"""When a schedule ticks: each time once, also where a clock is set forward or back, and what is missed is treated as it
says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.schedules import SCHEDULES, AfterDowntime, Schedule
from jobs.road import ticks
from jobs.road.ticks import LATE, Tick, backwards, come, following

BERLIN, SAMOA, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"), ZoneInfo("Australia/Lord_Howe")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def schedule(when: str, zone: tzinfo = UTC, after: AfterDowntime = AfterDowntime.SKIP) -> Schedule:
    return Schedule("a_schedule", when, after, "tests", "to be tested", zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda moment: moment > start, backwards(schedule, end)))[::-1]


# Clocks on the wall.


@pytest.mark.parametrize(
    ("when", "zone", "start", "expected"),
    [
        # Summer time begins on 29 March at 01:00 UTC: 02:00 to 03:00 do not exist.
        ("30 2 * * *", BERLIN, "2026-03-28", ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
        ("0 3 * * *", BERLIN, "2026-03-28", ["2026-03-28T02:00", "2026-03-29T01:00", "2026-03-30T01:00"]),
        ("0,30 2,3 29 3 *", BERLIN, "2026-03-28", ["2026-03-29T01:00", "2026-03-29T01:30"]),
        # It ends on 25 October at 01:00 UTC: 02:00 to 03:00 come twice.
        ("30 2 * * *", BERLIN, "2026-10-24", ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
        ("0 * 25 10 *", BERLIN, "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T02:00", "2026-10-25T03:00"]),
        # What must run every hour is meant in UTC.
        ("0 * 25 10 *", UTC, "2026-10-24T23:30", ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"]),
        # A day that does not exist, and half an hour that does not.
        ("0 12 * * *", SAMOA, "2011-12-29", ["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-02", ["2026-10-02T15:45", "2026-10-03T15:30", "2026-10-04T15:15"]),
    ],
)
def test_a_time_that_is_skipped_ticks_when_the_clock_goes_on_and_one_that_comes_twice_the_first_time(
    when: str, zone: tzinfo, start: str, expected: Sequence[str]
) -> None:
    wanted = [at(each) for each in expected]
    found = between(schedule(when, zone), at(start), wanted[-1])
    assert found == wanted
    assert [following(schedule(when, zone), each) for each in (at(start), *wanted[:-1])] == wanted


CRONS = ("*/7 * * * *", "0 * * * *", "30 2 * * *", "0,59 0,1,2,3,23 * * *", "15 6 1 * *", "0 0 29 2 *", "5 4 * * 0")


@given(
    st.sampled_from(CRONS),
    st.sampled_from([UTC, BERLIN, LORD_HOWE]),
    st.integers(0, 3 * 365 * 24 * 3600).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s)),
)
@settings(max_examples=60, deadline=None)
def test_forwards_and_backwards_give_the_same_ticks(when: str, zone: tzinfo, now: datetime) -> None:
    one = schedule(when, zone)
    earlier = list(islice(backwards(one, now), 8))
    assert earlier == sorted(set(earlier), reverse=True)
    assert earlier[0] <= now < following(one, now)
    assert [following(one, each) for each in earlier[1:]] == earlier[:-1]
    assert next(backwards(one, earlier[0])) == earlier[0]


@pytest.mark.parametrize("one", SCHEDULES, ids=lambda each: each.name)
def test_every_schedule_ticks(one: Schedule) -> None:
    now = at("2026-11-29T14:30")
    assert next(backwards(one, now)) <= now < following(one, now)
    assert 0 < ticks.seconds_to_next(one, now) <= ticks.CHECK_EVERY_S


# What was missed.

NOON = at("2026-11-29T12:00")


def times(made: Sequence[Tick]) -> list[tuple[int, int]]:
    """The hour of each, and how many before it are missed."""
    return [(each.at.hour, each.missed) for each in made]


@pytest.mark.parametrize(
    ("newest", "now", "skip", "once", "every"),
    [
        ("11:00", "12:00", [(12, 0)], [(12, 0)], [(12, 0)]),
        ("11:00", "11:59", [], [], []),
        ("12:00", "12:00", [], [], []),
        # Two are missed, and relays are back in time for the third, or too late for it.
        ("09:00", "12:01", [(12, 2)], [(12, 2)], [(10, 0), (11, 0), (12, 0)]),
        ("09:00", "12:30", [], [(12, 2)], [(10, 0), (11, 0), (12, 0)]),
        # It never ran.
        (None, "12:04", [(12, 0)], [(12, 0)], [(12, 0)]),
        (None, "12:06", [], [], []),
    ],
)
def test_missed_ticks_are_skipped_made_up_for_once_or_all_made(
    newest: str | None, now: str, skip: object, once: object, every: object
) -> None:
    for after, expected in zip(AfterDowntime, (skip, once, every), strict=True):
        last = at(f"2026-11-29T{newest}") if newest else None
        assert times(come(schedule("0 * * * *", after=after), last, at(f"2026-11-29T{now}"))) == expected, after


def test_after_a_year_without_relays_a_few_are_made_and_the_rest_are_counted() -> None:
    long_ago = NOON - 365 * DAY
    (one,) = come(schedule("0 * * * *", after=AfterDowntime.ONCE), long_ago, NOON)
    assert one == Tick(NOON, missed=ticks.COUNTED_MOST - 1)
    every = come(schedule("0 * * * *", after=AfterDowntime.EVERY), long_ago, NOON)
    assert [each.at for each in every] == [NOON - n * HOUR for n in reversed(range(ticks.MADE_MOST))]
    assert [each.missed for each in every if each.missed] == [ticks.COUNTED_MOST - ticks.MADE_MOST]


def test_a_restarted_relay_is_in_time() -> None:
    late = come(schedule("0 * * * *"), NOON - HOUR, NOON + LATE)
    assert times(late) == [(12, 0)]
