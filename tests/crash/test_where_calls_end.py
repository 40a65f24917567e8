"""Whatever state a call finds its object in at Stripe, its operation ends, or a person is told: over HTTP."""

from collections.abc import Callable

import pytest
from service import Service, eventually
from structlog.testing import capture_logs
from worker import KILLED, fork_worker, reap

from billing import database
from billing.explain import explain_one
from billing.gateway import Answer, Budget, Request, Response
from billing.states import RecordState
from billing.tables.entities import Invoice
from jobs.road import quarantine_list


def customer(service: Service, fields: str = "name=Test&email=test%40example.com", credit: int = 0) -> str:
    made = service.by_hand("/v1/customers", fields)
    if credit:
        service.by_hand(f"/v1/customers/{made}/balance_transactions", f"amount=-{credit}&currency=eur")
    return made


def stopped_after(service: Service, invoice: str, commits: int) -> str:
    """A worker died after so many commits of this invoice, and its lease is over; returns the draft's id."""
    service.plan()
    assert reap(fork_worker(service, "invoices", at=f"commit.after:{commits}")) == KILLED
    service.age(invoice, service.timing.lease_s)
    return str(service.row(Invoice, invoice).stripe_invoice)


# Create.


def test_an_invoice_to_a_customer_without_an_address_is_refused_at_once(service: Service) -> None:
    invoice = service.ask_for_invoice(customer(service, "name=Test"))
    assert service.settle(invoice) == ["refused"]
    assert "has the customer an e-mail address?" in str(service.status(invoice).reason)
    assert [(record.step, record.state) for record in service.records(invoice)] == [("create", RecordState.ANSWERED)]
    assert len(service.posts("/v1/invoices")) == 1
    assert service.effects("invoice.created") == []


def test_an_invoice_that_was_refused_for_want_of_an_address_is_made_when_there_is_one(service: Service) -> None:
    whose = customer(service, "name=Test")
    invoice = service.ask_for_invoice(whose)
    service.settle(invoice)
    service.by_hand(f"/v1/customers/{whose}", "email=test%40example.com")
    service.reopen(invoice)
    assert service.settle(invoice) == ["sent"]


def test_a_refusal_after_a_lost_answer_to_a_create_is_looked_into(service: Service) -> None:
    """The answer to a create that worked is lost; whatever Stripe says next, its draft is found and used."""
    invoice = service.ask_for_invoice()
    service.standin.add_fault("drop_after_commit", method="POST", path="^/v1/invoices$", times=1)
    service.plan()
    service.work_off("invoices")
    made = service.effects("invoice.created")[0]["id"]
    refused = Refusing(service, "/v1/invoices")
    service.settle(invoice, gateway=refused)
    assert refused.times == 1
    assert service.row(Invoice, invoice).stripe_invoice == made
    assert service.status(invoice).state == "sent"
    assert len(service.effects("invoice.created")) == 1


class Refusing:
    """The real gateway, but requests to this path are refused without being sent, as Stripe refuses a form."""

    def __init__(self, service: Service, path_end: str, *, method: str = "POST", most: int = 1) -> None:
        self._gateway, self._refused, self._most, self.times = service.gateway(), (method, path_end), most, 0
        self.livemode = self._gateway.livemode

    def send(self, request: Request, budget: Budget) -> Answer:
        method, path_end = self._refused
        if request.method == method and request.path.endswith(path_end) and self.times < self._most:
            self.times += 1
            data = {"error": {"type": "invalid_request_error"}}
            return Response(400, b'{"error":{"type":"invalid_request_error"}}', data, "req_refused", False)
        return self._gateway.send(request, budget)


# Paid before it was sent.


def test_an_invoice_that_a_credit_balance_pays_at_its_finalization_is_paid(service: Service) -> None:
    invoice = service.ask_for_invoice(customer(service, credit=5000))
    assert service.settle(invoice) == ["paid"]
    row = service.row(Invoice, invoice)
    assert row.number
    assert service.topics(invoice)[-2:] == ["finalized", "paid"]
    assert [record.step for record in service.records(invoice)] == ["create", "add_lines", "finalize"]
    assert len(service.effects("invoice.finalized", row.stripe_invoice)) == 1
    assert service.posts("/send") == []
    assert service.status(invoice).final


def test_a_credit_balance_that_pays_a_part_leaves_an_invoice_that_is_sent(service: Service) -> None:
    invoice = service.ask_for_invoice(customer(service, credit=100))
    assert service.settle(invoice) == ["sent"]


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "500_saved"])
def test_a_lost_answer_to_a_finalization_that_a_credit_balance_pays_ends_as_paid(service: Service, fault: str) -> None:
    invoice = service.ask_for_invoice(customer(service, credit=5000))
    service.standin.add_fault(fault, method="POST", path="/finalize$", times=1)
    assert service.settle(invoice) == ["paid"]
    assert len(service.effects("invoice.finalized")) == 1


@pytest.mark.parametrize("how", ["paid_out_of_band=true", "payment_method=pm_card_visa"])
def test_an_invoice_that_was_paid_elsewhere_before_it_was_sent_is_paid(service: Service, how: str) -> None:
    invoice = service.ask_for_invoice()
    open_ = stopped_after(service, invoice, 4)
    assert service.row(Invoice, invoice).state == "finalized"
    service.by_hand(f"/v1/invoices/{open_}/pay", how)
    assert service.settle(invoice) == ["paid"]
    assert service.effects("invoice.sent") == []


def test_an_invoice_that_we_sent_and_that_was_paid_before_we_knew_is_sent(service: Service) -> None:
    """Ours by the event with our key: that it was sent is true, whatever became of it."""
    invoice = service.ask_for_invoice()
    service.standin.add_fault("500_with_effect", method="POST", path="/send$", times=1)
    service.plan()
    service.work_off("invoices")
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "paid_out_of_band=true")
    assert service.settle(invoice) == ["sent"]


# What other hands do between our calls.


@pytest.mark.parametrize(("action", "state"), [("/void", "voided"), ("/mark_uncollectible", "uncollectible")])
def test_an_open_invoice_that_somebody_gave_up_before_it_was_sent_ends_so(
    service: Service, action: str, state: str
) -> None:
    invoice = service.ask_for_invoice()
    open_ = stopped_after(service, invoice, 4)
    service.by_hand(f"/v1/invoices/{open_}{action}")
    assert service.settle(invoice) == [state]


def _finalized(service: Service, draft: str) -> None:
    service.by_hand(f"/v1/invoices/{draft}/finalize", "auto_advance=false")


def _voided(service: Service, draft: str) -> None:
    _finalized(service, draft)
    service.by_hand(f"/v1/invoices/{draft}/void")


def _deleted(service: Service, draft: str) -> None:
    service.by_hand(f"/v1/invoices/{draft}", method="DELETE")


def _advanced(service: Service, draft: str) -> None:
    """Stripe itself finalizes it an hour later, and sends it another hour later."""
    service.by_hand(f"/v1/invoices/{draft}", "auto_advance=true")
    service.standin.advance(3 * 3600)


def _edited(service: Service, draft: str) -> None:
    service.by_hand(f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by+hand")


def _without_customer(service: Service, draft: str) -> None:
    whose = service.standin.effects("customer.created")[-1]["id"]
    service.by_hand(f"/v1/customers/{whose}", method="DELETE")


HANDS: list[tuple[str, int, Callable[[Service, str], None], str, str | None]] = [
    ("finalized before its lines", 2, _finalized, "refused", "not_a_draft: status: expected draft, found paid"),
    ("deleted before its lines", 2, _deleted, "refused", "gone"),
    ("edited before its lines", 2, _edited, "refused", "total_differs: subtotal: expected 4501, found 4578;"),
    ("finalized before we did", 3, _finalized, "sent", None),
    ("voided before we finalized it", 3, _voided, "refused", "not_open: status: expected open, found void"),
    ("deleted before we finalized it", 3, _deleted, "refused", "gone"),
    ("finalized and sent by Stripe", 3, _advanced, "sent", None),
    ("edited before we finalized it", 3, _edited, "conflict", "mismatch: total: expected 4501, found 4578"),
    ("its customer deleted", 3, _without_customer, "refused", "resource_missing: customer"),
]


@pytest.mark.parametrize(("commits", "hand", "state", "reason"), [pytest.param(*row[1:], id=row[0]) for row in HANDS])
def test_an_invoice_that_other_hands_touched_ends(
    service: Service, commits: int, hand: Callable[[Service, str], None], state: str, reason: str | None
) -> None:
    invoice = service.ask_for_invoice()
    hand(service, stopped_after(service, invoice, commits))
    assert ended(service, invoice) == state
    found = service.status(invoice).reason
    assert reason is None or str(found).startswith(reason), found
    assert all(effect["amount"] in (0, 4501, 4578) for effect in service.effects("invoice.finalized"))


# Refused under every key.


def test_a_send_that_stripe_refuses_under_every_key_is_refused_and_sent_when_a_person_says_so(service: Service) -> None:
    """The customer's address was taken away after the draft was made, say: a 400 that names nothing."""
    invoice = service.ask_for_invoice()
    refusing = Refusing(service, "/send", most=99)
    assert service.settle(invoice, gateway=refusing) == ["refused"]
    assert service.status(invoice).reason == "refused_each_time"
    assert refusing.times == 4
    assert service.row(Invoice, invoice).number
    service.reopen(invoice)
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.finalized")) == 1


def test_a_draft_that_stripe_refuses_to_finalize_is_deleted_before_the_invoice_is_refused(service: Service) -> None:
    invoice = service.ask_for_invoice()
    assert service.settle(invoice, gateway=Refusing(service, "/finalize", most=99)) == ["refused"]
    assert service.status(invoice).reason == "refused_each_time"
    draft = service.row(Invoice, invoice).stripe_invoice
    assert [effect["id"] for effect in service.effects("invoice.deleted")] == [draft]
    service.reopen(invoice)
    assert service.settle(invoice) == ["sent"]


def test_a_draft_that_cannot_be_deleted_is_told_to_a_person_and_done_when_it_is_gone(service: Service) -> None:
    invoice = service.ask_for_invoice()
    draft = stopped_after(service, invoice, 2)
    _edited(service, draft)
    refusing = Refusing(service, f"/v1/invoices/{draft}", method="DELETE", most=99)

    def told() -> bool:
        service.relay.round()
        service.work_off("invoices", refusing)
        return "undecided" in service.topics(invoice)

    eventually(told, "a person is told")
    assert refusing.times == 4
    assert service.status(invoice).next.endswith("(undecided so far)")
    service.by_hand(f"/v1/invoices/{draft}", method="DELETE")
    assert service.settle(invoice) == ["refused"]
    assert service.topics(invoice).count("undecided") == 1


# Captures.


def _intent(service: Service, more: str = "&payment_method=pm_card_visa&confirm=true") -> str:
    return service.by_hand("/v1/payment_intents", f"amount=1999&currency=usd&capture_method=manual{more}")


def _canceled(why: str) -> Callable[[Service], str]:
    def canceled(service: Service) -> str:
        intent = _intent(service)
        service.by_hand(f"/v1/payment_intents/{intent}/cancel", f"cancellation_reason={why}")
        return intent

    return canceled


def _lapsed(service: Service) -> str:
    intent = _intent(service)
    service.standin.advance(8 * 24 * 3600)
    return intent


def _captured(body: str) -> Callable[[Service], str]:
    def captured(service: Service) -> str:
        intent = _intent(service)
        service.by_hand(f"/v1/payment_intents/{intent}/capture", body)
        return intent

    return captured


def _captured_in_part(service: Service) -> str:
    several = "&payment_method_options[card][request_multicapture]=if_available"
    intent = _intent(service, f"{several}&payment_method=pm_card_visa&confirm=true")
    service.by_hand(f"/v1/payment_intents/{intent}/capture", "amount_to_capture=500&final_capture=false")
    return intent


def _of_euros(service: Service) -> str:
    return service.intents(currency="eur")[0]


PERSON, REFUSED = "conflict", "refused"
_ACTION = "&payment_method=pm_card_authenticationRequired&confirm=true"
INTENTS: list[tuple[str, Callable[[Service], str], str, str, str | None]] = [
    ("no method", lambda service: _intent(service, ""), REFUSED, REFUSED, "status: expected requires_capture, found "),
    (
        "not confirmed",
        lambda service: _intent(service, "&payment_method=pm_card_visa"),
        REFUSED,
        REFUSED,
        "found requires_confirmation",
    ),
    ("not authenticated", lambda service: _intent(service, _ACTION), REFUSED, REFUSED, "found requires_action"),
    *((f"canceled, {why}", _canceled(why), "canceled", "canceled", None) for why in ("duplicate", "abandoned")),
    ("lapsed", _lapsed, "expired", "expired", None),
    ("captured by hand", _captured(""), "captured", "captured", None),
    (
        "another amount captured by hand",
        _captured("amount_to_capture=500"),
        PERSON,
        PERSON,
        "amount_received: expected 1999, found 500",
    ),
    (
        "captured for another",
        _captured(f"metadata[billing_operation]=cap_{'9' * 32}"),
        PERSON,
        PERSON,
        f"found cap_{'9' * 32}",
    ),
    ("a part captured", _captured_in_part, PERSON, REFUSED, "amount_received: expected 0, found 500"),
    ("another currency", _of_euros, PERSON, REFUSED, "currency: expected usd, found eur"),
    ("unknown", lambda _house: "pi_nobody", REFUSED, REFUSED, "no_such_payment_intent"),
]


@pytest.mark.parametrize("answer", ["lost", "given"])
@pytest.mark.parametrize("known", [True, False], ids=["authorization brought", "authorization read"])
@pytest.mark.parametrize(("made", "brought", "read", "reason"), [pytest.param(*row[1:], id=row[0]) for row in INTENTS])
def test_a_capture_of_whatever_intent_ends(
    service: Service,
    made: Callable[[Service], str],
    brought: str,
    read: str,
    reason: str | None,
    known: bool,
    answer: str,
) -> None:
    """[27, 29, 30]"""
    intent = made(service)
    if answer == "lost":
        service.standin.add_fault("drop_after_commit", path=f"/v1/payment_intents/{intent}", times=1)
    capture = service.ask_for_capture(intent) if known else service.ask_for_capture(intent, authorization=None)
    assert ended(service, capture) == (brought if known else read)
    shown = str(service.status(capture).reason)
    # Where Stripe's own refusal ends it, the reason is Stripe's code.
    assert reason is None or reason in shown or shown == "payment_intent_unexpected_state", shown
    assert sum(service.captured(capture).values()) <= 1


def ended(service: Service, entity_id: str) -> str:
    """Its state when nothing is done about it any more: it is final, or a person is asked."""
    queue = "captures" if entity_id.startswith("cap_") else "invoices"

    def turn() -> bool:
        service.relay.round()
        service.work_off(queue)
        return service.status(entity_id).final or service.status(entity_id).state == "conflict"

    eventually(turn, f"{entity_id} ended")
    return str(service.status(entity_id).state)


def test_what_differs_is_told_wherever_a_person_looks(service: Service) -> None:
    capture = service.ask_for_capture(_captured("amount_to_capture=500")(service))
    with capture_logs() as lines:
        assert ended(service, capture) == "conflict"
    differs = "amount_received: expected 1999, found 500"
    whole = f"found_different: captured_otherwise: {differs}"
    assert service.status(capture).reason == whole
    with database.transaction(service.engine) as session:
        (listed,) = quarantine_list.listed(session)
        story = explain_one(session, capture)
    assert listed.reason == f"conflict: {whole}"
    assert story.calls[-1].conclusion == whole
    conflict = story.facts[-1].payload
    assert (conflict["why"], conflict["differs"]) == ("found_different", f"captured_otherwise: {differs}")
    assert [line["why"] for line in lines if line["event"] == "operation.settled"] == [whole]
