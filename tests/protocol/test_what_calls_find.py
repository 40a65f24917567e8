"""Every state in which a call can find its object at Stripe has an end, played on the real steps and shown in the docs.

Each row is played as a look of a call whose answer was lost, after every send of it is over. The page
docs/states-at-stripe.md is compared with what came out.
"""

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe
from protocol_model import CALL_SETTINGS, INTENT, NOON, a_void, capture, error, intent, loaded_with, response
from test_answers import INVOICE, invoice, line, loaded_invoice, sent
from test_steps import ACCOUNT, NOT_FOUND, Script, event, page

from billing import captures, effects, invoices, voids
from billing.answers import read_answer
from billing.calls import Call, Report, Result, Standing
from billing.capture_places import EarlierCapture
from billing.capture_steps import CAPTURE, READ_AUTHORIZATION
from billing.duplicate_drafts import delete_duplicate, list_duplicates
from billing.effects import Context
from billing.gateway import Answer
from billing.invoice_charge_steps import PAY
from billing.invoice_draft_steps import CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.invoice_line_steps import ADD_LINES
from billing.learned import Learned
from billing.records import request_of
from billing.registration import Operation
from billing.states import RecordState
from billing.steps import LoadedOperation, Reader, Step
from billing.tables.entities import Capture, Invoice, Void
from billing.tables.idempotency_records import Record
from billing.void_steps import READ_HOLD, VOID

DOCS = Path(__file__).parents[2] / "docs" / "states-at-stripe.md"
LATER = NOON + timedelta(hours=2)

CALLS: dict[str, tuple[Step, str | None, Operation]] = {
    "read the authorization": (READ_AUTHORIZATION, None, captures.OPERATION),
    "capture": (CAPTURE, None, captures.OPERATION),
    "read what is held": (READ_HOLD, None, voids.OPERATION),
    "void": (VOID, None, voids.OPERATION),
    "capture, and keep the rest": (CAPTURE, None, captures.OPERATION),
    "read the authorization for a second part": (READ_AUTHORIZATION, None, captures.OPERATION),
    "read it, to keep the rest": (READ_AUTHORIZATION, None, captures.OPERATION),
    "capture a second part": (CAPTURE, None, captures.OPERATION),
    "create a draft": (CREATE, "requested", invoices.OPERATION),
    "list duplicate drafts": (list_duplicates("before_lines"), "drafted", invoices.OPERATION),
    "delete a duplicate draft": (delete_duplicate("in_2"), "drafted", invoices.OPERATION),
    "add lines": (ADD_LINES, "drafted", invoices.OPERATION),
    "finalize": (FINALIZE, "lines_added", invoices.OPERATION),
    "send": (SEND, "finalized", invoices.OPERATION),
    "charge": (PAY, "finalized", invoices.OPERATION),
    "delete the draft": (DELETE_DRAFT, "lines_differ", invoices.OPERATION),
}

FIRST_PART = EarlierCapture("cap_" + "9" * 32, 500, "captured")
OF_PARTS: dict[str, tuple[dict[str, Any], list[EarlierCapture]]] = {
    "capture, and keep the rest": ({"keeps_remainder": True}, []),
    "read it, to keep the rest": ({"keeps_remainder": True}, []),
    "read the authorization for a second part": ({"capture_no": 2}, [FIRST_PART]),
    "capture a second part": ({"capture_no": 2}, [FIRST_PART]),
}
"""What is special about these captures, and the earlier ones."""

# Ends, in the words of the page.
AGAIN = "asked again"
DELETED_AGAIN = "deleted again"
PERSON = "needs a decision"
WAITS = "looked at again; a person is told"
ONWARD = "the next step"


@dataclass(frozen=True)
class Row:
    call: str
    found: str
    end: str
    shown: Any = None
    """The object as Stripe shows it; None where there is none."""
    answers: Any = None
    """Further answers, by path."""

    def __str__(self) -> str:
        return f"{self.call}: {self.found}"


def _values(cls: type, field: str) -> Iterator[str]:
    """The values that the SDK's annotations know for this field."""
    for part in typing.get_args(cls.__annotations__[field]):
        yield from typing.get_args(part)


INTENT_STATUSES = tuple(_values(stripe.PaymentIntent, "status"))
CANCELLATIONS = tuple(_values(stripe.PaymentIntent, "cancellation_reason"))
INVOICE_STATUSES = tuple(_values(stripe.Invoice, "status"))
NOT_AUTHORIZED = ("requires_payment_method", "requires_confirmation", "requires_action")


def untouched(status: str, **more: Any) -> dict[str, Any]:
    return intent(**{"status": status, "amount_received": 0, "amount_capturable": 1999, "metadata": {}, **more})


def _of_captures() -> Iterator[Row]:
    for call in ("read the authorization", "capture"):
        reading = call == "read the authorization"
        for status in NOT_AUTHORIZED:
            yield Row(call, f"`{status}`", "refused", untouched(status))
        yield Row(call, "`processing`", WAITS, untouched("processing"))
        yield Row(call, "`requires_capture`", ONWARD if reading else AGAIN, untouched("requires_capture"))
        yield Row(
            call,
            "`requires_capture`, a part of it captured by somebody",
            "refused" if reading else PERSON,
            untouched("requires_capture", amount_received=500),
        )
        for why in CANCELLATIONS:
            end = "expired" if why in ("automatic", "expired") else "canceled"
            yield Row(call, f"`canceled`, `{why}`", end, untouched("canceled", cancellation_reason=why))
        yield Row(
            call,
            "a status that is not known",
            "refused" if reading else WAITS,
            untouched("requires_review"),
        )
        yield Row(call, "no such intent, the account is ours", "refused")
    yield Row(
        "read the authorization",
        "`requires_capture`, less than asked",
        "refused",
        untouched("requires_capture", amount_capturable=1998),
    )
    yield Row("read the authorization", "another currency", "refused", untouched("requires_capture", currency="eur"))
    yield Row("read the authorization", "`succeeded`", ONWARD, intent())
    yield Row("capture", "`succeeded`, ours", "captured", intent())
    yield Row("capture", "`succeeded`, our amount, of nobody we know", "captured", intent(metadata={}))
    yield Row("capture", "`succeeded`, another amount", PERSON, intent(amount_received=1998))
    yield Row("capture", "`succeeded`, another currency", PERSON, intent(currency="eur"))
    another = {"billing_operation": "cap_" + "9" * 32}
    yield Row("capture", "`succeeded`, for another operation of ours", PERSON, intent(metadata=another))
    yield Row("capture", "`canceled`, a part of it captured", PERSON, intent(status="canceled", amount_received=5))


def _of_voids() -> Iterator[Row]:
    def events(key: str | None) -> dict[str, Answer]:
        return {"/v1/events": page(event(INTENT, key))}

    for call in ("read what is held", "void"):
        reading = call == "read what is held"
        for status in ("requires_capture", *NOT_AUTHORIZED):
            yield Row(call, f"`{status}`", ONWARD if reading else AGAIN, untouched(status))
        yield Row(call, "`processing`", WAITS, untouched("processing"))
        yield Row(call, "`succeeded`, by a capture of ours", "refused", intent())
        yield Row(call, "`succeeded`, by somebody", "refused", intent(metadata={}))
        part = untouched("requires_capture", amount_received=500)
        yield Row(call, "`requires_capture`, a part of it captured", "refused", part)
        for why in CANCELLATIONS:
            lapsed, none = why in ("automatic", "expired"), {"/v1/events": page()}
            end = "expired" if lapsed else ONWARD + ", which finds by whom" if reading else "voided"
            yield Row(call, f"`canceled`, `{why}`", end, untouched("canceled", cancellation_reason=why), none)
        yield Row(call, "a status that is not known", ONWARD if reading else WAITS, untouched("requires_review"))
        yield Row(call, "no such intent, the account is ours", "refused")
    yield Row("void", "`canceled`, by us", "voided", untouched("canceled"), events("ours"))
    yield Row("void", "`canceled`, by somebody", "voided", untouched("canceled"), events(None))


def _of_parts() -> Iterator[Row]:
    keeping, second = "capture, and keep the rest", "capture a second part"
    open_for_more = untouched("requires_capture")
    yield Row(keeping, "`requires_capture`", AGAIN, open_for_more)
    yield Row(keeping, "`requires_capture`, ours", "captured", intent(status="requires_capture"))
    yield Row(
        keeping, "`requires_capture`, another amount", PERSON, intent(status="requires_capture", amount_received=5)
    )
    yield Row(keeping, "`succeeded`, ours", "captured", intent())
    yield Row(keeping, "`succeeded`, another amount", PERSON, intent(amount_received=1998))
    reading = "read the authorization for a second part"
    first = {"amount_received": 500, "metadata": {"billing_operation": FIRST_PART.id}}
    more = {"amount_received": 501}
    yield Row(reading, "`requires_capture`, the first part captured", ONWARD, {**open_for_more, **first})
    yield Row(reading, "`requires_capture`, more than the first part captured", "refused", {**open_for_more, **more})
    yield Row(reading, "`succeeded`, the first part captured, the rest released", "canceled", intent(**first))
    card = {"card": {"multicapture": {"status": "unavailable"}}}
    once = {**open_for_more, "latest_charge": {"payment_method_details": card}}
    yield Row("read it, to keep the rest", "`requires_capture`, only one capture is allowed", "refused", once)
    yield Row(second, "`requires_capture`, the first part captured", AGAIN, {**open_for_more, **first})
    yield Row(second, "`requires_capture`, more than the first part captured", PERSON, {**open_for_more, **more})
    yield Row(second, "`succeeded`, the first part captured, the rest released", "canceled", intent(**first))
    yield Row(second, "`succeeded`, ours", "captured", intent(amount_received=2499))
    yield Row(second, "`succeeded`, another amount", PERSON, intent(amount_received=2500))
    not_ours = {**first, "amount_received": 2499}
    yield Row(second, "`succeeded`, our amount, with the id of the first part", PERSON, intent(**not_ours))


def _listed(*shown: Any, events: tuple[Any, ...] = (), **more: Answer) -> dict[str, Answer]:
    return {"/v1/events": page(*events), "/v1/invoices": page(*shown), **more}


def _of_drafts() -> Iterator[Row]:
    one = {"/v1/invoices/in_1": response(200, invoice())}
    other = invoice(currency="eur")
    yield Row("create a draft", "a draft of ours", ONWARD, answers={**_listed(invoice()), **one})
    yield Row("create a draft", "neither an event with our key nor a draft of ours", AGAIN, answers=_listed())
    yield Row(
        "create a draft",
        "a draft of ours that is not as asked",
        AGAIN + "; the draft is deleted as a duplicate",
        answers={**_listed(other), "/v1/invoices/in_1": response(200, other)},
    )
    opened = invoice(currency="eur", status="open")
    yield Row(
        "create a draft",
        "an open invoice of ours that is not as asked",
        PERSON,
        answers={**_listed(opened), "/v1/invoices/in_1": response(200, opened)},
    )
    gone = {"/v1/invoices/in_1": NOT_FOUND, "/v1/account": ACCOUNT}
    yield Row("create a draft", "a draft of ours that is deleted", AGAIN, answers={**_listed(invoice()), **gone})
    nobody = {"/v1/invoices": error(400, code="resource_missing", param="customer"), "/v1/account": ACCOUNT}
    yield Row("create a draft", "no such customer", AGAIN, answers={**_listed(), **nobody})
    yield Row("list duplicate drafts", "none", ONWARD, answers={"/v1/invoices": page(invoice())})
    yield Row(
        "list duplicate drafts", "drafts of ours", "each is deleted", answers={"/v1/invoices": page(invoice(id="in_2"))}
    )
    yield Row("list duplicate drafts", "no such customer", ONWARD, answers=nobody)
    for call, its in (("delete a duplicate draft", "in_2"), ("delete the draft", "in_1")):
        done = ONWARD if its == "in_2" else "refused"
        yield Row(call, "gone", done)
        yield Row(call, "`draft`", DELETED_AGAIN, invoice(id=its))
        yield Row(call, "`void`", done, invoice(id=its, status="void"))
        for status in ("open", "paid", "uncollectible"):
            yield Row(call, f"`{status}`", PERSON, invoice(id=its, status=status))


def _of_lines() -> Iterator[Row]:
    def having(*lines: Any, **changes: Any) -> Any:
        total = sum(each["amount"] for each in lines)
        return invoice(
            **{"lines": {"data": list(lines), "has_more": False}, "subtotal": total, "total": total} | changes
        )

    foreign = {"id": "il_9", "object": "line_item", "amount": 100, "metadata": {}}
    yield Row("add lines", "`draft` with our lines", ONWARD, having(line(0, 100), line(1, 200)))
    yield Row("add lines", "`draft` without lines", AGAIN, having())
    yield Row(
        "add lines",
        "`draft` with lines of somebody",
        AGAIN + "; its total will differ, and it is deleted",
        having(foreign),
    )
    yield Row("add lines", "`draft` with some of our lines", PERSON, having(line(0, 100)))
    yield Row("add lines", "`draft` with our lines and others", PERSON, having(line(0, 100), line(1, 200), foreign))
    yield Row("add lines", "`draft` with our lines and a tax", PERSON, having(line(0, 100), line(1, 200), total=330))
    for status in ("open", "paid", "void", "uncollectible"):
        ours = having(line(0, 100), line(1, 200), status=status)
        yield Row("add lines", f"`{status}` with our lines", ONWARD + ", which finds it so", ours)
        yield Row("add lines", f"`{status}` without our lines", "refused", having(status=status))
        yield Row("add lines", f"`{status}` with some of our lines", PERSON, having(line(0, 100), status=status))
    yield Row("add lines", "gone", "refused")


def _of_finalized() -> Iterator[Row]:
    def events(key: str | None) -> dict[str, Answer]:
        return {"/v1/events": page(event("in_1", key))}

    none = {"/v1/events": page()}
    yield Row("finalize", "`draft`", AGAIN + "; a refused draft is deleted", invoice())
    yield Row("finalize", "`open`, by us", ONWARD, invoice(status="open"), events("ours"))
    yield Row("finalize", "`open`, by somebody or by Stripe", ONWARD, invoice(status="open"), events(None))
    yield Row("finalize", "`paid`", "paid", invoice(status="paid"), none)
    yield Row("send", "`draft`", PERSON, invoice())
    yield Row("send", "`open`, sent by us", "sent", invoice(status="open"), events("ours"))
    yield Row("send", "`open`, sent by somebody or by Stripe", "sent", invoice(status="open"), events(None))
    yield Row("send", "`open`, not sent", AGAIN, invoice(status="open"), none)
    yield Row("send", "`paid`, sent by us", "sent", invoice(status="paid"), events("ours"))
    yield Row("send", "`paid`, sent by somebody", "paid", invoice(status="paid"), events(None))
    yield Row("send", "`paid`, not sent", "paid", invoice(status="paid"), none)
    for call in ("finalize", "send", "charge"):
        early = call == "finalize"
        yield Row(call, "`void`", "refused" if early else "voided", invoice(status="void"))
        never = {"attempted": False, "attempt_count": 0}
        gone = invoice(status="uncollectible", **never)
        yield Row(call, "`uncollectible`", "refused" if early else "uncollectible", gone)
        yield Row(call, "another total", PERSON, invoice(status="open", total=330))
        yield Row(call, "another currency", PERSON, invoice(status="open", currency="eur"))
        yield Row(call, "gone", "refused")


def _of_charges() -> Iterator[Row]:
    def events(key: str | None) -> dict[str, Answer]:
        return {"/v1/events": page(event("in_1", key))}

    def tried(status: str = "open", intent: str = "requires_payment_method", **more: Any) -> dict[str, Any]:
        error = {"code": "card_declined", "decline_code": "lost_card"}
        payment = {"payment_intent": {"id": "pi_1", "status": intent, "last_payment_error": error}}
        payments = {"data": [{"status": "canceled", "payment": {}}, {"status": "open", "payment": payment}]}
        counted = {"attempted": True, "attempt_count": 1, "payments": payments}
        return invoice(status=status, **{**counted, **more})

    none = {"/v1/events": page()}
    yield Row("charge", "`draft`", PERSON, invoice())
    yield Row("charge", "`paid`, by us", "paid", invoice(status="paid"), events("ours"))
    yield Row("charge", "`paid`, by somebody", "paid", invoice(status="paid"), events(None))
    yield Row("charge", "`paid`, and no event says by whom", "paid", invoice(status="paid"), none)
    never = invoice(status="open", attempted=False, attempt_count=0)
    yield Row("charge", "`open`, and nobody has tried to charge it", AGAIN, never)
    yield Row("charge", "`open`, declined by our call", "unpaid", tried(), events("ours"))
    yield Row("charge", "`open`, declined by somebody's call", WAITS, tried(), events(None))
    yield Row("charge", "`open`, somebody has tried, and no event says who", WAITS, tried(), none)
    yield Row("charge", "`open`, and it does not say whether somebody has tried", WAITS, invoice(status="open"), none)
    yield Row("charge", "`open`, its payment is under way", "unpaid", tried(intent="processing"), none)
    confirm = tried(intent="requires_action", attempt_count=0)
    yield Row("charge", "`open`, the customer must confirm it", "unpaid", confirm, none)
    given_up = tried("uncollectible")
    yield Row("charge", "`uncollectible`, declined by our call", "uncollectible", given_up, events("ours"))


ROWS = [*_of_captures(), *_of_voids(), *_of_parts(), *_of_drafts(), *_of_lines(), *_of_finalized(), *_of_charges()]


def in_hand(row: Row) -> tuple[LoadedOperation, Step, Operation, Record]:
    """A call of this step, sent once; its answer said nothing."""
    step, state, operation = CALLS[row.call]
    known = None if step.only_looks else 1999
    if state:
        loaded = loaded_invoice(state=state)
    elif operation is voids.OPERATION:
        loaded = loaded_with(a_void(held_minor=known))
    else:
        changes, earlier = OF_PARTS.get(row.call, ({}, []))
        loaded = loaded_with(capture(authorized_minor=known, **changes))
        loaded.parts.extend(earlier)
    if state in ("requested", "drafted"):
        loaded.row.create_generation = None if state == "requested" else 1
    record = sent(loaded, step)
    record.lease_until = record.lease_s = None
    record.state, record.learned, record.look_only = RecordState.IN_DOUBT, Learned.ASK, True
    record.unreported, record.last_reported_at, record.answer_status = 0, NOON, 500
    return loaded, step, operation, record


def script(row: Row, record: Record) -> Script:
    path = "/v1/invoices/in_1" if CALLS[row.call][1] else f"/v1/payment_intents/{INTENT}"
    path = "/v1/invoices/in_2" if row.call == "delete a duplicate draft" else path
    answers: dict[str, Any] = {path: response(200, row.shown) if row.shown else NOT_FOUND, "/v1/account": ACCOUNT}
    further = {name: _with_our_key(answer, record.key) for name, answer in (row.answers or {}).items()}
    return Script({**answers, **further})


def _with_our_key(answer: Any, key: str) -> Any:
    for each in (answer.data or {}).get("data", ()):
        if each.get("object") == "event" and (each["request"] or {}).get("idempotency_key") == "ours":
            return page({**each, "request": {"id": "req_1", "idempotency_key": key}})
    return answer


def played(row: Row) -> tuple[str, LoadedOperation, Record, str]:
    """What a look makes of it: in the words of the page, with the case, the record and the reason."""
    loaded, step, operation, record = in_hand(row)
    record.looks = 8
    call = Call(record.id, operation, step, loaded, record.fence, request_of(record), True, 10, LATER, 30, "acct_1")
    record.lease_until, record.lease_s = LATER + CALL_SETTINGS.timing.lease, CALL_SETTINGS.timing.lease_s
    before, finding = loaded.row.state, step.look(loaded, Reader(script(row, record), "acct_1"), False)
    result = effects.settle(Context(operation, loaded, LATER, CALL_SETTINGS, may_send=True), Report(call, finding, 1))
    return _end(row, loaded, record, before, result), loaded, record, finding.why


def _end(row: Row, loaded: LoadedOperation, record: Record, before: str, result: Result) -> str:
    if result.standing is Standing.CONFLICT:
        return PERSON
    if result.standing is Standing.PARKED:
        return WAITS
    if record.state == RecordState.DISPROVED:
        return AGAIN
    if record.concluded_at is None:
        assert result.standing is Standing.AGAIN, result
        return DELETED_AGAIN if row.call.startswith("delete") else AGAIN
    if result.standing is Standing.CONCLUDED:
        return str(loaded.row.state)
    if row.call == "list duplicate drafts" and record.found_objects:
        return "each is deleted"
    assert result.call is not None
    assert loaded.row.state != before or isinstance(loaded.row, Capture | Void) or "duplicate" in row.call
    return ONWARD


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_whatever_a_call_finds_has_an_end(row: Row):
    end, *_ = played(row)
    assert row.end.startswith(end)


@pytest.mark.parametrize("row", [row for row in ROWS if row.end.startswith(PERSON)], ids=str)
def test_what_a_person_decides_names_the_field_that_differs_with_what_was_expected_and_found(row: Row):
    _, loaded, record, why = played(row)
    assert ": expected " in why, why
    assert ", found " in why, why
    assert record.conclusion == f"{record.learned}: {why}"
    conflict = loaded.facts[-1].payload
    assert (conflict["why"], conflict["differs"]) == (record.learned, why)


@pytest.mark.parametrize("row", [row for row in ROWS if row.shown and not CALLS[row.call][0].only_looks], ids=str)
@pytest.mark.parametrize("attached", [False, True], ids=["a success that shows it", "a refusal that shows it"])
def test_an_answer_that_shows_the_same_state_ends_it_in_the_same_way_or_is_looked_into(row: Row, attached: bool):
    loaded, step, operation, record = in_hand(row)
    record.learned, record.look_only = Learned.NOTHING, False
    before = loaded.row.state
    kind = "invoice" if isinstance(loaded.row, Invoice) else "payment_intent"
    answer = error(400, **{kind: row.shown}) if attached else response(200, row.shown)
    reading = read_answer(step, loaded, record, answer)
    assert reading.learned is not None
    if reading.learned is Learned.ASK:
        return
    record.lease_until, record.lease_s = LATER, CALL_SETTINGS.timing.lease_s
    call = Call(record.id, operation, step, loaded, record.fence, request_of(record), False, 10, NOON, 30, "acct_1")
    result = effects.settle(Context(operation, loaded, LATER, CALL_SETTINGS, may_send=True), Report(call, answer, 1))
    end = _end(row, loaded, record, before, result)
    if row.end.startswith(end) or end == PERSON:
        return
    if attached:
        # A refusal that shows an untouched intent is believed at once.
        assert (step in (CAPTURE, VOID), end, row.end) == (True, "refused", AGAIN)
    else:
        # A success is our own doing, whoever else might have done the same; lines that differ go with their draft.
        assert end in ("captured", "voided", "sent", "paid", ONWARD)


@pytest.mark.parametrize("status", INTENT_STATUSES)
@pytest.mark.parametrize("call", ["read the authorization", "capture", "read what is held", "void"])
def test_every_status_of_an_intent_that_the_sdk_knows_is_played(call: str, status: str):
    assert any(row.call == call and row.shown and row.shown["status"] == status for row in ROWS)


@pytest.mark.parametrize("status", INVOICE_STATUSES)
@pytest.mark.parametrize(
    "call", ["add lines", "finalize", "send", "charge", "delete a duplicate draft", "delete the draft"]
)
def test_every_status_of_an_invoice_that_the_sdk_knows_is_played(call: str, status: str):
    assert any(row.call == call and row.shown and row.shown["status"] == status for row in ROWS)


def test_the_page_shows_every_row():
    table = "\n".join(
        f"| {row.call} | {row.found} | {row.end} |" for row in sorted(ROWS, key=lambda r: [*CALLS].index(r.call))
    )
    assert table in DOCS.read_text(), f"docs/states-at-stripe.md should have:\n{table}"
    assert INVOICE.startswith("inv_")
