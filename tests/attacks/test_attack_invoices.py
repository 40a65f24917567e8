"""Invoices with many lines, odd currencies and connected accounts end like any other, and so do those put back."""

import json
from dataclasses import replace

import pytest
from house import House, eventually

import billing
from billing import database
from billing.gateway import Answer, Budget, Request, Response
from billing.tables import Invoice
from jobs.road import quarantine


def _ask(house: House, count: int, currency: str = "EUR", minor: int = 100, **more: object) -> str:
    house._asked += 1
    with database.transaction(house.engine) as session:
        return billing.issue_invoice(
            session,
            customer=house.customer() if "customer" not in more else str(more.pop("customer")),
            lines=[billing.Line(f"seat {n}", billing.Money(minor * (n + 1), currency)) for n in range(count)],
            collect=billing.SendInvoice(days_until_due=14),
            request_id=f"lines-{house._asked}",
            **more,  # type: ignore[arg-type]
        ).invoice_id


@pytest.mark.parametrize("count", [10, 11, 99, 100])
def test_many_lines(house: House, count: int) -> None:
    invoice = _ask(house, count)
    assert house.settle(invoice) == ["sent"]
    assert len(house.effects("invoice.lines_added")) == 1
    assert len(house.posts("/add_lines")) == 1


@pytest.mark.parametrize("currency", ["JPY", "ISK", "UGX", "KRW"])
def test_odd_currencies(house: House, currency: str) -> None:
    invoice = _ask(house, 3, currency)
    assert house.settle(invoice) == ["sent"]


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "500_saved"])
def test_many_lines_and_a_lost_answer(house: House, fault: str) -> None:
    invoice = _ask(house, 25)
    house.standin.add_fault(fault, method="POST", path="/add_lines$", times=1)
    assert house.settle(invoice) == ["sent"]
    assert len(house.effects("invoice.lines_added")) == 1


def test_a_wrong_total_with_many_lines_is_deleted_as_one_with_few_is(house: House) -> None:
    """Of more than ten lines an answer shows ten: the others are read before the total is compared."""
    few, many = _outcome(house, 3), _outcome(house, 12)
    assert few == "refused"
    assert many == "refused"


def _outcome(house: House, count: int) -> str:
    from worker import KILLED, fork_worker, reap

    invoice = _ask(house, count)
    house.plan()
    assert reap(fork_worker(house, "invoices", at="commit.after:2")) == KILLED
    house.age(invoice, house.timing.lease_s)
    draft = house.row(Invoice, invoice).stripe_invoice
    from billing.gateway import boot_clock

    body = "lines[0][amount]=77&lines[0][description]=by+hand"
    house.gateway().send(
        Request("POST", f"/v1/invoices/{draft}/add_lines", body, key=f"hand-{draft}"),
        Budget(boot_clock() + 5, boot_clock() + 10),
    )

    def decided() -> bool:
        house.relay.round()
        house.work_off("invoices")
        return house.status(invoice).final or house.status(invoice).state == "conflict"

    eventually(decided, "decided")
    return house.status(invoice).state


class Uncollectible:
    """Everything as it is, but a finalized invoice reads as uncollectible (which can still be paid)."""

    def __init__(self, house: House) -> None:
        self._gateway = house.gateway()
        self.livemode = self._gateway.livemode

    def send(self, request: Request, budget: Budget) -> Answer:
        answer = self._gateway.send(request, budget)
        if isinstance(answer, Response) and request.method == "GET" and answer.data and answer.data.get("number"):
            data = {**answer.data, "status": "uncollectible"}
            return replace(answer, data=data, kept=json.dumps(data).encode())
        return answer


def test_an_invoice_that_was_finalized_at_stripe_is_never_made_a_second_time(house: House) -> None:
    """The answer is lost and a person marks it uncollectible, which can still be paid: no reopening makes another."""
    invoice = house.ask_for_invoice()
    house.standin.add_fault("500_with_effect", method="POST", path="/finalize$", times=1)
    assert house.settle(invoice, gateway=Uncollectible(house)) == ["refused"]
    assert len(house.effects("invoice.finalized")) == 1
    with database.transaction(house.engine) as session:
        quarantine.reopen_invoice(session, invoice, actor="anna", reason="the customer wants it after all")
    house.settle(invoice)
    assert len(house.effects("invoice.finalized")) == 1, "two payable invoices for one request"


def test_a_connected_account_and_a_lost_answer(house: House) -> None:
    """Captures and invoices of a connected account are found again under their account."""
    from billing.gateway import boot_clock

    house.standin.add_fault("drop_after_commit", method="POST", path="(add_lines|finalize|send)$", times=3)
    answer = house.gateway().send(
        Request("POST", "/v1/customers", "name=T&email=t%40example.com", key="connected", account="acct_shop1"),
        Budget(boot_clock() + 5, boot_clock() + 10),
    )
    assert isinstance(answer, Response)
    assert answer.data
    invoice = _ask(house, 12, customer=answer.data["id"], account="acct_shop1")
    assert house.settle(invoice) == ["sent"]
    assert len(house.effects("invoice.finalized")) == 1
