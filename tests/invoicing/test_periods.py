"""Periods of every zone in the system's data, for a century: no instant is in none, and none is in two."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from billing.periods import (
    LENGTHS,
    BadCalendar,
    Calendar,
    Period,
    begins,
    between,
    first_day,
    name_of,
    named,
    next_first_day,
    period_of,
    zone_named,
)

ZONES = sorted(available_timezones())
A_TICK = timedelta(microseconds=1)
calendars = st.builds(Calendar, st.sampled_from(LENGTHS), st.sampled_from(ZONES))
moments = st.builds(
    lambda days, us: datetime(2000, 2, 2, tzinfo=UTC) + timedelta(days=days, microseconds=us),
    st.integers(0, 36_825),
    st.integers(0, 86_399_999_999),
)


def changes_of(zone: str, year: int) -> list[datetime]:
    """The instants of this year, to the hour, before which the zone's clock is changed."""
    tz, hour = zone_named(zone), datetime(year, 1, 1, tzinfo=UTC)
    days = [hour + timedelta(days=number) for number in range(366)]
    changed = [
        day for day in days if (day + timedelta(days=1)).astimezone(tz).utcoffset() != day.astimezone(tz).utcoffset()
    ]
    hours = [day + timedelta(hours=number) for day in changed for number in range(24)]
    return [
        each
        for each in hours
        if (each + timedelta(hours=1)).astimezone(tz).utcoffset() != each.astimezone(tz).utcoffset()
    ]


@st.composite
def around_a_change(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a moment within three hours of a change of its clock; any moment where it has none that year."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(2001, 2099))
    changes = changes_of(zone, year) or [datetime(year, 7, 1, tzinfo=UTC)]
    return zone, draw(st.sampled_from(changes)) + timedelta(seconds=draw(st.integers(-10_800, 10_800)))


def check(calendar: Calendar, moment: datetime) -> None:
    period = period_of(calendar, moment)
    note(f"{calendar}: {moment} is in {period.start} to {period.end}")
    assert moment in period
    assert period.start < period.end
    assert period_of(calendar, period.start) == period
    assert period_of(calendar, period.end - A_TICK) == period
    assert period_of(calendar, period.end).start == period.end
    assert period_of(calendar, period.start - A_TICK).end == period.start
    local = moment.astimezone(zone_named(calendar.zone)).date()
    of_that_date = first_day(calendar.length, local)
    if begins(calendar.zone, next_first_day(calendar.length, local)) <= moment:
        of_that_date = next_first_day(calendar.length, local)  # an hour before midnight that comes a second time
    assert begins(calendar.zone, of_that_date) == period.start


@given(calendars, moments)
def test_every_instant_is_in_one_period_that_ends_where_the_next_begins(calendar: Calendar, moment: datetime) -> None:
    check(calendar, moment)


@given(st.sampled_from(LENGTHS), around_a_change())
def test_where_a_clock_is_changed_too(length: str, where: tuple[str, datetime]) -> None:
    check(Calendar(length, where[0]), where[1])


@given(st.sampled_from(ZONES), st.dates(date(2000, 1, 1), date(2100, 12, 31)))
def test_a_day_begins_at_the_first_instant_that_has_its_date_or_a_later_one(zone: str, day: date) -> None:
    tz, begun = zone_named(zone), begins(zone, day)
    assert begun.astimezone(tz).date() >= day
    assert (begun - A_TICK).astimezone(tz).date() < day


@pytest.mark.parametrize(
    ("zone", "day", "utc"),
    [
        ("UTC", "2026-10-01", "2026-10-01T00:00:00"),
        ("Europe/Berlin", "2026-11-01", "2026-10-31T23:00:00"),
        # The clock goes on at midnight, so the day begins at one o'clock.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00"),
        # It goes back from one o'clock to midnight, which comes twice.
        ("America/Havana", "2026-11-01", "2026-11-01T04:00:00"),
        # It goes back a minute after midnight: the first minute counts.
        ("America/St_Johns", "2008-11-02", "2008-11-02T02:30:00"),
        # It goes on from 23:30 to 00:30, so no day begins at midnight.
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00"),
        ("Asia/Kathmandu", "2026-01-01", "2025-12-31T18:15:00"),
    ],
)
def test_a_day_begins(zone: str, day: str, utc: str) -> None:
    assert begins(zone, date.fromisoformat(day)) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_months_of_a_century_follow_each_other_in_every_zone() -> None:
    """1,212 months of each of 60 zones, which a seed chooses."""
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    for zone in random.Random(seed).sample(ZONES, 60):
        month, previous = date(2000, 1, 1), begins(zone, date(2000, 1, 1))
        while month < date(2100, 12, 1):
            period = period_of(Calendar("month", zone), previous)
            month = next_first_day("month", month)
            assert period == Period(previous, begins(zone, month)), (zone, month)
            previous = period.end


@given(st.lists(st.tuples(calendars, moments), min_size=1, max_size=25))
def test_whatever_is_set_in_between_no_two_periods_overlap_and_each_moment_has_one(
    told: list[tuple[Calendar, datetime]],
) -> None:
    """The seams: each capture comes under another calendar, in any order."""
    used: list[Period] = []
    # Close to each other, so that they meet.
    for calendar, moment in [
        (calendar, datetime(2026, 1, 1, tzinfo=UTC) + (moment - datetime(2000, 1, 1, tzinfo=UTC)) / 300)
        for calendar, moment in told
    ]:
        if any(moment in each for each in used):
            continue
        before = max((each.end for each in used if each.end <= moment), default=None)
        after = min((each.start for each in used if each.start > moment), default=None)
        new = between(period_of(calendar, moment), moment, before, after)
        assert moment in new
        assert all(new.end <= each.start or new.start >= each.end for each in used)
        used.append(new)


@pytest.mark.parametrize(
    ("zone", "text", "start", "end"),
    [
        ("UTC", "2026-10", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("Europe/Berlin", "2026-10", "2026-09-30T22:00", "2026-10-31T23:00"),
        ("UTC", "2026-W01", "2025-12-29T00:00", "2026-01-05T00:00"),
        ("America/New_York", "2026-02-28", "2026-02-28T05:00", "2026-03-01T05:00"),
    ],
)
def test_a_period_is_named_and_has_that_name(zone: str, text: str, start: str, end: str) -> None:
    period = named(zone, text)
    assert (f"{period.start:%Y-%m-%dT%H:%M}", f"{period.end:%Y-%m-%dT%H:%M}") == (start, end)
    assert name_of(zone, period) == text


@given(calendars, moments)
def test_the_name_of_a_whole_period_leads_to_it(calendar: Calendar, moment: datetime) -> None:
    period = period_of(calendar, moment)
    assert named(calendar.zone, name_of(calendar.zone, period)) == period


def test_what_is_left_of_a_period_at_a_seam_is_named_by_its_days() -> None:
    period = Period(datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    assert name_of("UTC", period) == "2026-10-05..2026-10-31"
    assert named("UTC", "2026-10-05..2026-10-31") == period


@pytest.mark.parametrize("text", ["2026-13", "2026-W54", "2026-02-29", "1999-12", "2101-01", "october", "2026-1", ""])
def test_no_period_has_another_name(text: str) -> None:
    with pytest.raises(BadCalendar, match="2026-W44"):
        named("UTC", text)


def test_a_day_that_a_zone_skipped_is_no_period() -> None:
    with pytest.raises(BadCalendar, match="2011-12-30 has no time in it in Pacific/Apia"):
        named("Pacific/Apia", "2011-12-30")


@pytest.mark.parametrize(
    "zone", ["Europe/Nowhere", "", "../etc/passwd", "/etc/localtime", "UTC ", "a/b/c/d", "\x00", "Europe"]
)
def test_no_other_zone_is_known(zone: str) -> None:
    with pytest.raises(BadCalendar, match="IANA"):
        Calendar("month", zone)


def test_no_other_length_is_known() -> None:
    with pytest.raises(BadCalendar, match="month, week, day"):
        Calendar("year", "UTC")


@pytest.mark.parametrize("moment", [datetime(1999, 12, 31, 23, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC)])
def test_what_happened_outside_of_this_century_is_in_no_period(moment: datetime) -> None:
    with pytest.raises(BadCalendar, match="no period"):
        period_of(Calendar(), moment)
