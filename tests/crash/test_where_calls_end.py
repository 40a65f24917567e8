"""Whatever state a call finds its object in at Stripe, its operation ends, or a person is told: over HTTP."""

from collections.abc import Callable

import pytest
from house import House
from worker import KILLED, fork_worker, reap

from billing.gateway import Budget, Request, Response, boot_clock
from billing.tables import Invoice, RecordState


def by_hand(house: House, path: str, body: str = "", method: str = "POST") -> str:
    """What a person does in Stripe's dashboard. Returns the object's id."""
    budget = Budget(boot_clock() + 5, boot_clock() + 10)
    answer = house.gateway().send(Request(method, path, body, key=f"by-hand-{boot_clock()}"), budget)
    assert isinstance(answer, Response)
    assert answer.status == 200, answer
    return str((answer.data or {})["id"])


def customer(house: House, fields: str = "name=Test&email=test%40example.com", credit: int = 0) -> str:
    made = by_hand(house, "/v1/customers", fields)
    if credit:
        by_hand(house, f"/v1/customers/{made}/balance_transactions", f"amount=-{credit}&currency=eur")
    return made


def stopped_after(house: House, invoice: str, commits: int) -> str:
    """A worker that died after so many commits of this invoice; returns the draft's id."""
    house.plan()
    assert reap(fork_worker(house, "invoices", at=f"commit.after:{commits}")) == KILLED
    return str(house.row(Invoice, invoice).stripe_invoice)


# Create.


def test_an_invoice_to_a_customer_without_an_address_is_refused_at_once(house: House) -> None:
    invoice = house.ask_for_invoice(customer(house, "name=Test"))
    assert house.settle(invoice) == ["refused"]
    assert "has the customer an e-mail address?" in str(house.status(invoice).reason)
    assert [(record.step, record.state) for record in house.records(invoice)] == [("create", RecordState.ANSWERED)]
    assert len(house.posts("/v1/invoices")) == 1
    assert house.effects("invoice.created") == []


def test_an_invoice_that_was_refused_for_want_of_an_address_is_made_when_there_is_one(house: House) -> None:
    from billing import database
    from jobs import quarantine

    whose = customer(house, "name=Test")
    invoice = house.ask_for_invoice(whose)
    house.settle(invoice)
    by_hand(house, f"/v1/customers/{whose}", "email=test%40example.com")
    with database.transaction(house.engine) as session:
        quarantine.reopen_invoice(session, invoice, actor="anna", reason="the address was added")
    assert house.settle(invoice) == ["sent"]


def test_a_refusal_after_a_lost_answer_to_a_create_is_looked_into(house: House) -> None:
    """The answer to a create that worked is lost; whatever Stripe says next, its draft is found and used."""
    invoice = house.ask_for_invoice()
    house.standin.add_fault("drop_after_commit", method="POST", path="^/v1/invoices$", times=1)
    house.plan()
    house.work_off("invoices")
    made = house.effects("invoice.created")[0]["id"]
    refused = Refusing(house, "/v1/invoices")
    house.settle(invoice, gateway=refused)
    assert refused.times == 1
    assert house.row(Invoice, invoice).stripe_invoice == made
    assert house.status(invoice).state == "sent"
    assert len(house.effects("invoice.created")) == 1


class Refusing:
    """The real gateway, but the first POST to this path is refused without being sent, as Stripe refuses a form."""

    def __init__(self, house: House, path_end: str) -> None:
        self._gateway, self._path_end, self.times = house.gateway(), path_end, 0
        self.livemode, self.api_version = self._gateway.livemode, self._gateway.api_version

    def send(self, request: Request, budget: Budget):  # type: ignore[no-untyped-def]
        if request.method == "POST" and request.path.endswith(self._path_end) and not self.times:
            self.times += 1
            data = {"error": {"type": "invalid_request_error"}}
            return Response(400, b'{"error":{"type":"invalid_request_error"}}', data, "req_refused", False)
        return self._gateway.send(request, budget)


# Paid before it was sent.


def test_an_invoice_that_a_credit_balance_pays_at_its_finalisation_is_paid(house: House) -> None:
    invoice = house.ask_for_invoice(customer(house, credit=5000))
    assert house.settle(invoice) == ["paid"]
    row = house.row(Invoice, invoice)
    assert row.number
    assert house.topics(invoice)[-2:] == ["finalized", "paid"]
    assert [record.step for record in house.records(invoice)] == ["create", "add_lines", "finalize"]
    assert len(house.effects("invoice.finalized", row.stripe_invoice)) == 1
    assert house.posts("/send") == []
    assert house.status(invoice).final


def test_a_credit_balance_that_pays_a_part_leaves_an_invoice_that_is_sent(house: House) -> None:
    invoice = house.ask_for_invoice(customer(house, credit=100))
    assert house.settle(invoice) == ["sent"]


@pytest.mark.parametrize("fault", ["drop_after_commit", "500_with_effect", "500_saved"])
def test_a_lost_answer_to_a_finalisation_that_a_credit_balance_pays_ends_as_paid(house: House, fault: str) -> None:
    invoice = house.ask_for_invoice(customer(house, credit=5000))
    house.standin.add_fault(fault, method="POST", path="/finalize$", times=1)
    assert house.settle(invoice) == ["paid"]
    assert len(house.effects("invoice.finalized")) == 1


@pytest.mark.parametrize("how", ["paid_out_of_band=true", "payment_method=pm_card_visa"])
def test_an_invoice_that_was_paid_elsewhere_before_it_was_sent_is_paid(house: House, how: str) -> None:
    invoice = house.ask_for_invoice()
    open_ = stopped_after(house, invoice, 4)
    assert house.row(Invoice, invoice).state == "finalized"
    by_hand(house, f"/v1/invoices/{open_}/pay", how)
    assert house.settle(invoice) == ["paid"]
    assert house.effects("invoice.sent") == []


def test_an_invoice_that_we_sent_and_that_was_paid_before_we_knew_is_sent(house: House) -> None:
    """Ours by the event with our key: that it was sent is true, whatever became of it."""
    invoice = house.ask_for_invoice()
    house.standin.add_fault("500_with_effect", method="POST", path="/send$", times=1)
    house.plan()
    house.work_off("invoices")
    by_hand(house, f"/v1/invoices/{house.row(Invoice, invoice).stripe_invoice}/pay", "paid_out_of_band=true")
    assert house.settle(invoice) == ["sent"]


# What other hands do between our calls.


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("/void", "not_open: status: expected open, found void"),
        ("/mark_uncollectible", "not_open: status: expected open, found uncollectible"),
    ],
)
def test_an_open_invoice_that_somebody_gave_up_is_refused_and_names_its_status(
    house: House, action: str, reason: str
) -> None:
    invoice = house.ask_for_invoice()
    open_ = stopped_after(house, invoice, 4)
    by_hand(house, f"/v1/invoices/{open_}{action}")
    assert house.settle(invoice) == ["refused"]
    assert house.status(invoice).reason == reason


def _finalised(house: House, draft: str) -> None:
    by_hand(house, f"/v1/invoices/{draft}/finalize", "auto_advance=false")


def _voided(house: House, draft: str) -> None:
    _finalised(house, draft)
    by_hand(house, f"/v1/invoices/{draft}/void")


def _deleted(house: House, draft: str) -> None:
    by_hand(house, f"/v1/invoices/{draft}", method="DELETE")


def _advanced(house: House, draft: str) -> None:
    """Stripe itself finalises it an hour later, and sends it another hour later."""
    by_hand(house, f"/v1/invoices/{draft}", "auto_advance=true")
    house.standin.advance(3 * 3600)


def _edited(house: House, draft: str) -> None:
    by_hand(house, f"/v1/invoices/{draft}/add_lines", "lines[0][amount]=77&lines[0][description]=by+hand")


def _without_customer(house: House, draft: str) -> None:
    whose = house.standin.effects("customer.created")[-1]["id"]
    by_hand(house, f"/v1/customers/{whose}", method="DELETE")


HANDS: list[tuple[str, int, Callable[[House, str], None], str, str | None]] = [
    ("finalised before its lines", 2, _finalised, "refused", "not_a_draft: status: expected draft, found paid"),
    ("deleted before its lines", 2, _deleted, "refused", "gone"),
    ("edited before its lines", 2, _edited, "refused", "total_differs: subtotal: expected 4501, found 4578;"),
    ("finalised before we did", 3, _finalised, "sent", None),
    ("voided before we finalised it", 3, _voided, "refused", "not_open: status: expected open, found void"),
    ("deleted before we finalised it", 3, _deleted, "refused", "gone"),
    ("finalised and sent by Stripe", 3, _advanced, "sent", None),
    ("edited before we finalised it", 3, _edited, "conflict", "mismatch: total: expected 4501, found 4578"),
    ("its customer deleted", 3, _without_customer, "refused", "resource_missing: customer"),
]


@pytest.mark.parametrize(("commits", "hand", "state", "reason"), [pytest.param(*row[1:], id=row[0]) for row in HANDS])
def test_an_invoice_that_other_hands_touched_ends(
    house: House, commits: int, hand: Callable[[House, str], None], state: str, reason: str | None
) -> None:
    invoice = house.ask_for_invoice()
    hand(house, stopped_after(house, invoice, commits))
    assert ended(house, invoice) == state
    found = house.status(invoice).reason
    assert reason is None or str(found).startswith(reason), found
    assert all(effect["amount"] in (0, 4501, 4578) for effect in house.effects("invoice.finalized"))


def ended(house: House, entity_id: str) -> str:
    """Its state when nothing is done about it any more: it is final, or a person is asked."""
    queue = "captures" if entity_id.startswith("cap_") else "invoices"

    def turn() -> bool:
        house.relay.round()
        house.work_off(queue)
        return house.status(entity_id).final or house.status(entity_id).state == "conflict"

    from house import eventually

    eventually(turn, f"{entity_id} ended")
    return str(house.status(entity_id).state)
