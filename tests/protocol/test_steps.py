"""What each step sees when it looks at Stripe: scripted answers by path, page by page."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from protocol_model import INTENT, NOON, capture, error, intent, loaded_with, response
from test_answers import INVOICE, invoice, line, loaded_invoice, sent

from billing import invoices, probes
from billing.capture_steps import CAPTURE, READ_AUTHORIZATION
from billing.duplicate_drafts import delete_duplicate, duplicates_step, list_duplicates
from billing.gateway import Answer, NoAnswer
from billing.invoice_draft_steps import CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.invoice_line_steps import ADD_LINES
from billing.learned import Learned
from billing.states import CaptureState, SwitchState
from billing.steps import LoadedOperation, LookResult, Reader, Step
from billing.tables.entities import Switch
from billing.tables.idempotency_records import Record

PATH = f"/v1/payment_intents/{INTENT}"
ACCOUNT = response(200, {"id": "acct_1", "object": "account"})
NOT_FOUND = error(404, code="resource_missing")
OURS = {"billing_operation": INVOICE}


class Script:
    """Answers by path, without the query; a list of answers is given one after the other."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = {path: list(each) if isinstance(each, list) else each for path, each in answers.items()}
        self.asked: list[str] = []

    def __call__(self, path: str) -> Answer:
        self.asked.append(path)
        answer = self._answers[path.partition("?")[0]]
        return answer.pop(0) if isinstance(answer, list) else answer


def looked(step: Step, loaded: LoadedOperation, answers: Mapping[str, Any]) -> LookResult:
    return step.look(loaded, Reader(Script(answers)), False)


def page(*items: Any, more: bool = False) -> Answer:
    return response(200, {"object": "list", "data": list(items), "has_more": more})


def event(subject: str, key: str | None, number: int = 1) -> dict[str, Any]:
    request = {"id": "req_1", "idempotency_key": key} if key else None
    return {"id": f"evt_{number}", "object": "event", "request": request, "data": {"object": {"id": subject}}}


# Captures.

LOOKS: list[tuple[str, Answer, Learned]] = [
    ("captured by us", response(200, intent()), Learned.FOUND_OURS),
    ("captured by a person", response(200, intent(metadata={})), Learned.FOUND_FREE),
    ("captured, other amount", response(200, intent(amount_received=1)), Learned.FOUND_DIFFERENT),
    ("captured, amount is true", response(200, intent(amount_received=True)), Learned.FOUND_DIFFERENT),
    ("captured, other currency", response(200, intent(currency="eur")), Learned.FOUND_DIFFERENT),
    (
        "untouched",
        response(200, intent(status="requires_capture", amount_received=0, amount_capturable=1999)),
        Learned.ABSENT,
    ),
    ("partly taken", response(200, intent(status="requires_capture", amount_received=5)), Learned.FOUND_DIFFERENT),
    *(
        (f"{status}, nothing taken", response(200, intent(status=status, amount_received=0)), Learned.IMPOSSIBLE)
        for status in ("requires_payment_method", "requires_confirmation", "requires_action")
    ),
    (
        "canceled after a part was taken",
        response(200, intent(status="canceled", amount_received=5)),
        Learned.FOUND_DIFFERENT,
    ),
    ("processing", response(200, intent(status="processing", amount_received=0)), Learned.UNPROVABLE),
    ("a status of tomorrow", response(200, intent(status="requires_review")), Learned.UNPROVABLE),
    (
        "canceled",
        response(200, intent(status="canceled", amount_received=0, cancellation_reason="requested_by_customer")),
        Learned.IMPOSSIBLE_CANCELED,
    ),
    (
        "lapsed",
        response(200, intent(status="canceled", amount_received=0, cancellation_reason="automatic")),
        Learned.IMPOSSIBLE_EXPIRED,
    ),
    ("another intent", response(200, intent(id="pi_2")), Learned.LOOK_UNANSWERED),
    ("another mode", response(200, intent(livemode=True)), Learned.LOOK_UNANSWERED),
    ("no mode", response(200, {**intent(), "livemode": None}), Learned.LOOK_UNANSWERED),
    ("a server error", error(500), Learned.LOOK_UNANSWERED),
    ("a rate limit", error(429), Learned.LOOK_UNANSWERED),
    ("refused credentials", error(401), Learned.LOOK_UNANSWERED),
    ("a page", response(200, None, body=b"<html>"), Learned.LOOK_UNANSWERED),
    ("a network error", NoAnswer("reset"), Learned.LOOK_UNANSWERED),
]


@pytest.mark.parametrize(("answer", "learned"), [pytest.param(*row[1:], id=row[0]) for row in LOOKS])
def test_what_a_look_at_a_capture_says(answer: Answer, learned: Learned):
    assert looked(CAPTURE, loaded_with(capture()), {PATH: answer}).learned is learned


@pytest.mark.parametrize(
    ("account", "learned"),
    [
        (ACCOUNT, Learned.UNPROVABLE),
        (error(401), Learned.LOOK_UNANSWERED),
        (error(403), Learned.LOOK_UNANSWERED),
        (error(500), Learned.LOOK_UNANSWERED),
        (NoAnswer("reset"), Learned.LOOK_UNANSWERED),
    ],
)
def test_an_intent_that_is_gone_is_believed_only_when_the_account_answers(account: Answer, learned: Learned):
    answers = {PATH: NOT_FOUND, "/v1/account": account}
    assert looked(CAPTURE, loaded_with(capture()), answers).learned is learned


@pytest.mark.parametrize(
    ("answers_as", "learned"),
    [("acct_ours", Learned.IMPOSSIBLE), ("acct_another", Learned.LOOK_UNANSWERED)],
)
def test_an_intent_is_gone_for_certain_only_in_the_account_that_is_known_to_be_ours(answers_as: str, learned: Learned):
    script = {PATH: NOT_FOUND, "/v1/account": response(200, {"object": "account", "id": answers_as})}
    read = Reader(lambda path: script[path], account="acct_ours")
    assert CAPTURE.look(loaded_with(capture()), read, False).learned is learned


def test_a_capture_that_carries_another_operation_of_ours_is_claimed():
    """Its record may be in conflict, or lost with a database: the metadata still names whose it is."""
    shown = intent(metadata={"billing_operation": "cap_" + "9" * 32})
    assert looked(CAPTURE, loaded_with(capture()), {PATH: response(200, shown)}).learned is Learned.FOUND_CLAIMED


AUTHORIZATIONS: list[tuple[str, dict[str, Any], Learned, str]] = [
    ("enough", {"amount_capturable": 1999}, Learned.SUCCEEDED, ""),
    ("more than enough", {"amount_capturable": 5000}, Learned.SUCCEEDED, ""),
    (
        "too little",
        {"amount_capturable": 1998},
        Learned.REFUSED,
        "more_than_authorized: amount_capturable: expected at least 1999, found 1998",
    ),
    (
        "nothing said",
        {"amount_capturable": None},
        Learned.REFUSED,
        "more_than_authorized: amount_capturable: expected at least 1999, found nothing",
    ),
    (
        "another currency",
        {"amount_capturable": 1999, "currency": "eur"},
        Learned.REFUSED,
        "currency_differs: currency: expected usd, found eur",
    ),
    (
        "captured in part by somebody",
        {"amount_capturable": 1999, "amount_received": 5},
        Learned.REFUSED,
        "captured_in_part: amount_received: expected 0, found 5",
    ),
    ("captured already", {"status": "succeeded"}, Learned.SUCCEEDED, ""),
    *(
        (
            status,
            {"status": status},
            Learned.REFUSED,
            f"not_capturable: status: expected requires_capture, found {status}",
        )
        for status in ("requires_payment_method", "requires_confirmation", "requires_action", "a_status_of_tomorrow")
    ),
    (
        "its bank has not answered yet",
        {"status": "processing"},
        Learned.UNPROVABLE,
        "not_capturable: status: expected requires_capture, found processing",
    ),
    ("canceled", {"status": "canceled"}, Learned.CANCELED, "canceled_at_stripe"),
    ("lapsed", {"status": "canceled", "cancellation_reason": "expired"}, Learned.EXPIRED, "canceled_at_stripe"),
]


@pytest.mark.parametrize(("changes", "learned", "why"), [pytest.param(*row[1:], id=row[0]) for row in AUTHORIZATIONS])
def test_what_is_read_of_an_authorization(changes: dict[str, Any], learned: Learned, why: str):
    """[33]"""
    shown = intent(**{"status": "requires_capture", "amount_received": 0, **changes})
    finding = looked(READ_AUTHORIZATION, loaded_with(capture(authorized_minor=None)), {PATH: response(200, shown)})
    assert (finding.learned, finding.why) == (learned, why)


def test_the_deadline_is_stripes_own_word_and_never_computed():
    """[28]"""
    charge = {"payment_method_details": {"card": {"capture_before": 1_767_700_000}}}
    shown = intent(status="requires_capture", amount_capturable=1999, amount_received=0, latest_charge=charge)
    loaded = loaded_with(capture(authorized_minor=None))
    finding = looked(READ_AUTHORIZATION, loaded, {PATH: response(200, shown)})
    READ_AUTHORIZATION.apply(loaded, finding.learned, finding.data, finding.why)
    assert loaded.row.capture_before == datetime.fromtimestamp(1_767_700_000, UTC)
    assert (loaded.row.authorized_minor, loaded.row.authorized_currency) == (1999, "USD")
    assert loaded.row.state == CaptureState.REQUESTED


@pytest.mark.parametrize("charge", [None, "ch_1", {}, {"payment_method_details": {"card": {"capture_before": True}}}])
def test_where_stripe_says_no_deadline_there_is_none(charge: Any):
    shown = intent(status="requires_capture", amount_capturable=1999, amount_received=0, latest_charge=charge)
    loaded = loaded_with(capture(authorized_minor=None))
    READ_AUTHORIZATION.apply(loaded, Learned.SUCCEEDED, shown, "")
    assert loaded.row.capture_before is None


# Invoices: the draft.


def created(times: int = 1) -> LoadedOperation:
    loaded = loaded_invoice(stripe_invoice=None, create_generation=None, state="requested")
    sent(loaded, CREATE, times)
    return loaded


NAMELESS = invoice(status="open", metadata={})
"""Somebody has finalized it, and it has no id of ours (any more)."""
NO_CUSTOMER = {"/v1/invoices": error(400, code="resource_missing", param="customer"), "/v1/account": ACCOUNT}


@pytest.mark.parametrize("left_open", [{"/v1/invoices": page(NAMELESS)}, NO_CUSTOMER], ids=["nameless", "no customer"])
def test_what_the_customers_list_leaves_open_is_decided_by_an_event_with_our_key(left_open: dict[str, Any]):
    """[48] It is no draft of ours any more, so a person decides, and no second one is made."""
    loaded = created()
    answers = {
        **left_open,
        "/v1/events": page(event("in_9", "somebody else's"), event("in_1", loaded.records[0].key, 2)),
        "/v1/invoices/in_1": response(200, NAMELESS),
    }
    finding = CREATE.look(loaded, Reader(Script(answers), "acct_1"), False)
    assert (finding.learned, finding.data["id"]) == (Learned.FOUND_DIFFERENT, "in_1")
    strangers = {**answers, "/v1/events": page(event("in_9", "somebody else's"), event("in_1", None, 2))}
    assert CREATE.look(loaded, Reader(Script(strangers), "acct_1"), False).learned is Learned.ABSENT


def test_every_page_of_events_is_read_before_a_draft_is_absent():
    loaded = created()
    script = Script(
        {
            "/v1/invoices": page(NAMELESS),
            "/v1/events": [page(event("in_8", None, 1), more=True), page(event("in_1", loaded.records[0].key, 2))],
            "/v1/invoices/in_1": response(200, invoice()),
        }
    )
    assert CREATE.look(loaded, Reader(script), False).learned is Learned.FOUND_OURS
    since = int((NOON - timedelta(minutes=5)).timestamp())
    until = int((NOON + timedelta(minutes=15)).timestamp())
    lists = f"created[gte]={since}&created[lte]={until}&limit=100"
    assert script.asked[1] == f"/v1/events?types[0]=invoice.created&{lists}"
    assert script.asked[2] == script.asked[1] + "&starting_after=evt_1"


OTHERS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "those of other operations": [invoice(id="in_7", status="open", metadata={"billing_operation": "inv_9"})],
    "a nameless draft": [invoice(id="in_7", metadata={})],
    "a void one": [invoice(id="in_7", status="void", metadata=None)],
}


@pytest.mark.parametrize("others", OTHERS)
def test_the_customers_list_decides_without_the_events_of_the_whole_account(others: str):
    listed = {"/v1/invoices": page(*OTHERS[others], invoice()), "/v1/invoices/in_1": response(200, invoice())}
    script = Script(listed)
    assert CREATE.look(created(), Reader(script), False).learned is Learned.FOUND_OURS
    without = Script({"/v1/invoices": page(*OTHERS[others])})
    assert CREATE.look(created(), Reader(without), False).learned is Learned.ABSENT
    assert not any(path.startswith("/v1/events") for path in (*script.asked, *without.asked))


def test_a_draft_without_an_event_is_found_in_the_customers_list_by_its_metadata():
    answers = {
        "/v1/events": page(event("in_1", None)),
        "/v1/invoices": [
            page(invoice(id="in_7", metadata={}), more=True),
            page(invoice(id="in_8", metadata=None), invoice()),
        ],
        "/v1/invoices/in_1": response(200, invoice()),
    }
    assert looked(CREATE, created(), answers).learned is Learned.FOUND_OURS


@pytest.mark.parametrize("broken", ["/v1/events", "/v1/invoices"])
@pytest.mark.parametrize(
    "answer",
    [error(500), NoAnswer("reset"), response(200, {"object": "list"}), response(200, None, body=b"<html>")],
    ids=["500", "reset", "no data", "page"],
)
def test_a_draft_is_absent_only_when_both_lists_were_read_to_the_end(broken: str, answer: Answer):
    """[45]"""
    complete = {"/v1/events": page(), "/v1/invoices": page(NAMELESS)}
    assert looked(CREATE, created(), complete).learned is Learned.ABSENT
    assert looked(CREATE, created(), {**complete, broken: answer}).learned is Learned.LOOK_UNANSWERED
    first_page = [page(event("in_7", None) | invoice(id="in_7", metadata={}), more=True), answer]
    assert looked(CREATE, created(), {**complete, broken: first_page}).learned is Learned.LOOK_UNANSWERED


def test_a_draft_that_was_deleted_since_is_absent():
    loaded = created()
    answers = {
        "/v1/events": page(event("in_1", loaded.records[0].key)),
        "/v1/invoices": page(),
        "/v1/invoices/in_1": NOT_FOUND,
        "/v1/account": ACCOUNT,
    }
    assert looked(CREATE, loaded, answers).learned is Learned.ABSENT


# The lines.


def added(times: int = 1) -> LoadedOperation:
    loaded = loaded_invoice()
    sent(loaded, ADD_LINES, times)
    return loaded


def with_lines(*lines: Any, **changes: Any) -> Answer:
    return response(200, invoice(lines={"data": list(lines), "has_more": False}, **changes))


FOREIGN = line(0, 100, "inv_9")
LINE_LOOKS: list[tuple[str, Answer, Learned]] = [
    ("all of ours", response(200, invoice()), Learned.FOUND_OURS),
    ("none", with_lines(subtotal=0, total=0), Learned.ABSENT),
    ("only somebody else's", with_lines(FOREIGN, subtotal=100, total=100), Learned.ABSENT),
    ("half of ours", with_lines(line(0, 100), subtotal=100, total=100), Learned.FOUND_DIFFERENT),
    ("ours twice", with_lines(*[line(0, 100), line(1, 200)] * 2, subtotal=600, total=600), Learned.FOUND_DIFFERENT),
    ("ours and a tax", response(200, invoice(total=330)), Learned.FOUND_DIFFERENT),
    ("void, without ours", with_lines(status="void", subtotal=0, total=0), Learned.IMPOSSIBLE),
    ("open, with half of ours", with_lines(line(0, 100), status="open", total=100), Learned.FOUND_DIFFERENT),
    ("another invoice", response(200, invoice(id="in_2")), Learned.LOOK_UNANSWERED),
]


@pytest.mark.parametrize(("answer", "learned"), [pytest.param(*row[1:], id=row[0]) for row in LINE_LOOKS])
def test_what_a_look_for_lines_says(answer: Answer, learned: Learned):
    assert looked(ADD_LINES, added(), {"/v1/invoices/in_1": answer}).learned is learned


def test_more_lines_than_an_invoice_shows_are_read_page_by_page():
    answers = {
        "/v1/invoices/in_1": response(200, invoice(lines={"data": [line(0, 100)], "has_more": True})),
        "/v1/invoices/in_1/lines": [page(line(0, 100), more=True), page(line(1, 200))],
    }
    assert looked(ADD_LINES, added(), answers).learned is Learned.FOUND_OURS


def test_a_draft_that_is_gone_takes_its_lines_with_it():
    answers = {"/v1/invoices/in_1": NOT_FOUND, "/v1/account": ACCOUNT}
    finding = looked(ADD_LINES, added(), answers)
    assert (finding.learned, finding.why) == (Learned.IMPOSSIBLE, "gone")


# Finalize and send.


def opened(step: Step) -> LoadedOperation:
    loaded = loaded_invoice(state="finalized" if step is SEND else "lines_added")
    sent(loaded, step)
    return loaded


def test_a_draft_was_not_finalized_and_nothing_else_is_asked():
    assert looked(FINALIZE, opened(FINALIZE), {"/v1/invoices/in_1": response(200, invoice())}).learned is Learned.ABSENT


@pytest.mark.parametrize(
    ("step", "key", "learned"),
    [
        (FINALIZE, "ours", Learned.FOUND_OURS),
        (FINALIZE, "theirs", Learned.FOUND_FREE),
        (FINALIZE, None, Learned.FOUND_FREE),
        (FINALIZE, "no event", Learned.FOUND_FREE),
        (SEND, "ours", Learned.FOUND_OURS),
        (SEND, "theirs", Learned.FOUND_FREE),
        (SEND, None, Learned.FOUND_FREE),
        (SEND, "no event", Learned.ABSENT),
    ],
)
def test_finalizing_and_sending_are_ours_by_an_event_with_our_key(step: Step, key: str | None, learned: Learned):
    """[49]"""
    loaded = opened(step)
    events = {"no event": [event("in_7", loaded.records[0].key)]}.get(
        key or "", [event("in_1", loaded.records[0].key if key == "ours" else key)]
    )
    answers = {"/v1/invoices/in_1": response(200, invoice(status="open")), "/v1/events": page(*events)}
    assert looked(step, loaded, answers).learned is learned


def test_an_event_under_a_key_of_an_earlier_generation_is_ours():
    loaded = opened(SEND)
    loaded.records.insert(0, Record(step="send", generation=0, key="an earlier key", concluded_at=NOON))
    answers = {
        "/v1/invoices/in_1": response(200, invoice(status="open")),
        "/v1/events": page(event("in_1", "an earlier key")),
    }
    assert looked(SEND, loaded, answers).learned is Learned.FOUND_OURS


@pytest.mark.parametrize(
    ("step", "finalized_at", "seconds"),
    [
        # The call was prepared at noon.
        (FINALIZE, 10, (-50, 70)),
        (FINALIZE, None, (-300, 900)),
        (SEND, -20, (-20, 900)),
        (SEND, -4000, (-300, 900)),
        (SEND, None, (-300, 900)),
        (SEND, "soon", (-300, 900)),
    ],
)
def test_of_a_busy_accounts_events_only_those_are_read_that_can_be_about_it(
    step: Step, finalized_at: int | str | None, seconds: tuple[int, int]
):
    loaded, noon = opened(step), int(NOON.timestamp())
    at = noon + finalized_at if isinstance(finalized_at, int) else finalized_at
    shown = invoice(status="open", status_transitions={"finalized_at": at})
    theirs, ours = event("in_1", "theirs", 3), event("in_1", loaded.records[0].key, 2)
    script = Script(
        {"/v1/invoices/in_1": response(200, shown), "/v1/events": [page(theirs, ours, more=True), response(500)]}
    )
    assert step.look(loaded, Reader(script), False).learned is Learned.FOUND_OURS
    since, until = (noon + each for each in seconds)
    kind = "finalized" if step is FINALIZE else "sent"
    assert script.asked[1:] == [
        f"/v1/events?types[0]=invoice.{kind}&created[gte]={since}&created[lte]={until}&limit=100"
    ]


@pytest.mark.parametrize("step", [FINALIZE, SEND], ids=lambda step: step.name)
@pytest.mark.parametrize(
    ("shown", "learned"),
    [
        (invoice(status="void"), Learned.IMPOSSIBLE),
        (invoice(status="uncollectible"), Learned.IMPOSSIBLE),
        (invoice(status="open", total=301), Learned.FOUND_DIFFERENT),
        (invoice(status="paid", currency="eur"), Learned.FOUND_DIFFERENT),
        (invoice(status="open", livemode=True), Learned.LOOK_UNANSWERED),
    ],
)
def test_an_invoice_that_is_not_as_asked_is_not_taken_for_done(step: Step, shown: Any, learned: Learned):
    answers = {"/v1/invoices/in_1": response(200, shown), "/v1/events": page()}
    assert looked(step, opened(step), answers).learned is learned


# Deleting, and duplicates.


@pytest.mark.parametrize("step", [DELETE_DRAFT, delete_duplicate("in_1")], ids=["ours", "duplicate"])
def test_a_deleted_draft_is_seen_by_its_absence(step: Step):
    loaded = loaded_invoice(state="lines_differ")
    gone = {"/v1/invoices/in_1": NOT_FOUND, "/v1/account": ACCOUNT}
    assert looked(step, loaded, gone).learned is Learned.FOUND_OURS
    assert looked(step, loaded, {**gone, "/v1/account": error(403)}).learned is Learned.LOOK_UNANSWERED
    assert looked(step, loaded, {"/v1/invoices/in_1": response(200, invoice())}).learned is Learned.ABSENT
    opened = response(200, invoice(status="open"))
    assert looked(step, loaded, {"/v1/invoices/in_1": opened}).learned is Learned.FOUND_DIFFERENT


def test_duplicates_are_the_other_drafts_of_this_operation_on_all_pages():
    loaded = loaded_invoice()
    sent(loaded, CREATE)
    answers = {
        "/v1/invoices": [
            page(invoice(), invoice(id="in_3"), invoice(id="in_4", metadata={}), more=True),
            page(invoice(id="in_5", metadata={"billing_operation": "inv_9"}), invoice(id="in_6")),
        ]
    }
    finding = looked(list_duplicates("before_lines"), loaded, answers)
    assert (finding.learned, finding.found_objects) == (Learned.SUCCEEDED, ["in_3", "in_6"])
    broken = {"/v1/invoices": [page(invoice(), more=True), error(500)]}
    assert looked(list_duplicates("before_lines"), loaded, broken).learned is Learned.LOOK_UNANSWERED


def concluded(
    loaded: LoadedOperation,
    name: str,
    generation: int,
    conclusion: str = "succeeded",
    found: list[str] | None = None,
) -> None:
    more = {"concluded_at": NOON, "conclusion": conclusion, "found_objects": found}
    loaded.records.append(Record(step=name, generation=generation, key=f"k{generation}", looks=0, **more))


def test_where_the_draft_was_made_at_the_first_try_nobody_lists_duplicates():
    loaded = loaded_invoice()
    concluded(loaded, "create", 1)
    assert duplicates_step(loaded, "before_lines") is None
    assert invoices.next_step(loaded) is ADD_LINES


def test_after_a_second_try_duplicates_are_listed_and_deleted_one_by_one_before_lines_are_added():
    loaded = loaded_invoice(create_generation=2)
    concluded(loaded, "create", 1, "absent")
    concluded(loaded, "create", 2)
    listing = invoices.next_step(loaded)
    assert listing is not None
    assert listing.name == "list_duplicate_drafts_before_lines"
    concluded(loaded, listing.name, 3, found=["in_3", "in_6"])
    for number, draft in ((4, "in_3"), (5, "in_6")):
        step = invoices.next_step(loaded)
        assert step is not None
        assert step.name == f"delete_duplicate_draft:{draft}"
        assert step.ask(loaded).path == f"/v1/invoices/{draft}"
        concluded(loaded, step.name, number)
    assert invoices.next_step(loaded) is ADD_LINES
    # A late arrival shows itself before the invoice is finalized.
    loaded.row.state = "lines_added"
    again = invoices.next_step(loaded)
    assert again is not None
    assert again.name == "list_duplicate_drafts_before_finalize"


# The probe.


def switch() -> LoadedOperation:
    return loaded_with(
        Switch(id="swi_1", scope="account:own", state=SwitchState.PULLED, probes=True, version=1, correlation_id=None)
    )


@pytest.mark.parametrize(
    ("answer", "learned"),
    [
        (ACCOUNT, Learned.SUCCEEDED),
        (error(401), Learned.LOOK_UNANSWERED),
        (error(403), Learned.LOOK_UNANSWERED),
        (error(500), Learned.LOOK_UNANSWERED),
        (NoAnswer("reset"), Learned.LOOK_UNANSWERED),
    ],
)
def test_a_probe_succeeds_when_the_account_answers(answer: Answer, learned: Learned):
    assert looked(probes.PROBE, switch(), {"/v1/account": answer}).learned is learned


def test_a_page_of_a_proxy_is_not_our_account():
    page_of_a_proxy = response(200, None, body=b"<html>welcome to this network</html>")
    assert looked(probes.PROBE, switch(), {"/v1/account": page_of_a_proxy}).learned is Learned.LOOK_UNANSWERED


def test_a_404_that_stripe_did_not_write_is_no_absence():
    nobody = {PATH: response(404, None, body=b"<html>not found</html>"), "/v1/account": response(200, {})}
    assert looked(CAPTURE, loaded_with(capture()), nobody).learned is Learned.LOOK_UNANSWERED


def test_a_switch_that_a_person_has_taken_over_is_not_probed_any_more():
    loaded = switch()
    loaded.row.probes = False
    assert probes.OPERATION.next_step(loaded) is None
