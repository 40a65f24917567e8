"""Charges of invoices whose answers never came: nothing at Stripe shows whether they were made."""

from contextlib import suppress

from service import Service, Through

import billing
from billing.gateway import NoAnswer
from billing.tables.entities import Invoice


def undecided_charge(service: Service) -> tuple[str, str]:
    """The invoice, which was charged in vain before, and the action. It was looked at for twelve days."""
    customer, _ = service.payer("pm_card_chargeCustomerFail")
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically())
    assert service.settle(invoice) == ["unpaid"]
    asked = service.act_on(invoice, "pay_invoice")
    service.plan()
    service.work_off("invoices", _loses_charges(service))
    _look_for_days(service, asked)
    return invoice, asked


def undecided_first_charge(service: Service) -> str:
    """The invoice. Its own charge got no answer, and somebody at Stripe has tried to charge it meanwhile, in vain."""
    customer, _ = service.payer("pm_card_chargeCustomerFail")
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically())
    service.plan()
    service.work_off("invoices", _loses_charges(service))
    with suppress(AssertionError):  # a 402
        service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/pay")
    _look_for_days(service, invoice)
    return invoice


def _loses_charges(service: Service) -> Through:
    """A gateway whose charges do not arrive."""
    return Through(service, before=lambda request: NoAnswer("lost") if request.path.endswith("/pay") else None)


def _look_for_days(service: Service, operation: str) -> None:
    for _ in range(12):
        service.age(operation, 24 * 3600)
        service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
        service.relay.round()
        service.work_off("invoices")
