"""Nothing is found on clean payments of every kind, whatever their order, their webhooks and the time between passes.

BILLING_CLEAN_PAYMENTS=10000 makes so many of them; it prints how fast they were compared.
"""

import os
import time
from datetime import timedelta

from compared import differences, reconcile
from service import PATIENCE_S, Service
from test_refunds_and_voids_compared import parts_of

PAYMENTS = int(os.environ.get("BILLING_CLEAN_PAYMENTS", "60"))
WITHIN_S = max(PATIENCE_S, PAYMENTS / 10)


def test_nothing_is_found_on_clean_payments_in_parts_voided_and_refunded(service: Service) -> None:
    """Of six payments one is captured in two parts, one voided, one refunded in whole and one in part. A pass between
    the steps finds none either: what is under way is left alone."""
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
    service.settle(*refunds, within_s=WITHIN_S)
    began = time.monotonic()
    report = reconcile(service)
    took_s = time.monotonic() - began
    compared = report.counted.compared
    print(f"{PAYMENTS} payments, {compared} operations compared, {compared / took_s:.0f}/s: 0 differences")
    assert differences(service) == []
    # One whose facts lie on two pages is compared with each.
    assert compared >= len(asked) + len(captured) + len(refunds)
    assert report.in_doubt == 0
