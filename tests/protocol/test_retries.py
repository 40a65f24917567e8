"""Every error meets one named policy, the page says so, and `report` counts what waits for it."""

import itertools
import random
from typing import Any

import pytest
from service import Service

from archive import errors as archive
from billing import database
from billing.answers import Kind, read_answer
from billing.calls import Standing
from billing.capture_steps import CAPTURE
from billing.gateway import NoAnswer, NotSent, Response
from billing.invoice_draft_steps import CREATE
from billing.learned import EFFECT_IS_OURS, Learned
from billing.steps import LoadedOperation
from billing.tables.entities import Capture
from billing.tables.idempotency_records import Record
from billing.timing import PRODUCTION
from jobs.local import pages
from jobs.road.retries import ERRORS, POLICIES, report
from jobs.road.verdicts import FAILURES, VERDICTS, Failure, Policy

PROGRESS = {Standing.CALLING, Standing.CONCLUDED, Standing.AGAIN, Standing.LATE}
NO_ERRORS = {*EFFECT_IS_OURS, Learned.NOTHING}


def rows_of(key: object) -> list[Policy]:
    return [row.policy for row in ERRORS if row.key is key]


def all_errors() -> list[Any]:
    ours = [
        error for error in vars(archive).values() if isinstance(error, type) and error.__base__ is archive.ArchiveError
    ]
    answers = [kind for kind in Kind if kind is not Kind.LEARNED]
    return [*answers, *(each for each in Learned if each not in NO_ERRORS), *Failure, *ours]


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: getattr(error, "__name__", str(error)))
def test_every_error_is_in_exactly_one_row(error: Any) -> None:
    assert len(rows_of(error)) == 1


def test_no_row_is_there_twice_and_every_policy_is_met() -> None:
    assert len({row.key for row in ERRORS}) == len({row.what for row in ERRORS}) == len(ERRORS)
    named = {verdict.policy for verdict in VERDICTS.values() if verdict.policy} | set(FAILURES.values())
    assert named <= set(POLICIES)
    assert len({policy.name for policy in POLICIES}) == len(POLICIES)


def test_every_standing_but_progress_has_a_policy() -> None:
    assert {standing for standing, verdict in VERDICTS.items() if verdict.policy is None} == PROGRESS
    assert set(FAILURES) == set(Failure)


CODES = (
    None,
    "idempotency_key_in_use",
    "payment_intent_unexpected_state",
    "charge_expired_for_capture",
    "a_code_of_2030",
)
TYPES = (None, "idempotency_error", "card_error", "invalid_request_error")
STATUSES = (307, 400, 401, 402, 403, 404, 409, 418, 424, 429, 500, 502, 503, 504)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("step", [CAPTURE, CREATE], ids=lambda step: step.name)
def test_every_answer_that_is_no_success_meets_one_policy(step: Any, status: int) -> None:
    for code, kind, replayed, unanswered in itertools.product(CODES, TYPES, (False, True), (1, 2)):
        error = {"code": code, "type": kind, "param": None if code else "amount"}
        answer = Response(status, b"{}", {"error": error}, "req_1", replayed=replayed)
        loaded = LoadedOperation(Capture(payment_intent="pi_1", currency="USD"), [], "", "")
        reading = read_answer(step, loaded, Record(unanswered=unanswered, livemode=False), answer)
        assert len(rows_of(reading.learned if reading.kind is Kind.LEARNED else reading.kind)) == 1


@pytest.mark.parametrize(("answer", "name"), [(NoAnswer("x"), "network timeout"), (NotSent("x"), "short pause")])
def test_no_answer_is_tried_again_after_its_pause(answer: Any, name: str) -> None:
    loaded = LoadedOperation(Capture(payment_intent="pi_1", currency="USD"), [], "", "")
    (policy,) = rows_of(read_answer(CAPTURE, loaded, Record(unanswered=1, livemode=False), answer).kind)
    assert policy.name == name
    assert policy.pause is not None


def test_the_promises_name_the_pauses_of_production() -> None:
    timing = {
        f"{PRODUCTION.retry_first_s:g} s",
        f"{PRODUCTION.retry_max_s / 60:g} min",
        f"{PRODUCTION.horizon_s / 3600:g} hours",
    }
    (network,) = rows_of(Kind.NO_ANSWER)
    assert all(each in network.promise for each in timing)
    (short,) = rows_of(Kind.NOT_SENT)
    assert short.pause is not None
    assert f"{short.pause(9, PRODUCTION, random.Random(1)).total_seconds():g} s" in short.promise
    assert f"{PRODUCTION.look_max_s / 3600:g} h" in rows_of(Learned.ASK)[0].promise


def test_the_page_shows_the_table() -> None:
    assert pages.retries() in (pages.DOCS / "operate" / "retries.md").read_text()


# What waits now.


def test_what_waits_is_counted_by_contract_with_its_policy(service: Service) -> None:
    doubtful, throttled, held, poison, ready = (service.ask_for_capture() for _ in range(5))
    service.plan()
    moved = (
        "UPDATE billing.work SET state = :state, reason = :reason, attempts = :attempts, tries = :tries"
        " WHERE entity_id = :id"
    )
    for entity_id, state, reason, attempts, tries in (
        (throttled, "waiting", "rate_limit", 0, 3),
        (held, "held", "captures: a drill", 0, 0),
        (poison, "quarantined", "unfit: a row", 5, 0),
        (ready, "parked", "unknown contract version", 0, 0),
    ):
        service.execute(moved, id=entity_id, state=state, reason=reason, attempts=attempts, tries=tries)
    service.execute("UPDATE billing.work SET due_at = now() + interval '1 hour' WHERE entity_id = :id", id=throttled)
    (call,) = service.prepared().values()
    assert call.loaded.row.id == doubtful
    service.report(call, NoAnswer("ReadTimeoutError"))
    with database.transaction(service.engines["operator"]) as session:
        (found,) = report(session)
        assert report(session, "take_capture:1") == [found]
        assert report(session, "take_capture:9") == []
    assert found.states == {"waiting": 2, "held": 1, "parked": 1, "quarantined": 1}
    assert found.attempts == {0: 4, 5: 1}
    assert (found.tries.p50, found.tries.max) == (1, 3)
    assert found.wait_s.max is not None
    assert 3000 < found.wait_s.max <= 3600
    assert found.next_due is not None
    assert {(each.reason, each.policy, each.count) for each in found.reasons} == {
        ("ReadTimeoutError", "network timeout", 1),
        ("rate_limit", "not sent", 1),
        ("captures", "stopped", 1),
        ("unfit", "unknown", 1),
        ("unknown contract version", "parked", 1),
    }
    assert all(each.promise for each in found.reasons)


def test_work_that_waits_for_a_look_is_in_doubt_and_due_when_that_is(service: Service) -> None:
    capture = service.ask_for_capture()
    service.plan()
    (call,) = service.prepared().values()
    service.report(call, Response(404, b"{}", {"error": {"code": "resource_missing"}}, "req_1", replayed=False))
    assert service.work(capture).due_at is None
    with database.transaction(service.engines["operator"]) as session:
        (found,) = report(session)
    assert found.next_due == service.record(capture).look_at
    assert [each.policy for each in found.reasons] == ["in doubt"]


def test_a_contract_reports_its_commonest_reasons_only(service: Service) -> None:
    for _ in range(8):
        service.ask_for_capture()
    service.plan()
    service.execute("UPDATE billing.work SET state = 'held', reason = 'account:' || id")
    service.execute("UPDATE billing.work SET reason = 'rare' WHERE id = (SELECT min(id) FROM billing.work)")
    with database.transaction(service.engines["operator"]) as session:
        (found,) = report(session)
    assert (found.reasons[0].reason, found.reasons[0].count, len(found.reasons)) == ("account", 7, 2)
