"""A credit note is voided on request, once, and only while its invoice is open; then its amount counts again."""

import pytest
from service import Service, Through, eventually

import billing
from billing import database
from billing.gateway import NoAnswer
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from billing.tables.invoice_actions import InvoiceAction

FAULTS = ["drop_before", "drop_after_commit", "502_html", "409_in_use", "429_lock_saved", "500_saved", "500_no_effect"]
FAULTS += ["500_with_effect", "truncate_body"]


def void(service: Service, note: str, request_id: str = "void-1") -> str:
    with database.transaction(service.engines["application"]) as session:
        return billing.void_credit_note(session, credit_note=note, request_id=request_id).action_id


def issued(service: Service, amount: int = 500) -> tuple[str, str]:
    """An open invoice, and a note of it."""
    invoice = service.sent_invoice()
    note = service.credit(invoice, amount)
    assert service.settle(note) == ["issued"]
    return invoice, note


def sums(service: Service, invoice: str) -> tuple[int, int]:
    row = service.row(Invoice, invoice)
    return row.credited_minor, row.reduced_minor


def voids_at_stripe(service: Service, note: str) -> list[int]:
    of = service.row(CreditNote, note).stripe_credit_note
    return [each["amount"] for each in service.effects("credit_note.voided", of)]


def test_a_void_is_carried_out_once_and_moves_the_note_in_the_same_transaction(service: Service) -> None:
    invoice, note = issued(service)
    asked = void(service, note)
    assert service.settle(asked) == ["done"]
    assert service.status(note).state == "voided", "nobody had to notice it"
    assert (voids_at_stripe(service, note), len(service.posts("/void"))) == ([500], 1)
    assert sums(service, invoice) == (0, 0)
    there = service.standin_object(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}")
    assert (there["amount_due"], service.status(invoice).state) == (4501, "sent")
    row = service.row(InvoiceAction, asked)
    assert (row.action, row.credit_note_id, row.amount_minor) == ("void_credit_note", note, 500)
    assert service.topics(note)[-1] == "voided"
    assert service.facts(asked)[-1].payload["credit_note"] == note
    again = service.credit(invoice, 4501)
    assert service.settle(again) == ["issued"]


def test_asked_for_again_it_is_the_same_and_for_another_note_it_is_reused(service: Service) -> None:
    invoice, note = issued(service)
    other = service.credit(invoice, 100)
    assert service.settle(other) == ["issued"]
    asked = void(service, note)
    assert service.settle(asked) == ["done"]
    assert void(service, note) == asked, "whatever became of the note since"
    with pytest.raises(billing.RequestReused):
        void(service, other)
    with pytest.raises(billing.RequestReused):
        service.act_on(invoice, "void_invoice", request_id="void-1")


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_to_the_answer_it_is_voided_once(service: Service, fault: str) -> None:
    invoice, note = issued(service)
    asked = void(service, note)
    service.standin.add_fault(fault, path="/void$", times=1)
    assert service.settle(asked) == ["done"]
    assert (service.status(note).state, voids_at_stripe(service, note)) == ("voided", [500])
    assert sums(service, invoice) == (0, 0)


def test_an_answer_that_never_came_is_looked_up_a_day_later(service: Service) -> None:
    _, note = issued(service)
    asked = void(service, note)
    lost = Through(service, lambda request, answer: NoAnswer("lost") if request.path.endswith("/void") else answer)
    service.plan()
    service.work_off("invoices", lost)
    assert service.status(asked).state == "in_doubt"
    service.age(asked, 24 * 3600)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
    assert service.settle(asked) == ["done"]
    assert (service.status(note).state, len(service.posts("/void"))) == ("voided", 1)


def test_of_a_payment_and_a_void_at_the_same_time_stripe_carries_out_one(service: Service) -> None:
    invoice, note = issued(service)
    asked = void(service, note)
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay", "paid_out_of_band=true")
    assert service.settle(asked) == ["refused"]
    assert (service.status(asked).reason, service.status(note).state) == ("already_paid", "issued")
    assert (voids_at_stripe(service, note), sums(service, invoice)) == ([], (500, 500))


def test_one_that_somebody_voids_first_ends_so_and_the_request_is_refused(service: Service) -> None:
    _, note = issued(service)
    asked = void(service, note)
    service.by_hand(f"/v1/credit_notes/{service.row(CreditNote, note).stripe_credit_note}/void")
    assert service.settle(asked) == ["refused"]
    assert (service.status(asked).reason, service.status(note).state) == ("already_voided", "voided")


def test_what_the_rows_show_to_be_impossible_is_not_asked_for_at_stripe(service: Service) -> None:
    invoice, note = issued(service)
    asked = [void(service, note), void(service, note, "void-2"), service.act_on(invoice, "void_invoice")]
    late = void(service, note, "void-3")
    assert service.settle(*asked, late) == ["done", "refused", "done", "refused"]
    assert service.status(asked[1]).reason == service.status(late).reason == "already_voided"
    assert len(service.posts("/void")) == 2


def test_a_note_that_is_not_issued_or_whose_invoice_is_not_open_is_a_named_error(service: Service) -> None:
    invoice, note = issued(service)
    waiting = service.credit(invoice, 100)
    with pytest.raises(billing.NotIssued) as error:
        void(service, waiting)
    assert (error.value.credit_note_id, error.value.credit_note_state) == (waiting, "requested")
    assert service.settle(waiting, void(service, note)) == ["issued", "done"]
    with pytest.raises(billing.NotIssued):
        void(service, note, "void-2")
    with pytest.raises(billing.UnknownEntity):
        void(service, "crn_" + "0" * 32)
    paid = service.paid_invoice()
    returned = service.credit(paid, 500, "balance")
    with pytest.raises(billing.NoLongerOpen):
        void(service, returned, "void-2")
    given_up, of_it = issued(service)
    assert service.settle(service.act_on(given_up, "mark_invoice_uncollectible")) == ["done"]
    with pytest.raises(billing.NoLongerOpen) as closed:
        void(service, of_it, "void-2")
    assert closed.value.action == "void_credit_note"


@pytest.mark.parametrize("how", ["webhook", "sweep"])
def test_one_that_is_voided_in_the_dashboard_is_seen_by_its_event(service: Service, how: str) -> None:
    from billing import inbox
    from billing.events import event_of

    invoice, note = issued(service)
    there = service.row(CreditNote, note).stripe_credit_note
    service.by_hand(f"/v1/credit_notes/{there}/void")
    (told,) = service.read_list("/v1/events", types=["credit_note.voided"])
    event = event_of(told, source=how)
    assert event is not None
    with database.transaction(service.engines["web"]) as session:
        assert inbox.put(session, [event]) == 1

    def seen() -> bool:
        service.relay.round()
        service.work_off("invoices")
        return service.status(note).state == "voided"

    eventually(seen, "it is seen")
    assert sums(service, invoice) == (0, 0)
