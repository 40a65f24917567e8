"""Refunds of invoices are compared with Stripe's ledger as refunds of captures are."""

import pytest
from compared import differences, open_classes, reconcile
from service import Service

from billing.states import RecordState


def test_refunds_of_a_paid_invoice_make_no_difference(service: Service) -> None:
    invoice = service.paid_invoice()
    assert service.settle(service.refund_invoice(invoice), service.refund_invoice(invoice, None)) == ["succeeded"] * 2
    reconcile(service)
    assert differences(service) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing_there", "stripe_refund = 're_nowhere'"),
        ("missing_here", "state = 'refused'"),
        ("amount", "amount_minor = 499"),
        ("currency", "currency = 'USD'"),
    ],
)
def test_a_refund_that_differs_is_found_in_its_class(service: Service, kind: str, change: str) -> None:
    refund = service.refund_invoice(service.paid_invoice())
    assert service.settle(refund) == ["succeeded"]
    service.execute(f"UPDATE billing.refunds SET {change} WHERE id = :id", id=refund)
    reconcile(service)
    assert open_classes(service) == {kind: refund}


def test_one_in_doubt_whose_effect_stripe_shows_is_looked_at_at_once(service: Service) -> None:
    invoice = service.paid_invoice()
    service.standin.add_fault("drop_after_commit", path="/v1/refunds$", times=1)
    refund = service.refund_invoice(invoice)
    service.plan()
    service.work_off("refunds")
    assert service.record(refund).state == RecordState.IN_DOUBT
    service.execute("UPDATE billing.idempotency_records SET look_at = now() + interval '1 hour'")
    report = reconcile(service)
    assert (differences(service), report.in_doubt, report.counted.noticed) == ([], 1, 1)
    assert service.settle(refund) == ["succeeded"]
    assert service.refunded(refund) == [500]
