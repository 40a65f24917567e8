"""Every query says in its file what it answers, takes and returns; what it is asked is read by one table."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import objects
import pytest

from archive.errors import BadQuery, BadQuestion
from archive.policy.retention import CLASSES
from archive.queries import query_file
from archive.queries.columns import MEANINGS, Column, Type
from archive.queries.parameters import PARAMETERS, Wanted, moment, values
from archive.queries.query_file import NAMES, Days, parse

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HEADER = """\
-- title: A title
-- answers: What was captured,
--   and where?
-- reads: capture, attempt
-- parameters: since, until, payment_intent required, limit
-- columns: day date, account text?, currency text, minor money
-- days: in range
-- finds: payment_intent
-- A comment of the SQL.
SELECT 1
"""


def test_a_header_is_read() -> None:
    query = parse("mine", HEADER)
    assert (query.title, query.answers) == ("A title", "What was captured, and where?")
    assert query.classes == ("capture", "attempt")
    assert list(map(str, query.parameters)) == ["since", "until", "payment_intent required", "limit"]
    assert query.columns[:2] == (Column("day", Type.DATE, False), Column("account", Type.TEXT, True))
    assert (query.days, query.finds) == (Days.IN_RANGE, "payment_intent")
    assert query.sql == HEADER


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        ("-- title: A title\n", "", "its header lacks `-- title: ...`"),
        ("-- title: A title\n", "-- title: A title\n-- title: Another\n", "title: unknown or written twice"),
        ("-- title: A title\n", "-- owner: finance\n", "owner: unknown or written twice"),
        ("reads: capture, attempt", "reads: refund", "reads: 'refund' is no class; there are: attempt, capture"),
        ("limit", "colour", "parameters: 'colour' is unknown; there are: since, until"),
        ("payment_intent required", "payment_intent optional", "parameters: 'payment_intent optional' is unknown"),
        ("day date", "day", "columns: 'day' is not `name type`"),
        ("day date", "day datum", "types are: text, int, money"),
        ("currency text", "coin text", "money needs a column `currency`"),
        ("account text?", "day text", "two have the same name"),
        ("in range", "some", "days: 'some' is unknown; there are: in range, until, all"),
        (
            "finds: payment_intent",
            "finds: customer",
            "finds: 'customer' is no required parameter, or none of: ent",
        ),
        ("finds: payment_intent", "finds: entity_id", "finds: 'entity_id' is no required parameter"),
    ],
)
def test_a_wrong_header_is_refused_in_one_line(line: str, instead: str, told: str) -> None:
    with pytest.raises(BadQuery) as refused:
        parse("mine", HEADER.replace(line, instead))
    assert str(refused.value).startswith("mine.sql: ")
    assert told in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_returns_what_its_header_declares(name: str) -> None:
    """Over no facts: names and types do not depend on them. A parameter that is not declared is refused."""
    query = query_file.load(name)
    given = {each.parameter.name: each.parameter.example for each in query.parameters if each.required}
    asked = values(query.parameters, given, NOW)
    taken = {each.parameter.name for each in query.parameters} | {"as_of", "tz"}
    objects.run(query.sql, declared=query.columns, **{k: v for k, v in asked.of_sql.items() if k in taken})


@pytest.mark.parametrize("name", NAMES)
def test_every_query_uses_the_parameters_that_it_declares(name: str) -> None:
    query = query_file.load(name)
    words = {each.parameter.name for each in query.parameters} - {"tz"}
    unused = {word for word in words if f"${word}" not in query.sql}
    # The end of the range is also "now" for what is open.
    assert unused <= ({"until"} if "$as_of" in query.sql else set())


def test_every_type_and_class_is_explained() -> None:
    assert set(MEANINGS) == set(Type)
    assert all(set(query.classes) <= set(CLASSES) for query in query_file.every())


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_example_of_a_parameter_is_one(name: str) -> None:
    PARAMETERS[name].read(PARAMETERS[name].example, ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("currency", "euro"),
        ("account", "mine"),
        ("payment_intent", "cap_1"),
        ("customer", "Anna"),
        ("limit", "0"),
        ("limit", "1000000"),
        ("limit", "١"),
        ("days", "-1"),
        ("entity_id", "'; DROP VIEW facts"),
        ("since", "yesterday"),
    ],
)
def test_a_value_that_is_not_of_its_form_is_refused_in_one_line(name: str, text: str) -> None:
    with pytest.raises(BadQuestion, match="for example") as refused:
        values([Wanted(PARAMETERS[name], False)], {name: text}, NOW)
    assert "\n" not in str(refused.value)


def test_what_is_missing_or_unknown_is_named_with_what_there_is() -> None:
    wanted = parse("mine", HEADER).parameters
    with pytest.raises(BadQuestion, match="it needs payment_intent; write --set payment_intent=pi_1"):
        values(wanted, {}, NOW)
    with pytest.raises(BadQuestion, match="no parameter colour here; it takes: since, until, payment_intent, limit"):
        values(wanted, {"payment_intent": "pi_1", "colour": "red"}, NOW)
    with pytest.raises(BadQuestion, match="'Middle/Earth' is no time zone"):
        values(wanted, {"payment_intent": "pi_1", "tz": "Middle/Earth"}, NOW)


def test_what_is_not_given_has_its_default_and_what_is_open_is_measured_at_the_end_of_the_range() -> None:
    wanted = parse("mine", HEADER).parameters
    asked = values(wanted, {"payment_intent": "pi_1"}, NOW)
    assert (asked.since, asked.until, asked.of_sql["limit"], asked.of_sql["as_of"]) == (None, None, 20, NOW)
    bounded = values(wanted, {"payment_intent": "pi_1", "until": "2026-11-01"}, NOW)
    assert bounded.of_sql["as_of"] == bounded.until == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-11-01", "UTC", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01", "Europe/Berlin", "2026-10-31T23:00:00+00:00"),
        ("2026-10-25", "Europe/Berlin", "2026-10-24T22:00:00+00:00"),
        ("2026-10-26", "Europe/Berlin", "2026-10-25T23:00:00+00:00"),
        ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00+00:00"),
        ("2026-03-30", "Europe/Berlin", "2026-03-29T22:00:00+00:00"),
        # Clocks are put forward at midnight: the day begins at 1 o'clock.
        ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00+00:00"),
        ("2026-11-01T10:00", "Europe/Berlin", "2026-11-01T09:00:00+00:00"),
        ("2026-11-01T10:00:00Z", "Europe/Berlin", "2026-11-01T10:00:00+00:00"),
        ("2026-10-25T02:30+02:00", "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T02:30+01:00", "Europe/Berlin", "2026-10-25T01:30:00+00:00"),
    ],
)
def test_a_day_is_its_first_local_moment_and_a_time_without_an_offset_is_local(text: str, zone: str, utc: str) -> None:
    assert moment(text, ZoneInfo(zone)) == datetime.fromisoformat(utc)


def test_a_local_time_that_does_not_exist_or_happens_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="does not exist in Europe/Berlin"):
        moment("2026-03-29T02:30", ZoneInfo("Europe/Berlin"))
    with pytest.raises(ValueError, match="happens twice in Europe/Berlin"):
        moment("2026-10-25T02:30", ZoneInfo("Europe/Berlin"))
    for text, zone in (("0001-01-01", "Asia/Tokyo"), ("9999-12-31T23:00", "America/New_York")):
        with pytest.raises(ValueError, match="is not a time"):
            moment(text, ZoneInfo(zone))
