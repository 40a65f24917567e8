"""What each answer to a send means: the table of answers, row by row, for captures and every invoice step."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cases import case
from protocol_model import CALL_SETTINGS, INTENT, NOON, capture, error, intent, loaded_with, response

from billing.answers import Kind, Reading, read_answer
from billing.capture_steps import CAPTURE
from billing.gateway import Answer, NoAnswer, NotSent
from billing.invoice_draft_steps import CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.invoice_line_steps import ADD_LINES
from billing.learned import Learned
from billing.records import learn_from_answer, learn_from_look, mark_sent, plan
from billing.states import InvoiceState
from billing.steps import LoadedOperation, LookResult, Step
from billing.tables.entities import Invoice, InvoiceLine
from billing.tables.idempotency_records import Record
from billing.timing import PRODUCTION, SHORT

INVOICE = "inv_" + "1" * 32


def invoice_row(**changes: Any) -> Invoice:
    values = {
        "id": INVOICE,
        "account": None,
        "request_id": "order-1",
        "customer": "cus_1",
        "currency": "USD",
        "total_minor": 300,
        "days_until_due": 30,
        "state": InvoiceState.DRAFTED,
        "stripe_invoice": "in_1",
        "create_generation": 1,
        "version": 1,
        "correlation_id": None,
        "reason": None,
        "number": None,
    }
    return Invoice(**{**values, **changes})


def loaded_invoice(**changes: Any) -> LoadedOperation:
    loaded = loaded_with(invoice_row(**changes))
    loaded.parts = [
        InvoiceLine(invoice_id=INVOICE, position=position, description="work", amount_minor=amount)
        for position, amount in enumerate((100, 200))
    ]
    return loaded


def line(position: int, amount: int, operation: str = INVOICE) -> dict[str, Any]:
    metadata = {"billing_operation": operation, "billing_line": str(position)}
    return {"id": f"il_{position}", "object": "line_item", "amount": amount, "metadata": metadata}


def invoice(**changes: Any) -> dict[str, Any]:
    """The invoice as Stripe shows it with our lines."""
    shown: dict[str, Any] = {
        "id": "in_1",
        "object": "invoice",
        "livemode": False,
        "customer": "cus_1",
        "currency": "usd",
        "status": "draft",
        "subtotal": 300,
        "total": 300,
        "number": None,
        "metadata": {"billing_operation": INVOICE},
        "lines": {"object": "list", "has_more": False, "data": [line(0, 100), line(1, 200)]},
    }
    return {**shown, **changes}


def sent(loaded: LoadedOperation, step: Step, times: int = 1) -> Record:
    """A record of this step whose sends have not been answered."""
    record = plan(loaded, step, CALL_SETTINGS)
    for _ in range(times):
        mark_sent(record, NOON, PRODUCTION, step, looking=False)
    return record


def read(step: Step, answer: Answer, *, times: int = 1, loaded: LoadedOperation | None = None) -> Reading:
    loaded = loaded or (loaded_with(capture()) if step is CAPTURE else loaded_invoice())
    return read_answer(step, loaded, sent(loaded, step, times), answer)


# 2xx, for every step.

OTHER_MODE = {"livemode": True}
SUCCESSES: list[tuple[str, Step, Any, Learned]] = [
    ("captured as asked", CAPTURE, intent(), Learned.SUCCEEDED),
    ("captured, still processing", CAPTURE, intent(status="processing", amount_received=0), Learned.ASK),
    ("still to be captured", CAPTURE, intent(status="requires_capture", amount_received=0), Learned.ASK),
    ("a status of tomorrow", CAPTURE, intent(status="requires_review"), Learned.ASK),
    ("another intent", CAPTURE, intent(id="pi_2"), Learned.MISMATCH),
    ("another object", CAPTURE, intent(object="setup_intent"), Learned.MISMATCH),
    ("another mode", CAPTURE, intent(**OTHER_MODE), Learned.MISMATCH),
    ("mode as a number", CAPTURE, intent(livemode=0), Learned.MISMATCH),
    ("another currency", CAPTURE, intent(currency="eur"), Learned.MISMATCH),
    ("our currency in capitals", CAPTURE, intent(currency="USD"), Learned.MISMATCH),
    ("one cent more", CAPTURE, intent(amount_received=2000), Learned.MISMATCH),
    ("one cent less", CAPTURE, intent(amount_received=1998), Learned.MISMATCH),
    ("an amount as text", CAPTURE, intent(amount_received="1999"), Learned.MISMATCH),
    ("an amount as a float", CAPTURE, intent(amount_received=1999.0), Learned.MISMATCH),
    ("an empty object", CAPTURE, {}, Learned.MISMATCH),
    ("an error with status 200", CAPTURE, {"error": {"code": "x"}}, Learned.MISMATCH),
    ("a draft of ours", CREATE, invoice(), Learned.SUCCEEDED),
    ("a draft of another customer", CREATE, invoice(customer="cus_2"), Learned.MISMATCH),
    ("a draft of another operation", CREATE, invoice(metadata={"billing_operation": "inv_2"}), Learned.MISMATCH),
    ("a draft of nobody", CREATE, invoice(metadata={}), Learned.MISMATCH),
    ("a draft without metadata", CREATE, invoice(metadata=None), Learned.MISMATCH),
    ("a draft in another currency", CREATE, invoice(currency="eur"), Learned.MISMATCH),
    ("a draft without an id", CREATE, invoice(id=None), Learned.MISMATCH),
    ("a draft in another mode", CREATE, invoice(**OTHER_MODE), Learned.MISMATCH),
    ("our lines", ADD_LINES, invoice(), Learned.SUCCEEDED),
    ("our lines on another invoice", ADD_LINES, invoice(id="in_2"), Learned.MISMATCH),
    ("not all lines shown", ADD_LINES, invoice(lines={"data": [], "has_more": True}), Learned.ASK),
    ("no longer a draft", ADD_LINES, invoice(status="open"), Learned.ASK),
    ("one line missing", ADD_LINES, invoice(lines={"data": [line(0, 100)], "has_more": False}), Learned.REFUSED),
    (
        "a line too many",
        ADD_LINES,
        invoice(lines={"data": [line(0, 100), line(1, 200), line(1, 200)], "has_more": False}),
        Learned.REFUSED,
    ),
    (
        "a line of somebody else",
        ADD_LINES,
        invoice(lines={"data": [line(0, 100), line(1, 200, "inv_2")], "has_more": False}),
        Learned.REFUSED,
    ),
    (
        "amounts exchanged",
        ADD_LINES,
        invoice(lines={"data": [line(0, 200), line(1, 100)], "has_more": False}),
        Learned.REFUSED,
    ),
    ("a tax on top", ADD_LINES, invoice(total=330), Learned.REFUSED),
    ("a total as text", ADD_LINES, invoice(total="300"), Learned.REFUSED),
    ("lines in another currency", ADD_LINES, invoice(currency="eur"), Learned.REFUSED),
    ("finalized", FINALIZE, invoice(status="open"), Learned.SUCCEEDED),
    ("finalized and paid", FINALIZE, invoice(status="paid"), Learned.SUCCEEDED),
    ("not finalized", FINALIZE, invoice(status="draft"), Learned.ASK),
    ("finalized with another total", FINALIZE, invoice(status="open", total=301), Learned.MISMATCH),
    ("another invoice finalized", FINALIZE, invoice(status="open", id="in_2"), Learned.MISMATCH),
    ("sent", SEND, invoice(status="open"), Learned.SUCCEEDED),
    ("sent, but a draft", SEND, invoice(status="draft"), Learned.ASK),
    ("sent with another currency", SEND, invoice(status="open", currency="eur"), Learned.MISMATCH),
    ("deleted", DELETE_DRAFT, {"id": "in_1", "object": "invoice", "deleted": True}, Learned.SUCCEEDED),
    ("another one deleted", DELETE_DRAFT, {"id": "in_2", "object": "invoice", "deleted": True}, Learned.MISMATCH),
    ("deleted is a number", DELETE_DRAFT, {"id": "in_1", "object": "invoice", "deleted": 1}, Learned.MISMATCH),
]


@pytest.mark.parametrize(("step", "body", "learned"), [pytest.param(*row[1:], id=row[0]) for row in SUCCESSES])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_success_counts_only_as_exactly_what_was_asked(step: Step, body: Any, learned: Learned, status: int):
    """[47, 52]"""
    reading = read(step, response(status, body))
    assert (reading.kind, reading.learned) == (Kind.LEARNED, learned)


def test_true_is_not_one():
    row = capture(amount_minor=1)
    reading = read(CAPTURE, response(200, intent(amount_received=True)), loaded=loaded_with(row))
    assert reading.learned is Learned.MISMATCH
    assert read(CAPTURE, response(200, intent(amount_received=1)), loaded=loaded_with(row)).learned is Learned.SUCCEEDED


def test_a_replayed_success_is_definite_where_it_shows_what_matters_and_is_read_again_where_not():
    """[62]"""
    assert read(CAPTURE, response(200, intent(), replayed=True)).learned is Learned.SUCCEEDED
    assert read(FINALIZE, response(200, invoice(status="open"), replayed=True)).learned is Learned.SUCCEEDED
    # Adding lines is compared with what is there now, not with an old snapshot.
    assert read(ADD_LINES, response(200, invoice(), replayed=True)).learned is Learned.ASK
    assert read(ADD_LINES, response(200, invoice(id="in_2"), replayed=True)).learned is Learned.MISMATCH


def test_an_object_that_hides_its_mode_is_not_ours():
    shown = intent()
    del shown["livemode"]
    assert read(CAPTURE, response(200, shown)).learned is Learned.MISMATCH


# Everything else, row by row: (answer, kind, learned) for the first send, and for one after an unanswered send.

LEARNED, NO_ANSWER, THROTTLED = Kind.LEARNED, Kind.NO_ANSWER, Kind.THROTTLED
STATE = {"code": "payment_intent_unexpected_state"}
ROWS: list[tuple[str, Answer, Kind, Learned | None, Learned | None]] = [
    ("declined", error(402, type="card_error", code="card_declined"), LEARNED, Learned.DECLINED, Learned.DECLINED),
    ("replayed decline", error(402, replayed=True), LEARNED, Learned.DECLINED, Learned.DECLINED),
    ("key reused", error(400, type="idempotency_error"), LEARNED, Learned.ASK, Learned.ASK),
    ("state without an object", error(400, **STATE), LEARNED, Learned.ASK, Learned.ASK),
    ("state that shows the effect", error(400, payment_intent=intent(), **STATE), LEARNED, Learned.ASK, Learned.ASK),
    (
        "state of another object",
        error(400, payment_intent=intent(id="pi_2", status="canceled", amount_received=0), **STATE),
        LEARNED,
        Learned.ASK,
        Learned.ASK,
    ),
    (
        "canceled",
        error(400, payment_intent=intent(status="canceled", amount_received=0), **STATE),
        LEARNED,
        Learned.CANCELED,
        Learned.CANCELED,
    ),
    (
        "lapsed",
        error(
            400,
            payment_intent=intent(status="canceled", amount_received=0, cancellation_reason="automatic"),
            **STATE,
        ),
        LEARNED,
        Learned.EXPIRED,
        Learned.EXPIRED,
    ),
    (
        "canceled after a part was taken",
        error(400, payment_intent=intent(status="canceled", amount_received=5), **STATE),
        LEARNED,
        Learned.ASK,
        Learned.ASK,
    ),
    (
        "charge expired",
        error(
            400,
            code="charge_expired_for_capture",
            payment_intent=intent(status="requires_capture", amount_received=0),
        ),
        LEARNED,
        Learned.EXPIRED,
        Learned.EXPIRED,
    ),
    (
        "too much",
        error(400, code="amount_too_large", payment_intent=intent(status="requires_capture", amount_received=0)),
        LEARNED,
        Learned.REFUSED,
        Learned.REFUSED,
    ),
    (
        "being processed",
        error(400, payment_intent=intent(status="processing", amount_received=0), **STATE),
        LEARNED,
        Learned.ASK,
        Learned.ASK,
    ),
    ("neither code nor parameter", error(400), LEARNED, Learned.ASK, Learned.ASK),
    ("bad parameter", error(400, code="parameter_unknown", param="x"), LEARNED, Learned.REFUSED, Learned.ASK),
    ("parameter without a code", error(400, param="amount"), LEARNED, Learned.REFUSED, Learned.ASK),
    ("no such intent", error(404, code="resource_missing"), LEARNED, Learned.ASK, Learned.ASK),
    ("expired api key", error(401, code="api_key_expired"), Kind.MISCONFIGURED, None, None),
    ("not permitted", error(403), Kind.MISCONFIGURED, None, None),
    ("key in use", error(409, code="idempotency_key_in_use"), THROTTLED, None, None),
    ("another conflict", error(409, code="lock_timeout"), NO_ANSWER, None, None),
    ("rate limit", error(429, code="rate_limit"), THROTTLED, None, None),
    ("lock timeout", error(429, code="lock_timeout"), THROTTLED, None, None),
    ("replayed lock timeout", error(429, code="lock_timeout", replayed=True), NO_ANSWER, None, None),
    ("server error", error(500, type="api_error"), NO_ANSWER, None, None),
    ("replayed server error", error(500, replayed=True), NO_ANSWER, None, None),
    ("bad gateway", response(502, None, body=b"<html>"), NO_ANSWER, None, None),
    ("unavailable", error(503), NO_ANSWER, None, None),
    ("timeout there", error(408), NO_ANSWER, None, None),
    ("dependency", error(424), NO_ANSWER, None, None),
    ("redirect", response(307, None, body=b""), NO_ANSWER, None, None),
    ("moved", response(301, None, body=b""), NO_ANSWER, None, None),
    ("gone", error(410), NO_ANSWER, None, None),
    ("unprocessable", error(422), NO_ANSWER, None, None),
    ("no content", response(204, None, body=b""), NO_ANSWER, None, None),
    ("a page with status 200", response(200, None, body=b"<html>"), NO_ANSWER, None, None),
    ("a list with status 200", response(200, None, body=b"[]"), NO_ANSWER, None, None),
    ("continue", response(100, None, body=b""), NO_ANSWER, None, None),
    ("a status of tomorrow", response(799, None, body=b""), NO_ANSWER, None, None),
    ("a network error", NoAnswer("ReadTimeoutError"), NO_ANSWER, None, None),
    ("too late", NotSent("too late to start"), Kind.NOT_SENT, None, None),
]


@pytest.mark.parametrize(("answer", "kind", "first", "later"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_the_table_of_answers_to_a_capture(answer: Answer, kind: Kind, first: Learned | None, later: Learned | None):
    """[6, 13, 86]"""
    for times, learned in ((1, first), (2, later)):
        reading = read(CAPTURE, answer, times=times)
        assert (reading.kind, reading.learned) == (kind, learned), times


def test_every_status_has_a_reading():
    for status in range(100, 600):
        for data in (None, {}, {"error": {}}, {"error": "text"}, {"error": {"code": 5, "type": None}}):
            with case(status, data):
                assert isinstance(read(CAPTURE, response(status, data)), Reading)


@pytest.mark.parametrize("step", [ADD_LINES, FINALIZE, SEND, DELETE_DRAFT], ids=lambda step: step.name)
def test_a_404_about_an_invoice_that_was_there_is_looked_at(step: Step):
    assert read(step, error(404, code="resource_missing")).learned is Learned.ASK


@pytest.mark.parametrize("step", [FINALIZE, SEND], ids=lambda step: step.name)
@pytest.mark.parametrize(
    ("status", "learned"),
    [("void", Learned.REFUSED), ("uncollectible", Learned.REFUSED), ("open", Learned.ASK), ("paid", Learned.ASK)],
)
def test_a_refusal_about_an_invoice_is_definite_only_when_its_state_excludes_us(
    step: Step, status: str, learned: Learned
):
    assert read(step, error(400, invoice=invoice(status=status))).learned is learned


@pytest.mark.parametrize("step", [ADD_LINES, FINALIZE, SEND], ids=lambda step: step.name)
def test_a_400_without_an_object_is_looked_at_for_every_step_of_an_invoice(step: Step):
    """Stripe says "already finalized" without a code and without the invoice."""
    assert read(step, error(400)).learned is Learned.ASK


NO_EMAIL = error(400)
"""What Stripe says of a customer without an address: neither a code, nor a parameter, nor an object."""


@pytest.mark.parametrize(
    ("answer", "times", "kind", "learned"),
    [
        pytest.param(NO_EMAIL, 1, Kind.LEARNED, Learned.REFUSED, id="the first send"),
        pytest.param(error(400, code="invoice_not_editable"), 1, Kind.LEARNED, Learned.REFUSED, id="of some state"),
        pytest.param(NO_EMAIL, 2, Kind.LEARNED, Learned.ASK, id="an answer was lost before"),
        pytest.param(replace(NO_EMAIL, replayed=True), 1, Kind.LEARNED, Learned.ASK, id="a replay"),
        pytest.param(error(400, type="idempotency_error"), 1, Kind.LEARNED, Learned.ASK, id="another's key"),
        pytest.param(response(400, {"message": "no"}), 1, Kind.NO_ANSWER, None, id="a proxy's"),
    ],
)
def test_a_400_refuses_what_would_be_created_only_where_nothing_was_sent_before(
    answer: Answer, times: int, kind: Kind, learned: Learned | None
):
    reading = read(CREATE, answer, times=times)
    assert (reading.kind, reading.learned) == (kind, learned)


def test_only_what_makes_a_new_object_is_refused_so():
    creating = [step.name for step in (CAPTURE, CREATE, ADD_LINES, FINALIZE, SEND, DELETE_DRAFT) if step.creates]
    assert creating == ["create"]
    assert CREATE.ask(loaded_invoice()).provider_object is None


def test_a_refusal_names_the_parameter_that_it_is_about():
    reading = read(CAPTURE, error(400, code="parameter_invalid_integer", param="amount_to_capture"))
    assert reading.why == "parameter_invalid_integer: amount_to_capture"


# Outcomes are Stripe's to tell: a proxy's page is nobody's decision.


@pytest.mark.parametrize("status", [402, 404])
def test_a_page_of_a_proxy_declines_and_refuses_nothing(status: int):
    reading = read(CAPTURE, response(status, None, body=b"<html>payment required for this network</html>"))
    assert reading.learned in (None, Learned.ASK)


def test_a_404_about_an_intent_that_was_read_before_is_looked_at():
    """A key of another account gets 404 for everything; the account has to be asked first."""
    loaded = loaded_with(capture())
    loaded.records.append(
        Record(
            step="read_authorization", generation=1, key="k", concluded_at=NOON, state="answered", learned="succeeded"
        )
    )
    assert read(CAPTURE, error(404, code="resource_missing"), loaded=loaded).learned is Learned.ASK


# What is remembered of it.


def learned_record(answer: Answer, *, times: int = 1, step: Step = CAPTURE) -> Record:
    loaded = loaded_with(capture()) if step is CAPTURE else loaded_invoice()
    record = sent(loaded, step, times)
    learn_from_answer(record, read_answer(step, loaded, record, answer), NOON)
    return record


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_only_what_was_surely_not_executed_is_taken_off_the_unanswered_sends(row: Any):
    _, answer, kind, *_ = row
    executed = kind not in (Kind.THROTTLED, Kind.MISCONFIGURED, Kind.NOT_SENT)
    assert learned_record(answer, times=2).unanswered == (2 if executed else 1)


def test_a_success_that_is_not_the_end_is_never_sent_again():
    record = learned_record(response(200, intent(status="processing", amount_received=0)), times=2)
    assert (record.learned, record.look_only, record.unanswered) == (Learned.ASK, True, 2)


def test_a_replay_of_the_success_says_that_the_lines_were_added_and_only_their_sum_is_open():
    record = learned_record(response(200, invoice(), replayed=True), times=2, step=ADD_LINES)
    assert (record.learned, record.look_only, record.unanswered) == (Learned.ASK, True, 0)


def test_only_server_errors_count_as_server_errors():
    counted = {row[0] for row in ROWS if learned_record(row[1]).server_errors}
    assert counted == {
        "server error",
        "replayed server error",
        "bad gateway",
        "unavailable",
        "a status of tomorrow",
    }


def test_what_replays_an_error_is_never_sent_again():
    for row in ROWS:
        record = learned_record(row[1])
        replayed = getattr(row[1], "replayed", False)
        assert record.replayed == (replayed and row[2] is not Kind.THROTTLED)
        if replayed and row[2] is Kind.NO_ANSWER:
            assert record.look_only
    # Once replayed, always replayed: a later answer does not make the key young again.
    loaded = loaded_with(capture())
    record = sent(loaded, CAPTURE, 2)
    for answer in (error(500, replayed=True), NoAnswer("reset")):
        learn_from_answer(record, read_answer(CAPTURE, loaded, record, answer), NOON)
    assert record.replayed
    assert record.look_only


def test_a_look_counts_and_teaches_and_changes_no_send():
    loaded = loaded_with(capture())
    record = sent(loaded, CAPTURE, 2)
    learn_from_answer(record, read_answer(CAPTURE, loaded, record, NoAnswer("reset")), NOON)
    mark_sent(record, NOON, SHORT, CAPTURE, looking=True)
    learn_from_look(loaded, record, LookResult(Learned.ABSENT), began_at=NOON, took_ms=1)
    assert (record.learned, record.looks, record.unanswered, record.look_only) == (Learned.ABSENT, 1, 2, False)


def test_the_capture_is_asked_for_in_the_same_bytes_every_time():
    loaded = loaded_with(capture())
    ask = CAPTURE.ask(loaded)
    assert (ask.method, ask.path) == ("POST", f"/v1/payment_intents/{INTENT}/capture")
    request = hashlib.sha256(b"billing request order-1").hexdigest()[:32]
    ids = f"metadata[billing_operation]={loaded.row.id}&metadata[billing_request]={request}"
    assert ask.body == f"amount_to_capture=1999&{ids}"
    assert CAPTURE.ask(loaded).body == ask.body
