"""Answers about an invoice that lie: at most one is finalized, and it is the one that was asked for."""

import pytest
from service import Service, eventually
from test_invoices import STEPS

from stripe_standin.hostile import LIES

# A lie about what the step does not judge by (a draft has no amounts, and is a draft), or that a look finds out.
SENT = {("create", "other_amount"), *((step, "not_end_state") for step in STEPS)}
# Lines that differ are refused, and their draft is deleted; an id that leads nowhere ends there.
REFUSED = {("create", "other_id"), ("add_lines", "other_currency"), ("add_lines", "other_amount")}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("step", STEPS)
def test_a_lie_about_an_invoice_is_not_believed(service: Service, step: str, lie: str) -> None:
    invoice = service.ask_for_invoice()
    service.standin.add_fault(lie, method="POST", path=STEPS[step], times=1)
    expected = "sent" if (step, lie) in SENT else "refused" if (step, lie) in REFUSED else "conflict"
    assert _ended(service, invoice) == expected
    _at_most_one_and_the_right_one(service, sent=expected == "sent")


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_told_to_a_look_is_not_believed(service: Service, lie: str) -> None:
    invoice = service.ask_for_invoice()
    service.standin.add_fault("500_with_effect", path=STEPS["finalize"], times=1)
    service.standin.add_fault(lie, method="GET", path="^/v1/(invoices|events)", times=1)
    # What is about something else was not seen; what is ours and differs is for a person.
    expected = "conflict" if lie in ("other_currency", "other_amount") else "sent"
    assert _ended(service, invoice) == expected
    _at_most_one_and_the_right_one(service, sent=expected == "sent")


def _ended(service: Service, invoice: str) -> str:
    """Its state when nothing is done about it any more: it is final, or a person is asked."""

    def ended() -> str | None:
        service.relay.round()
        service.work_off("invoices")
        status = service.status(invoice)
        return str(status.state) if status.final or status.state == "conflict" else None

    return str(eventually(ended, "it has ended"))


def _at_most_one_and_the_right_one(service: Service, *, sent: bool) -> None:
    amounts = [effect["amount"] for effect in service.effects("invoice.finalized")]
    assert amounts in ([[4501]] if sent else [[], [4501]])
    assert len(service.effects("invoice.sent")) <= 1
