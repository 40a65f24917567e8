"""Nothing is found on clean payments of every kind, whatever their order, their webhooks and the time between passes.

BILLING_CLEAN_PAYMENTS=10000 makes so many of them; it prints how fast they were compared.
"""

import os
import time
from datetime import timedelta

from compared import differences, reconcile
from service import PATIENCE_S, Service, eventually
from test_payments_of_invoices_compared import pay_in_part
from test_refunds_and_voids_compared import parts_of

from billing.states import WorkState

PAYMENTS = int(os.environ.get("BILLING_CLEAN_PAYMENTS", "60"))
WITHIN_S = max(PATIENCE_S, PAYMENTS / 10)


def test_nothing_is_found_on_clean_payments_in_parts_voided_and_refunded(service: Service) -> None:
    """Of six payments one is captured in two parts, one voided, one refunded in whole and one in part. Of what is
    captured every fourth is invoiced, and as many invoices are paid by a card, out of band, in part, or by two
    payments. A pass between the steps finds none either: what is under way is left alone."""
    intents = service.intents(PAYMENTS)
    asked, captured = [], []
    for number, intent in enumerate(intents):
        match number % 6:
            case 0:
                asked += parts_of(service, 300, 200)[1]
            case 1:
                asked.append(service.ask_for_void(intent))
            case _:
                captured.append(service.ask_for_capture(intent, 1999 - number % 3))
    service.plan()
    service.work_off()
    reconcile(service, settle=timedelta(hours=1))
    assert differences(service) == [], "in the middle of it"
    service.settle(*asked, *captured, within_s=WITHIN_S)
    refunds = [service.ask_for_refund(each, 500 if number % 2 else None) for number, each in enumerate(captured[::2])]
    customer = service.customer()
    invoices = [service.ask_for_invoice_of_capture(each, customer) for each in captured[1::4]]
    service.settle(*refunds, *invoices, within_s=WITHIN_S)
    invoices += invoices_of_every_kind(service, len(invoices))
    began = time.monotonic()
    report = reconcile(service)
    took_s = time.monotonic() - began
    compared = report.counted.compared
    print(f"{PAYMENTS} payments, {compared} operations compared, {compared / took_s:.0f}/s: 0 differences")
    assert [(each.kind, each.subject, each.what) for each in differences(service)] == []
    # One whose facts lie on two pages is compared with each.
    assert compared >= len(asked) + len(captured) + len(refunds) + len(invoices)
    assert report.in_doubt == 0


def invoices_of_every_kind(service: Service, count: int) -> list[str]:
    """Sent, and paid since; every fifth of them is given back in part."""
    invoices = []
    for number in range(count):
        match number % 4:
            case 0:
                invoices.append(service.paid_invoice())
            case 1:
                invoices.append(service.paid_invoice("paid_out_of_band=true"))
            case kind:
                invoices.append(service.sent_invoice())
                pay_in_part(service, invoices[-1], 1000)
                if kind == 3:
                    pay_in_part(service, invoices[-1], 3501)
                service.notice(invoices[-1])
    service.settle(*[service.refund_invoice(each) for each in invoices[::5] if service.status(each).state == "paid"])
    eventually(lambda: all_looked_at(service), "every payment is seen")
    return invoices


def all_looked_at(service: Service) -> bool:
    service.relay.round()
    service.work_off("invoices")
    return set(service.states_of_work("invoices")) <= {WorkState.DONE}
