"""Credit notes are compared with Stripe's list: each class of differences is found where it was seeded."""

from datetime import timedelta

import pytest
from compared import differences, open_classes, reconcile
from service import Service

import billing
from billing import database
from billing.states import RecordState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice
from jobs.reconciliation.passes import Report


def issued(service: Service) -> str:
    note = service.credit(service.sent_invoice(), 500)
    assert service.settle(note) == ["issued"]
    return note


def by_hand(service: Service, of: str, more: str = "") -> str:
    return service.by_hand("/v1/credit_notes", f"invoice={service.row(Invoice, of).stripe_invoice}&amount=7{more}")


def test_notes_of_open_and_of_paid_invoices_make_no_difference(service: Service) -> None:
    issued(service)
    paid = service.paid_invoice()
    note = service.credit(paid, 500, "refund")
    assert service.settle(str(service.row(CreditNote, note).refund_id), note) == ["succeeded", "issued"]
    reconcile(service)
    assert differences(service) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing_there", "stripe_credit_note = 'cn_nowhere'"),
        ("missing_here", "state = 'refused'"),
        ("amount", "amount_minor = 499"),
        ("currency", "currency = 'USD'"),
        ("account_or_mode", "account = 'acct_1another'"),
    ],
)
def test_a_note_that_differs_is_found_in_its_class_and_in_no_other(service: Service, kind: str, change: str) -> None:
    note = issued(service)
    reconcile(service)
    service.execute(f"UPDATE billing.credit_notes SET {change} WHERE id = :id", id=note)
    reconcile(service)
    assert open_classes(service) == {kind: note}


def test_a_note_that_somebody_issued_at_stripe_for_an_invoice_of_ours_is_found_and_gone_once_it_is_voided(
    service: Service,
) -> None:
    invoice = service.sent_invoice()
    made = by_hand(service, invoice)
    reconcile(service)
    assert open_classes(service) == {"credit": made}
    (found,) = differences(service)
    assert (found.amount_minor, found.currency) == (7, "EUR")
    assert invoice in found.what
    service.by_hand(f"/v1/credit_notes/{made}/void")
    reconcile(service)
    assert open_classes(service) == {}


def test_a_note_of_an_invoice_that_is_not_ours_is_no_difference(service: Service) -> None:
    theirs = service.by_hand("/v1/invoices", f"customer={service.customer()}&auto_advance=false")
    service.by_hand(f"/v1/invoices/{theirs}/add_lines", "lines[0][amount]=77&lines[0][description]=theirs")
    service.by_hand(f"/v1/invoices/{theirs}/finalize")
    service.by_hand("/v1/credit_notes", f"invoice={theirs}&amount=7")
    reconcile(service)
    assert differences(service) == []


def test_two_notes_in_one_name_and_one_in_an_unknown_name_are_found(service: Service) -> None:
    note = issued(service)
    of = service.row(CreditNote, note).invoice_id
    by_hand(service, of, f"&metadata[billing_operation]={note}")
    by_hand(service, of, f"&metadata[billing_operation]=crn_{'7' * 32}")
    reconcile(service)
    assert open_classes(service) == {"duplicate_effect": note, "unknown_metadata": f"crn_{'7' * 32}"}


def test_a_note_that_was_voided_at_stripe_is_noticed_and_settled(service: Service) -> None:
    note = issued(service)
    service.by_hand(f"/v1/credit_notes/{service.row(CreditNote, note).stripe_credit_note}/void")
    # By the list, and by the event.
    assert reconcile(service).counted.noticed > 0
    assert open_classes(service) == {"state": note}
    service.relay.round()
    service.work_off("invoices")
    assert service.status(note).state == "voided"
    reconcile(service)
    assert open_classes(service) == {}


def long_after_it_was_listed(service: Service, note_at_stripe: str) -> Report:
    """Void it by hand, and reconcile as if the time of the note itself was over, and that of its end was not."""
    reconcile(service)
    service.by_hand(f"/v1/credit_notes/{note_at_stripe}/void")
    moved = "UPDATE billing.stripe_cursors SET {0} = {0} {1} interval '1 day' WHERE list = '{2}'"
    service.execute(moved.format("covered_until", "+", "credit_notes"))
    service.execute(moved.format("compared_until", "-", "voided_credit_notes"))
    return reconcile(service, going_on=True, ahead=timedelta(seconds=40))


def test_a_note_that_is_voided_long_after_it_was_listed_is_noticed_by_the_event(service: Service) -> None:
    note = issued(service)
    report = long_after_it_was_listed(service, service.row(CreditNote, note).stripe_credit_note)
    assert (open_classes(service), report.counted.noticed) == ({"state": note}, 1)
    service.relay.round()
    service.work_off("invoices")
    assert service.status(note).state == "voided"
    reconcile(service)
    assert open_classes(service) == {}


def test_a_note_that_was_voided_on_request_after_it_was_listed_is_no_difference(service: Service) -> None:
    note = issued(service)
    reconcile(service)
    with database.transaction(service.engines["application"]) as session:
        action = billing.void_credit_note(session, credit_note=note, request_id="void-1").action_id
    assert service.settle(action) == ["done"]
    service.execute("UPDATE billing.stripe_cursors SET covered_until = covered_until + interval '1 day'")
    reconcile(service, going_on=True, ahead=timedelta(seconds=40))
    assert differences(service) == []


def test_one_of_nobodys_that_is_voided_long_after_it_was_listed_is_no_difference_any_more(service: Service) -> None:
    made = by_hand(service, service.sent_invoice())
    reconcile(service)
    assert open_classes(service) == {"credit": made}
    long_after_it_was_listed(service, made)
    reconcile(service, going_on=True, ahead=timedelta(seconds=60))
    assert open_classes(service) == {}


def test_one_that_is_asked_for_and_not_carried_out_is_late(service: Service) -> None:
    note = service.credit(service.sent_invoice(), 500)
    reconcile(service)
    assert open_classes(service) == {"late": note}


def test_one_in_doubt_whose_effect_stripe_shows_is_looked_at_at_once(service: Service) -> None:
    invoice = service.sent_invoice()
    service.standin.add_fault("drop_after_commit", path="/v1/credit_notes$", method="POST", times=1)
    note = service.credit(invoice, 500)
    service.plan()
    service.work_off("invoices")
    assert service.record(note).state == RecordState.IN_DOUBT
    service.execute("UPDATE billing.idempotency_records SET look_at = now() + interval '1 hour'")
    report = reconcile(service)
    assert (differences(service), report.in_doubt, report.counted.noticed) == ([], 1, 1)
    assert service.settle(note) == ["issued"]
    assert service.credited(note) == [500]
