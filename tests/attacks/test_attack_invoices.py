"""Invoices with many lines, odd currencies and connected accounts end like any other, and so do those put back."""

import json
from dataclasses import replace

import pytest
from service import Service, Through, eventually

import billing
from billing import database
from billing.gateway import Answer, Request, Response
from billing.tables.entities import Invoice


def _ask(service: Service, count: int, currency: str = "EUR", minor: int = 100, **more: object) -> str:
    service._asked += 1
    with database.transaction(service.engine) as session:
        return billing.issue_invoice(
            session,
            customer=service.customer() if "customer" not in more else str(more.pop("customer")),
            lines=[billing.Line(f"seat {n}", billing.Money(minor * (n + 1), currency)) for n in range(count)],
            collect=billing.SendInvoice(days_until_due=14),
            request_id=f"lines-{service._asked}",
            **more,  # type: ignore[arg-type]
        ).invoice_id


@pytest.mark.parametrize("count", [10, 11, 99, 100])
def test_many_lines(service: Service, count: int) -> None:
    invoice = _ask(service, count)
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.lines_added")) == 1
    assert len(service.posts("/add_lines")) == 1


@pytest.mark.parametrize("currency", ["JPY", "ISK", "UGX", "KRW"])
def test_odd_currencies(service: Service, currency: str) -> None:
    invoice = _ask(service, 3, currency)
    assert service.settle(invoice) == ["sent"]


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "500_saved"])
def test_many_lines_and_a_lost_answer(service: Service, fault: str) -> None:
    invoice = _ask(service, 25)
    service.standin.add_fault(fault, method="POST", path="/add_lines$", times=1)
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.lines_added")) == 1


def test_a_wrong_total_with_many_lines_is_deleted_as_one_with_few_is(service: Service) -> None:
    """Of more than ten lines an answer shows ten: the others are read before the total is compared."""
    few, many = _outcome(service, 3), _outcome(service, 12)
    assert few == "refused"
    assert many == "refused"


def _outcome(service: Service, count: int) -> str:
    from worker import KILLED, fork_worker, reap

    invoice = _ask(service, count)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="commit.after:2")) == KILLED
    service.age(invoice, service.timing.lease_s)
    draft = service.row(Invoice, invoice).stripe_invoice
    service.by_hand(f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by hand")

    def decided() -> bool:
        service.relay.round()
        service.work_off("invoices")
        return service.status(invoice).final or service.status(invoice).state == "conflict"

    eventually(decided, "decided")
    return service.status(invoice).state


def uncollectible(request: Request, answer: Answer) -> Answer:
    """A finalized invoice reads as uncollectible, which can still be paid."""
    if isinstance(answer, Response) and request.method == "GET" and answer.data and answer.data.get("number"):
        data = {**answer.data, "status": "uncollectible"}
        return replace(answer, data=data, kept=json.dumps(data).encode())
    return answer


def test_an_invoice_that_was_finalized_at_stripe_is_never_made_a_second_time(service: Service) -> None:
    """The answer is lost and a person marks it uncollectible, which can still be paid: no reopening makes another."""
    invoice = service.ask_for_invoice()
    service.standin.add_fault("500_with_effect", method="POST", path="/finalize$", times=1)
    assert service.settle(invoice, gateway=Through(service, uncollectible)) == ["refused"]
    assert len(service.effects("invoice.finalized")) == 1
    service.reopen(invoice)
    service.settle(invoice)
    assert len(service.effects("invoice.finalized")) == 1, "two payable invoices for one request"


def test_a_connected_account_and_a_lost_answer(service: Service) -> None:
    """Captures and invoices of a connected account are found again under their account."""
    service.standin.add_fault("drop_after_commit", method="POST", path="(add_lines|finalize|send)$", times=3)
    customer = service.by_hand("/v1/customers", "name=T&email=t%40example.com", account="acct_shop1")
    invoice = _ask(service, 12, customer=customer, account="acct_shop1")
    assert service.settle(invoice) == ["sent"]
    assert len(service.effects("invoice.finalized")) == 1
