"""An application writes facts with its own login: whatever one of them holds harms that one only."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
import structlog
from service import Service
from sqlalchemy import text

from billing import database, ids
from billing.facts import PAYLOAD_MOST
from jobs.road import planning

Migrated = Callable[..., Service]

DEEP = "[" * 2000 + "]" * 2000
LONG = "9" * 5000
BEFORE = '{"authorized": true, "capture_before": %s}'
UNPLANNABLE = {
    "a list": ("capture.requested", "[]", "the payload is list, not an object"),
    "null": ("capture.requested", "null", "the payload is NoneType, not an object"),
    "a string": ("invoice.requested", '"text"', "the payload is str, not an object"),
    "deep": ("capture.requested", f'{{"a": {DEEP}}}', "the payload is nested too deeply"),
    "levels": ("capture.requested", '{"a": [[[[[1]]]]]}', "the payload is nested in more than 4 levels"),
    "a long number": ("invoice.requested", f'{{"minor": {LONG}}}', "holds a number that is too long"),
    "a long text": ("invoice.requested", json.dumps({"a": "x" * PAYLOAD_MOST}), "the payload has more than 16384"),
    "a deadline that is a number": ("capture.requested", BEFORE % 1, "capture_before must be null or a time"),
    "a deadline that is a list": ("capture.requested", BEFORE % "[]", "capture_before must be null or a time"),
    "a deadline without a zone": ("capture.requested", BEFORE % '"2026-01-31"', "capture_before must be null or"),
    "a deadline in year 1": (
        "capture.requested",
        BEFORE % '"0001-01-01T00:00:00Z"',
        "capture_before or happened_at is out of range",
    ),
    "an account that is an object": ("capture.requested", '{"account": {}}', "account must be text or null, not dict"),
    "a switch with a list": ("switch.pulled", "[]", "the payload is list, not an object"),
}


def write_fact(service: Service, payload: str, topic: str = "capture.requested", entity_id: str | None = None) -> str:
    """As an application can write one, past `billing.request_capture`. Returns the id that it names."""
    kind = topic.partition(".")[0]
    entity_id = entity_id or ids.new({"capture": "cap", "invoice": "inv", "switch": "swi"}[kind])
    with database.transaction(service.engines["application"]) as session:
        session.execute(
            text(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
                " VALUES (:topic, :kind, :entity_id, 1, 'application', CAST(:payload AS jsonb))"
            ),
            {"topic": topic, "kind": kind, "entity_id": entity_id, "payload": payload},
        )
    return entity_id


@pytest.fixture
def unchecked(service: Service) -> Service:
    """A database whose rows are from before the constraints, where only the code stands against them."""
    for name in ("facts_payload_bounded", "facts_names_shaped"):
        service.execute(f"ALTER TABLE billing.facts DROP CONSTRAINT {name}")
    return service


def planned_version_of(service: Service, entity_id: str) -> int | None:
    with database.transaction(service.engine) as session:
        return session.execute(
            text("SELECT planned_version FROM billing.facts WHERE entity_id = :id"), {"id": entity_id}
        ).scalar_one()


def alarms(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "fact.unplannable"]


def test_each_fact_that_cannot_be_planned_is_set_aside_alone_and_told_once(unchecked: Service) -> None:
    service = unchecked
    before = service.ask_for_capture()
    bad = {kind: write_fact(service, payload, topic) for kind, (topic, payload, _) in UNPLANNABLE.items()}
    after = service.ask_for_capture()
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
        service.relay.round()
    assert {service.work(capture).state for capture in (before, after)} == {"ready"}
    assert {planned_version_of(service, entity_id) for entity_id in bad.values()} == {-1}
    assert {alarm["log_level"] for alarm in alarms(lines)} == {"error"}
    told = {alarm["operation_id"]: (alarm["topic"], alarm["why"]) for alarm in alarms(lines)}
    assert len(told) == len(alarms(lines)) == len(bad)
    for kind, (topic, _, why) in UNPLANNABLE.items():
        assert told[bad[kind]][0] == topic
        assert why in told[bad[kind]][1], kind


def test_a_fact_from_a_time_that_python_has_no_value_for_is_set_aside_alone(service: Service) -> None:
    first, bad, last = (service.ask_for_capture() for _ in range(3))
    service.execute("UPDATE billing.facts SET happened_at = 'infinity' WHERE entity_id = :id", id=bad)
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
        service.relay.round()
    assert {service.work(capture).state for capture in (first, last)} == {"ready"}
    assert planned_version_of(service, bad) == -1
    assert [alarm["operation_id"] for alarm in alarms(lines)] == [bad]


def test_a_fact_whose_work_cannot_be_written_is_set_aside_alone(service: Service) -> None:
    first, bad, last = (service.ask_for_capture() for _ in range(3))
    service.execute(f"ALTER TABLE billing.work ADD CONSTRAINT broken CHECK (entity_id <> '{bad}')")
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
    assert {service.work(capture).state for capture in (first, last)} == {"ready"}
    assert planned_version_of(service, bad) == -1
    assert [(alarm["operation_id"], alarm["why"]) for alarm in alarms(lines)] == [(bad, "IntegrityError")]


def test_no_fact_is_blamed_for_a_database_that_is_older_than_the_code(service: Service) -> None:
    capture = service.ask_for_capture()
    service.execute("ALTER TABLE billing.work RENAME COLUMN urgency TO urgency_of_tomorrow")
    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        planning.plan_next(service.engine, service.timing)
    service.execute("ALTER TABLE billing.work RENAME COLUMN urgency_of_tomorrow TO urgency")
    assert planned_version_of(service, capture) is None
    assert service.settle(capture) == ["captured"]


def test_a_batch_that_is_too_slow_is_planned_one_by_one_and_no_fact_is_blamed(service: Service) -> None:
    """A busy machine: what is too slow even alone stays unplanned, and the others go on."""
    first, slow, last = (service.ask_for_capture() for _ in range(3))
    service.execute(
        "CREATE FUNCTION billing.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(9); END $$"
    )
    service.execute(
        "CREATE TRIGGER slow BEFORE INSERT ON billing.work FOR EACH ROW"
        f" WHEN (NEW.entity_id = '{slow}') EXECUTE FUNCTION billing.slow()"
    )
    with structlog.testing.capture_logs() as lines:
        service.relay.round()
    assert {service.work(capture).state for capture in (first, last)} == {"ready"}
    assert planned_version_of(service, slow) is None
    assert [line["event"] for line in lines if line["log_level"] != "info"] == ["fact.postponed"]
    service.execute("DROP TRIGGER slow ON billing.work")
    assert service.settle(slow) == ["captured"]


def test_a_fact_that_two_relays_give_up_is_told_by_one_of_them(unchecked: Service) -> None:
    bad = write_fact(unchecked, "[]")
    with structlog.testing.capture_logs() as lines:
        with database.transaction(unchecked.engine) as one, database.transaction(unchecked.engine) as two:
            assert planning.plan(one, unchecked.timing) == 1
            assert planning.plan(two, unchecked.timing) == 0
        unchecked.relay.round()
    assert [alarm["operation_id"] for alarm in alarms(lines)] == [bad]


def test_what_is_rolled_back_is_not_told(unchecked: Service) -> None:
    write_fact(unchecked, "[]")
    with structlog.testing.capture_logs() as lines, database.transaction(unchecked.engine) as session:
        assert planning.plan(session, unchecked.timing) == 1
        session.rollback()
    assert alarms(lines) == []


def test_a_payload_that_is_no_object_or_too_long_is_not_even_written(service: Service) -> None:
    for payload in ["[]", "null", '"text"', "1", json.dumps({"a": "x" * PAYLOAD_MOST})]:
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="facts_payload_bounded"):
            write_fact(service, payload)


def test_a_fact_without_a_topic_or_an_id_of_ours_is_not_even_written(service: Service) -> None:
    topics = [("capture.requested\n", "cap_1"), ("Capture.requested", "cap_1"), ("capture", "cap_1"), ("", "cap_1")]
    entities = ["x", "cap_1\r\n", "../../cap_1", "Jane Doe", "cap_\u202e1"]
    for topic, entity_id in [*topics, *(("capture.requested", entity_id) for entity_id in entities)]:
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="facts_names_shaped"):
            write_fact(service, "{}", topic, entity_id)


def test_old_facts_that_break_the_rules_are_stamped_and_archived_like_any_other(migrated: Migrated) -> None:
    """A constraint is judged again at every update: it must not stop the marks of rows from before it."""
    service = migrated("0003", old_fact("cap_1", "capture.attempted", menu="1"), old_fact("cap_2", menu="-1"))
    assert [planned_version_of(service, entity_id) for entity_id in ("cap_1", "cap_2")] == [1, -1]
    service.execute("UPDATE billing.facts SET batch_no = 1, archive_seq = id")


def test_the_migration_sets_aside_what_waits_and_breaks_its_rules(migrated: Migrated) -> None:
    service = migrated("0003", old_fact("cap_1", "capture.attempted"), old_fact("cap_2", payload="{}"))
    assert [planned_version_of(service, entity_id) for entity_id in ("cap_1", "cap_2")] == [-1, None]
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        write_fact(service, "[]")


def old_fact(entity_id: str, topic: str = "capture.requested", payload: str = "[]", menu: str = "NULL") -> str:
    """The statement by which a version before the constraints could write a fact."""
    return (
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, menu)"
        f" VALUES ('{topic}', 'capture', '{entity_id}', 1, 'application', '{payload}', {menu})"
    )


def test_the_index_of_what_is_set_aside_serves_the_doctor_s_question(service: Service) -> None:
    plain = service.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute("EXPLAIN SELECT count(*) FROM billing.facts WHERE planned_version < 0").fetchall()
    assert "facts_set_aside" in str(plan)
