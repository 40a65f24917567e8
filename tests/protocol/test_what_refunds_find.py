"""What the calls of a refund ask and find, played on the real steps; docs/states-at-stripe.md shows the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from protocol_model import CALL_SETTINGS, NOON, error, loaded_with, response
from test_answers import sent
from test_steps import ACCOUNT, NOT_FOUND, Script, page

from billing import effects, refunds
from billing.answers import Kind, read_answer
from billing.calls import Call, Report, Standing
from billing.effects import Context
from billing.gateway import Answer
from billing.learned import Learned
from billing.records import request_of
from billing.refund_steps import OBSERVE, READ_PAYMENT
from billing.refund_steps import REFUND as MAKING
from billing.states import RecordState, RefundState
from billing.steps import LoadedOperation, Reader, Step
from billing.tables.entities import Refund
from billing.tables.idempotency_records import Record

DOCS = Path(__file__).parents[2] / "docs" / "states-at-stripe.md"
LATER = NOON + timedelta(hours=30)
REFUND = "ref_" + "0" * 32

PERSON = "needs a decision"
WAITS = "looked at again; a person is told"
AGAIN = "looked at again, for as long as it takes"


def refund_row(**changes: Any) -> Refund:
    values = {
        "id": REFUND,
        "account": None,
        "request_id": "return-1",
        "capture_id": "cap_" + "0" * 32,
        "payment_intent": "pi_1",
        "amount_minor": 500,
        "currency": "USD",
        "all_left": False,
        "refund_reason": None,
        "state": RefundState.REQUESTED,
        "stripe_refund": None,
        "version": 1,
        "correlation_id": None,
        "reason": None,
    }
    return Refund(**{**values, **changes})


def shown(**changes: Any) -> dict[str, Any]:
    """The refund as Stripe shows it: without `livemode`."""
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 500,
        "currency": "usd",
        "payment_intent": "pi_1",
        "charge": "ch_1",
        "status": "succeeded",
        "metadata": {"billing_operation": REFUND},
        **changes,
    }


def payment(left: int = 1999) -> Answer:
    charge = {"id": "ch_1", "object": "charge", "amount_captured": 1999, "amount_refunded": 1999 - left}
    return response(200, {"id": "pi_1", "object": "payment_intent", "livemode": False, "latest_charge": charge})


def listed(*found: Any, left: int = 1999) -> dict[str, Any]:
    return {"/v1/payment_intents/pi_1": payment(left), "/v1/refunds": page(*found)}


def paid_by(*payments: Any, left: int = 1999) -> dict[str, Any]:
    """The payments of the invoice, and what is left of each."""
    found = {"/v1/invoice_payments": page(*payments), "/v1/payment_intents/pi_1": payment(left)}
    second = {"id": "pi_2", "object": "payment_intent", "livemode": False, "latest_charge": None}
    return {**found, "/v1/payment_intents/pi_2": response(200, second)}


def a_payment(intent: str | None = "pi_1", minor: int = 1999, **changes: Any) -> dict[str, Any]:
    made = {"id": f"inpay_{intent}", "object": "invoice_payment", "amount_paid": minor, "invoice": "in_1"}
    by = {"payment_intent": intent, "type": "payment_intent"} if intent else {"type": "payment_record"}
    return {**made, "currency": "usd", "status": "paid", "livemode": False, "payment": by, **changes}


def by_itself(answer: Any) -> dict[str, Any]:
    return {"/v1/refunds/re_1": answer, "/v1/account": ACCOUNT}


@dataclass(frozen=True)
class Row:
    call: str
    found: str
    end: str
    answers: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.call}: {self.found}"


READ, MAKE, SEE = "read by which payment an invoice was paid", "make a refund", "observe a refund"
STATUSES = ("pending", "requires_action", "succeeded", "failed", "canceled")
ROWS = [
    Row(READ, "a payment of so much", "requested", paid_by(a_payment())),
    Row(READ, "two, and the first is too small", "requested", paid_by(a_payment("pi_2"), a_payment(minor=499))),
    Row(READ, "two, and too little is left of the first", "requested", paid_by(a_payment("pi_2"), a_payment(), left=9)),
    Row(READ, "payments that are each too small", "refused", paid_by(a_payment(minor=499), a_payment("pi_2", 1))),
    Row(READ, "a payment of which too little is left", "refused", paid_by(a_payment(), left=499)),
    Row(READ, "no payment", "refused", paid_by()),
    Row(READ, "a payment outside of Stripe", "refused", paid_by(a_payment(None))),
    Row(READ, "a payment in another currency", "refused", paid_by(a_payment(currency="eur"))),
    Row(READ, "a payment of another invoice", "refused", paid_by(a_payment(invoice="in_2"))),
    *(Row(MAKE, f"a refund of ours, `{status}`", status, listed(shown(status=status))) for status in STATUSES),
    Row(MAKE, "a refund of ours in a status that is not known", "pending", listed(shown(status="on_its_way"))),
    Row(MAKE, "a refund of ours on a later page", "succeeded", listed()),
    Row(MAKE, "no refund of ours, and enough is left of the payment", WAITS, listed(shown(metadata={}))),
    Row(MAKE, "no refund of ours, and too little is left of the payment", "refused", listed(left=499)),
    Row(MAKE, "two refunds of ours", PERSON, listed(shown(), shown(id="re_2"))),
    Row(MAKE, "a refund of ours of another amount", PERSON, listed(shown(amount=501))),
    Row(MAKE, "a refund of ours in another currency", PERSON, listed(shown(currency="eur"))),
    Row(MAKE, "no such payment", WAITS, {**listed(), "/v1/payment_intents/pi_1": NOT_FOUND, "/v1/account": ACCOUNT}),
    Row(SEE, "`pending`, as before", AGAIN, by_itself(response(200, shown(status="pending")))),
    *(
        Row(SEE, f"`{status}`", status, by_itself(response(200, shown(status=status))))
        for status in ("requires_action", "succeeded", "failed", "canceled")
    ),
    Row(SEE, "a status that is not known", AGAIN, by_itself(response(200, shown(status="on_its_way")))),
    Row(SEE, "another amount", PERSON, by_itself(response(200, shown(amount=501)))),
    Row(SEE, "gone", AGAIN, by_itself(NOT_FOUND)),
]
MORE = {"/v1/refunds": [page(shown(id="re_0", metadata={}), more=True), page(shown())]}


def in_hand(row: Row) -> tuple[LoadedOperation, Step, Record]:
    if row.call == READ:
        of = {"capture_id": None, "invoice_id": "inv_" + "0" * 32, "stripe_invoice": "in_1", "payment_intent": None}
        loaded = loaded_with(refund_row(**of))
        return loaded, READ_PAYMENT, sent(loaded, READ_PAYMENT)
    if row.call == SEE:
        loaded = loaded_with(refund_row(state=RefundState.PENDING, stripe_refund="re_1"))
        record = sent(loaded, OBSERVE)
        return loaded, OBSERVE, record
    loaded = loaded_with(refund_row())
    record = sent(loaded, MAKING)
    record.state, record.learned, record.look_only = RecordState.IN_DOUBT, Learned.ASK, True
    record.unreported, record.last_reported_at, record.answer_status = 0, NOON, 500
    return loaded, MAKING, record


def played(row: Row) -> tuple[str, LoadedOperation, Record]:
    loaded, step, record = in_hand(row)
    record.looks = 8
    record.lease_until, record.lease_s = LATER + CALL_SETTINGS.timing.lease, CALL_SETTINGS.timing.lease_s
    answers = {**row.answers, **(MORE if "later page" in row.found else {})}
    operation = refunds.OPERATION
    call = Call(record.id, operation, step, loaded, record.fence, request_of(record), True, 10, LATER, 30, "acct_1")
    finding = step.look(loaded, Reader(Script(answers), "acct_1"), False)
    result = effects.settle(Context(operation, loaded, LATER, CALL_SETTINGS, may_send=True), Report(call, finding, 1))
    if result.standing is Standing.CONFLICT:
        return PERSON, loaded, record
    if result.standing is Standing.PARKED:
        return WAITS, loaded, record
    return AGAIN if record.concluded_at is None else str(loaded.row.state), loaded, record


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_whatever_a_call_of_a_refund_finds_has_an_end(row: Row) -> None:
    end, loaded, record = played(row)
    assert end == row.end
    # [70] Whatever it finds, no second generation of the call that moves money is made.
    assert len(loaded.generations("refund")) <= 1
    assert record.state != RecordState.DISPROVED


def test_the_page_shows_every_row_of_refunds() -> None:
    table = "\n".join(f"| {row.call} | {row.found} | {row.end} |" for row in ROWS)
    assert table in DOCS.read_text(), f"docs/states-at-stripe.md should have:\n{table}"


def test_a_look_reads_what_is_left_before_the_list_so_that_no_refund_falls_in_between() -> None:
    loaded, step, _ = in_hand(next(row for row in ROWS if row.call == MAKE))
    script = Script(listed())
    step.look(loaded, Reader(script), False)
    assert [path.partition("?")[0] for path in script.asked] == ["/v1/payment_intents/pi_1", "/v1/refunds"]


def test_a_look_that_cannot_be_finished_says_nothing() -> None:
    loaded, step, _ = in_hand(next(row for row in ROWS if row.call == MAKE))
    answers = {**listed(), "/v1/refunds": [page(shown(metadata={}), more=True), error(500)]}
    assert step.look(loaded, Reader(Script(answers)), False).learned is Learned.LOOK_UNANSWERED


def test_a_key_past_its_horizon_is_never_sent_again_and_no_other_is_made() -> None:
    """[11, 70] A year later it is still the first key, and nothing but looks."""
    row = next(each for each in ROWS if each.end == WAITS)
    end, loaded, record = played(row)
    for days in (1, 30, 365):
        now = LATER + timedelta(days=days)
        record.lease_until = record.lease_s = None
        context = Context(refunds.OPERATION, loaded, now, CALL_SETTINGS, may_send=True)
        result = effects.prepare(context)
        assert result.standing is Standing.PARKED
        assert result.call is None
    assert (end, len(loaded.records)) == (WAITS, 1)


# The request, and answers to it.


def test_a_refund_asks_for_its_payment_amount_reason_and_metadata() -> None:
    loaded = loaded_with(refund_row(refund_reason="duplicate"))
    ask = MAKING.ask(loaded)
    digest = ask.parameters["metadata"]["billing_request"]
    assert (ask.method, ask.path, ask.provider_object) == ("POST", "/v1/refunds", "pi_1")
    assert ask.parameters == {
        "payment_intent": "pi_1",
        "amount": 500,
        "metadata": {"billing_operation": REFUND, "billing_capture": loaded.row.capture_id, "billing_request": digest},
        "reason": "duplicate",
    }
    assert "reason" not in MAKING.ask(loaded_with(refund_row())).parameters


ANSWERS: list[tuple[str, Answer, int, Kind, Learned | None]] = [
    ("made", response(200, shown()), 1, Kind.LEARNED, Learned.SUCCEEDED),
    ("made, and pending", response(200, shown(status="pending")), 1, Kind.LEARNED, Learned.SUCCEEDED),
    ("replayed", response(200, shown(), replayed=True), 2, Kind.LEARNED, Learned.SUCCEEDED),
    ("of another payment", response(200, shown(payment_intent="pi_2")), 1, Kind.LEARNED, Learned.MISMATCH),
    ("of another amount", response(200, shown(amount=1)), 1, Kind.LEARNED, Learned.MISMATCH),
    ("of somebody else", response(200, shown(metadata={})), 1, Kind.LEARNED, Learned.MISMATCH),
    ("refunded already", error(400, code="charge_already_refunded"), 1, Kind.LEARNED, Learned.REFUSED),
    ("more than is left", error(400, param="amount"), 1, Kind.LEARNED, Learned.REFUSED),
    ("our balance is too low", error(400, code="balance_insufficient"), 1, Kind.LEARNED, Learned.REFUSED),
    ("disputed", error(400, code="charge_disputed"), 1, Kind.LEARNED, Learned.REFUSED),
    # After a send that was not answered, the refund that is in the way may be our own.
    ("refunded already, maybe by us", error(400, code="charge_already_refunded"), 2, Kind.LEARNED, Learned.ASK),
    ("more than is left, maybe by us", error(400, param="amount"), 2, Kind.LEARNED, Learned.ASK),
    ("a 500", error(500), 1, Kind.NO_ANSWER, None),
    ("no such payment", error(404, code="resource_missing"), 1, Kind.LEARNED, Learned.ASK),
]


@pytest.mark.parametrize(
    ("answer", "sends", "kind", "learned"), [each[1:] for each in ANSWERS], ids=[each[0] for each in ANSWERS]
)
def test_the_table_of_answers_to_a_refund(answer: Answer, sends: int, kind: Kind, learned: Learned | None) -> None:
    loaded = loaded_with(refund_row())
    reading = read_answer(MAKING, loaded, sent(loaded, MAKING, sends), answer)
    assert (reading.kind, reading.learned) == (kind, learned)


def test_only_a_kind_of_object_without_a_mode_may_leave_it_out() -> None:
    loaded = loaded_with(refund_row())
    record = sent(loaded, MAKING)
    answer = response(200, shown())
    assert read_answer(MAKING, loaded, record, answer).learned is Learned.SUCCEEDED
    strict = replace(MAKING, names_mode=True)
    assert read_answer(strict, loaded, record, answer).learned is Learned.MISMATCH


@pytest.mark.parametrize("state", RefundState)
def test_what_stripe_shows_never_moves_a_refund_backward(state: RefundState) -> None:
    for status in STATUSES:
        loaded = loaded_with(refund_row(state=state, stripe_refund="re_1"))
        OBSERVE.apply(loaded, Learned.SUCCEEDED, shown(status=status), "")
        assert loaded.row.state == state or (state, loaded.row.state) in loaded.row.life.legal
    assert refunds.next_step(loaded_with(refund_row(state=state))) == {
        RefundState.REQUESTED: MAKING,
        RefundState.PENDING: OBSERVE,
        RefundState.REQUIRES_ACTION: OBSERVE,
    }.get(state)
