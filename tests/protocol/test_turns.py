"""Prepare and settle on rows in memory: what is written before a call, and what an answer changes."""

from datetime import timedelta
from typing import Any

import pytest
from protocol_model import CALL_SETTINGS, CAPTURING, NOON, capture, error, intent, loaded_with, response
from test_answers import invoice, loaded_invoice

from billing import captures, effects, invoices
from billing.calls import Call, Report, Result, Standing
from billing.capture_steps import CAPTURE, READ_AUTHORIZATION
from billing.effects import Context
from billing.gateway import Answer, Budget, NoAnswer, NotSent, Request, boot_clock
from billing.idempotency import MAX_ROTATIONS
from billing.invoice_line_steps import ADD_LINES
from billing.learned import Learned
from billing.records import plan, request_of
from billing.states import CaptureState, InvoiceState, RecordState
from billing.steps import LoadedOperation, LookResult, Step

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def context(loaded: LoadedOperation, now: Any = NOON, *, may_send: bool = True, operation: Any = CAPTURING) -> Context:
    return Context(operation, loaded, now, CALL_SETTINGS, may_send=may_send)


def begun(loaded: LoadedOperation, now: Any = NOON, **options: Any) -> Call:
    result = effects.prepare(context(loaded, now), **options)
    assert result.call is not None, result
    return result.call


def told(
    loaded: LoadedOperation, call: Call, came_back: Answer | LookResult, now: Any = NOON, *, may_send: bool = True
) -> Result:
    return effects.settle(context(loaded, now, may_send=may_send, operation=call.operation), Report(call, came_back, 1))


def topics(loaded: LoadedOperation) -> list[str]:
    return [fact.topic for fact in loaded.facts]


def test_before_the_call_the_record_says_that_it_may_have_gone_out():
    loaded = loaded_with(capture())
    call = begun(loaded)
    record = loaded.records[0]
    assert (record.state, record.sends, record.unanswered, record.unreported) == (RecordState.SENT, 1, 1, 1)
    assert record.first_sent_at == record.last_prepared_at == NOON
    assert record.lease_until == NOON + CALL_SETTINGS.timing.lease
    assert (
        call.request
        == Request("POST", record.path, record.body, record.key, None, record.api_version)
        == request_of(record)
    )
    assert call.fence == record.fence == 1


def test_a_success_concludes_record_row_and_fact_together():
    loaded = loaded_with(capture())
    result = told(loaded, begun(loaded), response(200, intent()))
    assert result.standing is Standing.CONCLUDED
    assert (loaded.row.state, loaded.row.charge) == (CaptureState.CAPTURED, "ch_1")
    assert (loaded.records[0].state, loaded.records[0].concluded_at) == (RecordState.ANSWERED, NOON)
    assert topics(loaded) == ["capture.attempted", "capture.captured"]
    assert loaded.records[0].request_ids == ["req_1"]


@pytest.mark.parametrize(
    ("answer", "standing"),
    [
        (NoAnswer("reset"), Standing.IN_DOUBT),
        (NotSent("too late"), Standing.NOT_SENT),
        (error(409, code="idempotency_key_in_use"), Standing.THROTTLED),
        (error(429), Standing.THROTTLED),
        (error(401), Standing.MISCONFIGURED),
        (error(403), Standing.MISCONFIGURED),
        (error(500), Standing.IN_DOUBT),
        (error(500, replayed=True), Standing.LOOKING),
        (error(400, type="idempotency_error"), Standing.LOOKING),
        (response(200, intent(id="pi_2")), Standing.CONFLICT),
        (error(402), Standing.CONCLUDED),
    ],
)
def test_each_answer_has_its_standing(answer: Answer, standing: Standing):
    """[43]"""
    loaded = loaded_with(capture())
    result = told(loaded, begun(loaded), answer)
    assert result.standing is standing
    assert result.call is None
    assert loaded.records[0].unreported == 0
    assert loaded.records[0].lease_until is None


def test_the_first_send_is_timed_once_per_generation():
    loaded = loaded_with(capture())
    told(loaded, begun(loaded), NoAnswer("reset"))
    begun(loaded, NOON + 5 * SECOND)
    assert loaded.records[0].first_sent_at == NOON
    assert loaded.records[0].last_prepared_at == NOON + 5 * SECOND
    assert loaded.records[0].sends == 2


def test_a_call_never_starts_past_the_horizon_of_its_key():
    """[12]"""
    loaded = loaded_with(capture())
    told(loaded, begun(loaded), NoAnswer("reset"))
    horizon = timedelta(seconds=CALL_SETTINGS.timing.horizon_s)
    call = begun(loaded, NOON + horizon - 3 * SECOND)
    assert call.not_after_s == 3


def test_a_call_never_starts_after_the_authorization_has_lapsed():
    loaded = loaded_with(capture(capture_before=NOON + 2 * SECOND))
    look = begun(loaded) if effects.prepare(context(loaded)).call else begun(loaded, look=True)
    told(loaded, look, LookResult(Learned.ABSENT, intent(status="requires_capture", amount_received=0)))
    assert begun(loaded).not_after_s <= 2


def test_a_pulled_switch_turns_what_is_unanswered_into_a_look_and_leaves_the_rest():
    loaded = loaded_with(capture())
    assert effects.prepare(context(loaded, may_send=False)).standing is Standing.BLOCKED
    assert loaded.records[0].sends == 0
    told(loaded, begun(loaded), NoAnswer("reset"))
    assert effects.prepare(context(loaded, may_send=False)).standing is Standing.LOOKING
    assert loaded.records[0].look_at == NOON


def test_a_second_crew_waits_for_the_lease_and_then_asks_with_the_same_key_and_bytes():
    loaded = loaded_with(capture())
    first = begun(loaded)
    assert effects.prepare(context(loaded, NOON + 14 * SECOND)).standing is Standing.WAITING
    second = begun(loaded, NOON + 16 * SECOND)
    assert second.request == first.request
    assert second.fence == first.fence + 1
    assert "capture.attempt_lapsed" in topics(loaded)


def test_a_report_without_its_fence_changes_nothing_and_is_told():
    loaded = loaded_with(capture())
    first = begun(loaded)
    begun(loaded, NOON + 16 * SECOND)
    assert told(loaded, first, response(200, intent())).standing is Standing.LATE
    assert loaded.row.state == CaptureState.REQUESTED
    assert loaded.records[0].unreported >= 1
    assert topics(loaded)[-1] == "capture.late_answer"
    assert loaded.records[0].answer_status is None


def test_a_late_success_of_a_disproved_key_is_a_conflict():
    loaded = loaded_with(capture())
    first = begun(loaded)
    later = NOON + CALL_SETTINGS.timing.abandoned + SECOND
    loaded.records[0].look_only = True
    look = begun(loaded, later, look=True)
    absent = LookResult(Learned.ABSENT, intent(status="requires_capture", amount_received=0))
    assert told(loaded, look, absent, later).standing is Standing.AGAIN
    assert [record.state for record in loaded.records] == [RecordState.DISPROVED, RecordState.PLANNED]
    assert loaded.records[1].body == loaded.records[0].body
    assert loaded.records[1].key != loaded.records[0].key
    assert told(loaded, first, response(200, intent()), later).standing is Standing.CONFLICT
    assert effects.prepare(context(loaded, later)).standing is Standing.CONFLICT


def test_a_late_success_after_a_success_is_no_conflict():
    loaded = loaded_with(capture())
    first = begun(loaded)
    told(loaded, begun(loaded, NOON + 16 * SECOND), response(200, intent(), replayed=True))
    assert told(loaded, first, response(200, intent())).standing is Standing.LATE
    assert loaded.row.state == CaptureState.CAPTURED


# Holes that were found, each until it is mended.


def test_a_key_is_replaced_only_after_a_look_that_began_when_absence_was_mature():
    """Held after a look, released a day later: what was read before the last send had settled proves nothing."""
    loaded = loaded_with(capture())
    told(loaded, begun(loaded), NoAnswer("ReadTimeoutError"))
    look = begun(loaded, NOON + SECOND, look=True)
    absent = LookResult(Learned.ABSENT, intent(status="requires_capture", amount_received=0))
    told(loaded, look, absent, NOON + SECOND, may_send=False)
    result = effects.prepare(context(loaded, NOON + DAY))
    assert result.standing is Standing.LOOKING
    assert len(loaded.records) == 1


def test_a_slow_look_does_not_mature_while_it_is_being_read():
    loaded = loaded_with(capture())
    told(loaded, begun(loaded), NoAnswer("ReadTimeoutError"))
    loaded.records[0].look_only = True
    settled = NOON + timedelta(seconds=CALL_SETTINGS.timing.settle_s)
    look = begun(loaded, settled - 2 * SECOND, look=True)
    absent = LookResult(Learned.ABSENT, intent(status="requires_capture", amount_received=0))
    assert told(loaded, look, absent, settled + 2 * SECOND).standing is Standing.LOOKING
    assert len(loaded.records) == 1


def test_a_late_report_that_is_settled_twice_counts_once():
    """Its commit succeeded, and the answer to the commit was lost."""
    loaded = loaded_with(capture())
    first = begun(loaded)
    begun(loaded, NOON + 16 * SECOND)
    begun(loaded, NOON + 32 * SECOND)
    for _ in range(2):
        told(loaded, first, NoAnswer("reset"), NOON + 33 * SECOND)
    assert loaded.records[0].unreported >= 2


def test_a_conflict_stays_one_when_the_call_in_hand_comes_back():
    loaded = loaded_with(capture())
    first = begun(loaded)
    second = begun(loaded, NOON + 16 * SECOND)
    assert told(loaded, first, response(200, intent(id="pi_2"))).standing is Standing.CONFLICT
    assert told(loaded, second, response(200, intent())).standing is Standing.CONFLICT
    assert loaded.in_conflict


def test_an_operation_in_conflict_begins_no_next_step():
    """The second call of an invoice comes back while a disproved call of it turned out to have succeeded."""
    loaded = loaded_invoice()
    old = plan(loaded, ADD_LINES, CALL_SETTINGS)
    old.state, old.concluded_at = RecordState.CONFLICT, NOON
    record = plan(loaded, ADD_LINES, CALL_SETTINGS)
    operation = invoices.OPERATION
    call = effects._begin(context(loaded, operation=operation), record, ADD_LINES, looking=False).call
    assert call is not None
    result = told(loaded, call, response(200, invoice()))
    assert result.standing is Standing.CONFLICT
    assert result.call is None


def test_lines_that_were_only_refused_for_our_credentials_are_added_a_day_later():
    loaded = loaded_invoice()
    operation = invoices.OPERATION
    call = effects.prepare(context(loaded, operation=operation)).call
    assert call is not None
    assert told(loaded, call, error(401)).standing is Standing.MISCONFIGURED
    assert effects.prepare(context(loaded, NOON + DAY, operation=operation)).standing is Standing.LOOKING
    look = effects.prepare(context(loaded, NOON + DAY, operation=operation), look=True).call
    assert look is not None
    empty = invoice(subtotal=0, total=0, lines={"data": [], "has_more": False})
    report = effects.call(_Showing(empty), look, Budget(boot_clock() + 5, boot_clock() + 5))
    told(loaded, look, report.came_back, NOON + DAY)
    assert loaded.row.state == InvoiceState.DRAFTED


def test_an_invoice_that_was_refused_after_it_was_finalized_is_not_made_a_second_time():
    """Sending it was refused; it is open and payable. Made again, the customer has two."""
    loaded = loaded_invoice(state=InvoiceState.REFUSED, number="A-0001", reason="customer_has_no_email")
    list(invoices.reopen(loaded.row, actor="ops", reason="the address was added"))
    assert loaded.row.state == InvoiceState.FINALIZED
    assert loaded.row.stripe_invoice == "in_1"


def test_a_record_is_resent_under_the_api_version_it_was_first_sent_under():
    loaded = loaded_with(capture())
    begun(loaded)
    loaded.records[0].api_version = "2026-09-30.endive"
    assert getattr(request_of(loaded.records[0]), "api_version", None) == "2026-09-30.endive"


@pytest.mark.parametrize("step", [CAPTURE, READ_AUTHORIZATION], ids=lambda step: step.name)
@pytest.mark.parametrize("learned", [Learned.LOOK_UNANSWERED, Learned.UNPROVABLE])
def test_what_eight_looks_could_not_decide_is_told_once_and_looked_at_on(step: Step, learned: Learned):
    loaded = loaded_with(capture(authorized_minor=None if step is READ_AUTHORIZATION else 1999))
    operation = captures.OPERATION
    now, standings = NOON, []
    result = effects.prepare(context(loaded, now, operation=operation))
    if step is CAPTURE:
        assert result.call is not None
        told(loaded, result.call, error(500, replayed=True), now)
    for _ in range(20):
        if result.call is None or not result.call.looking:
            result = effects.prepare(context(loaded, now, operation=operation), look=True)
        assert result.call is not None
        result = told(loaded, result.call, LookResult(learned, why="status 500"), now)
        assert (result.call, loaded.row.state) == (None, CaptureState.REQUESTED)
        standings.append(result.standing)
        assert loaded.records[0].look_at is not None
        assert now < loaded.records[0].look_at <= now + timedelta(hours=1)
        now = loaded.records[0].look_at
    assert set(standings[10:]) == {Standing.PARKED}
    assert topics(loaded).count("capture.undecided") == 1


def test_a_draft_that_cannot_be_deleted_is_asked_for_four_times_and_then_told_once():
    """Each refusal is looked into, the draft is still there, and it is not tried for ever."""
    loaded = loaded_invoice(state=InvoiceState.LINES_DIFFER, reason="total_differs")
    operation, deletes = invoices.OPERATION, 0
    for _ in range(30):
        record = loaded.open_record
        look = record is not None and record.look_at is not None
        call = effects.prepare(context(loaded, NOON, operation=operation), look=look).call
        assert call is not None
        if call.looking:
            result = told(loaded, call, LookResult(Learned.ABSENT, invoice()))
        else:
            deletes += 1
            result = told(loaded, call, error(400))
    assert (deletes, result.standing) == (MAX_ROTATIONS + 1, Standing.PARKED)
    assert topics(loaded).count("invoice.undecided") == 1
    look = effects.prepare(context(loaded, NOON, operation=operation), look=True).call
    assert look is not None
    assert told(loaded, look, LookResult(Learned.FOUND_OURS)).standing is Standing.CONCLUDED
    assert loaded.row.state == InvoiceState.REFUSED


class _Showing:
    """A gateway that shows one object, and notes the budgets it was given."""

    livemode = False

    def __init__(self, shown: Any) -> None:
        self.shown, self.budgets = shown, []

    def send(self, request: Request, budget: Budget) -> Answer:
        self.budgets.append(budget)
        return response(200, self.shown)


def test_a_look_has_its_whole_budget():
    loaded = loaded_with(capture())
    begun(loaded)
    look = begun(loaded, NOON + 20 * SECOND, look=True)
    gateway = _Showing(intent())
    effects.call(gateway, look, Budget(not_after=boot_clock() + 10, over_at=boot_clock() + 30))
    assert all(budget.not_after >= budget.over_at for budget in gateway.budgets)
