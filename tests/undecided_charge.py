"""A second charge of an invoice whose answer never came: nothing at Stripe shows whether it was made."""

from service import Service, Through

import billing
from billing.gateway import NoAnswer


def undecided_charge(service: Service) -> tuple[str, str]:
    """The invoice, which was charged in vain before, and the action. It was looked at for twelve days."""
    customer, _ = service.payer("pm_card_chargeCustomerFail")
    invoice = service.ask_for_invoice(customer, collect=billing.ChargeAutomatically())
    assert service.settle(invoice) == ["unpaid"]
    asked = service.act_on(invoice, "pay_invoice")
    lost = Through(service, before=lambda request: NoAnswer("lost") if request.path.endswith("/pay") else None)
    service.plan()
    service.work_off("invoices", lost)
    for _ in range(12):
        service.age(asked, 24 * 3600)
        service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
        service.relay.round()
        service.work_off("invoices")
    return invoice, asked
