"""Invoices under lost answers, strangers' hands and duplicate drafts: one finalized invoice as asked, or none."""

import pytest
from service import Service
from worker import KILLED, fork_worker, reap

from billing.states import RecordState
from billing.tables.entities import Invoice

STEPS = {"create": "/v1/invoices$", "add_lines": "/add_lines$", "finalize": "/finalize$", "send": "/send$"}


def test_an_invoice_is_four_calls_each_with_a_record_and_a_key(service: Service) -> None:
    """[50]"""
    invoice = service.ask_for_invoice()
    before = len(service.standin.requests())
    assert service.settle(invoice) == ["sent"]
    assert len(service.standin.requests()) - before == 4
    assert [record.step for record in service.records(invoice)] == list(STEPS)
    assert len({record.key for record in service.records(invoice)}) == 4
    assert service.row(Invoice, invoice).number


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit", "500_saved", "500_with_effect"])
@pytest.mark.parametrize("step", STEPS)
def test_any_lost_answer_in_any_step_still_gives_one_invoice(service: Service, step: str, fault: str) -> None:
    """[1, 7, 8, 48, 49, 84]"""
    invoice = service.ask_for_invoice()
    service.standin.add_fault(fault, method="POST", path=STEPS[step], times=1)
    assert service.settle(invoice) == ["sent"]
    _one_sent_invoice(service, invoice)


def test_only_a_duplicate_draft_of_ours_is_deleted_before_lines_are_added(service: Service) -> None:
    """What a create that came late would leave behind: another draft that carries our operation's id."""
    invoice = service.ask_for_invoice()
    customer = service.row(Invoice, invoice).customer
    draft = f"customer={customer}&currency=usd&collection_method=send_invoice&days_until_due=3"
    duplicate = service.by_hand("/v1/invoices", f"{draft}&metadata[billing_operation]={invoice}")
    foreign = service.by_hand("/v1/invoices", f"{draft}&metadata[billing_operation]=inv_other")
    service.standin.add_fault("500_saved", method="POST", path=STEPS["create"], times=1)
    assert service.settle(invoice) == ["sent"]
    deleted = {effect["id"] for effect in service.effects("invoice.deleted")}
    assert (duplicate in deleted, foreign in deleted) == (True, False)
    assert len(service.effects("invoice.finalized")) == 1


def test_a_total_that_differs_is_refused_and_the_draft_deleted_and_only_a_person_has_it_made_again(
    service: Service,
) -> None:
    """[48, 62]"""
    invoice = service.ask_for_invoice()
    service.plan()
    assert reap(fork_worker(service, "invoices", at="commit.after:2")) == KILLED
    service.age(invoice, service.timing.lease_s)
    draft = service.row(Invoice, invoice).stripe_invoice
    service.by_hand(f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by hand")
    assert service.settle(invoice) == ["refused"]
    totals = "subtotal: expected 4501, found 4578; total: expected 4501, found 4578"
    assert service.status(invoice).reason == f"total_differs: {totals}; lines: expected 2, found 3"
    assert [effect["id"] for effect in service.effects("invoice.deleted")] == [draft]
    assert service.effects("invoice.finalized") == []

    service.reopen(invoice)
    assert service.settle(invoice) == ["sent"]
    made_again = service.row(Invoice, invoice)
    assert made_again.stripe_invoice != draft
    assert made_again.create_generation == max(r.generation for r in service.records(invoice) if r.step == "create")
    assert len(service.effects("invoice.finalized")) == 1


def test_an_invoice_that_somebody_else_finalized_and_sent_is_not_sent_twice(service: Service) -> None:
    """[49]"""
    invoice = service.ask_for_invoice()
    service.standin.add_fault("drop_before", method="POST", path=STEPS["finalize"], times=1)
    service.plan()
    service.work_off("invoices")
    draft = service.row(Invoice, invoice).stripe_invoice
    service.by_hand(f"/v1/invoices/{draft}/finalize", "auto_advance=false")
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.finalized", draft)) == 1
    assert len(service.effects("invoice.sent", draft)) == 1


def test_an_unknown_customer_refuses_the_invoice(service: Service) -> None:
    invoice = service.ask_for_invoice("cus_nobody")
    assert service.settle(invoice) == ["refused"]
    assert service.records(invoice)[0].state == RecordState.ANSWERED


def _one_sent_invoice(service: Service, invoice: str) -> None:
    row = service.row(Invoice, invoice)
    made = {e["id"] for e in service.effects("invoice.created") if e["metadata"].get("billing_operation") == invoice}
    assert made - {e["id"] for e in service.effects("invoice.deleted")} == {row.stripe_invoice}
    for kind in ("invoice.lines_added", "invoice.finalized", "invoice.sent"):
        assert len(service.effects(kind, row.stripe_invoice)) == 1, kind
    assert service.effects("invoice.finalized", row.stripe_invoice)[0]["amount"] == row.total_minor
