"""Captures whose authorization lapses soon are warned of: the nearest first, each once, with what they wait for."""

from datetime import UTC, datetime, timedelta

from service import Service
from sqlalchemy import text

import billing
from billing import database, row_io
from billing.tables.entities import Capture
from jobs.schedules import deadlines


def until(hours: float) -> billing.Authorization:
    return billing.Authorization(1999, "USD", datetime.now(UTC) + timedelta(hours=hours))


def warn(service: Service, hours: int = 24, left_s: float = 30) -> dict[str, object]:
    return deadlines.warn(service.engines["worker"], hours, lambda: left_s)


def warned(service: Service, capture_id: str) -> list[dict[str, object]]:
    return [fact.payload for fact in service.facts(capture_id) if fact.topic == "capture.deadline_near"]


def test_what_lapses_soon_is_warned_of_once_with_its_amount_and_what_it_waits_for(service: Service) -> None:
    """[27]"""
    near, late = service.ask_for_capture(authorization=until(5)), service.ask_for_capture(authorization=until(-1))
    far, free = service.ask_for_capture(authorization=until(30)), service.ask_for_capture()
    service.plan()
    service.pull("captures")
    service.work_off()
    unplanned = service.ask_for_capture(authorization=until(6))
    assert warn(service) == {"captures": 3, "minor": {"USD": 3 * 1999}, "complete": True}
    assert warn(service)["captures"] == 0
    (payload,) = warned(service, near)
    before = service.row(Capture, near).capture_before.isoformat()
    assert payload == {
        "minor": 1999,
        "currency": "USD",
        "account": "own",
        "capture_before": payload["capture_before"],
        "work_state": "held",
        "why": payload["why"],
    }
    assert datetime.fromisoformat(str(payload["capture_before"])) == datetime.fromisoformat(before)
    assert "captures" in str(payload["why"])
    assert [each["work_state"] for each in warned(service, late) + warned(service, unplanned)] == ["held", "unplanned"]
    assert warned(service, far) == warned(service, free) == []


def test_what_has_ended_is_not_warned_of(service: Service) -> None:
    done = service.ask_for_capture(authorization=until(5))
    assert service.settle(done) == ["captured"]
    assert warn(service)["captures"] == 0


def test_more_than_a_page_is_warned_of_page_by_page_the_nearest_first(service: Service) -> None:
    captures = [service.ask_for_capture(intent, authorization=until(1)) for intent in service.intents(3)]
    service.execute(
        "UPDATE billing.captures SET capture_before ="
        " now() + make_interval(hours => CASE id WHEN :last THEN 9 ELSE 8 END)",
        last=captures[0],
    )
    page, deadlines.PAGE = deadlines.PAGE, 2
    try:
        times = iter([30.0, 0.0])
        first = deadlines.warn(service.engines["worker"], 24, lambda: next(times))
        assert (first["captures"], first["complete"]) == (2, False)
        assert warned(service, captures[0]) == []
        assert warn(service) == {"captures": 1, "minor": {"USD": 1999}, "complete": True}
    finally:
        deadlines.PAGE = page


def test_one_that_a_worker_holds_is_left_to_the_next_run(service: Service) -> None:
    held = service.ask_for_capture(authorization=until(5))
    with database.transaction(service.engines["worker"]) as session:
        row_io.locked(session, Capture, [held])
        assert warn(service)["captures"] == 0
    assert warn(service)["captures"] == 1


def test_a_warning_takes_its_number_and_is_archived_with_the_captures(service: Service) -> None:
    near = service.ask_for_capture(authorization=until(5))
    warn(service)
    assert service.settle(near) == ["captured"]
    facts = service.facts(near)
    assert [fact.entity_version for fact in facts] == list(range(1, len(facts) + 1))
    assert service.row(Capture, near).version == len(facts)
    service.plan()
    assert all(fact.planned_version is not None for fact in service.facts(near))


def test_the_captures_to_warn_of_are_found_by_their_index(service: Service) -> None:
    with service.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        statement = deadlines.SQL["near"].replace("captures.*", "id")
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", {"hours": 24, "most": 10}).scalars().all()
    assert any("captures_to_warn_of" in line for line in plan), plan
