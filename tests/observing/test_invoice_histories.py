"""Whatever happens to invoices at Stripe, and however its events come: late, twice, in disorder or not at all.

No invoice goes back, nothing is told twice, and in the end each is what Stripe says. Once as a model, over any looks;
once on real servers, where the histories and the deliveries are random, from a printed seed.
"""

import random
from typing import Any

import pytest
from enumerated import SEED
from hypothesis import given
from hypothesis import strategies as st
from service import Service, eventually

import billing
from billing import database, inbox
from billing.events import event_of
from billing.invoice_observing import OBSERVE
from billing.learned import Learned
from billing.states import InvoiceState
from billing.steps import LoadedOperation
from billing.tables.entities import Invoice

STATUSES = ("draft", "open", "paid", "void", "uncollectible", "of tomorrow", None)
ENDS = {
    "paid": InvoiceState.PAID,
    "void": InvoiceState.VOIDED,
    "uncollectible": InvoiceState.UNCOLLECTIBLE,
}
"""What Stripe's status of an invoice is here; an open one stays as it was sent, or was not paid."""
OBSERVED = {(each.start, each.end) for each in Invoice.life.transitions if each.observed}


looks = st.lists(st.tuples(st.sampled_from(STATUSES), st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(start=st.sampled_from([each for each in InvoiceState if Invoice.life.is_final(each)]), looks=looks)
def test_looks_that_are_settled_in_any_order_lead_only_forward(
    start: InvoiceState, looks: list[tuple[str | None, int, int]]
) -> None:
    """[23] An old look may be settled after a new one: what it found was true once. What was paid, and how often it was
    tried, only grows."""
    row = Invoice(id="inv_1", state=start, version=1, total_minor=300, currency="USD", stripe_invoice="in_1")
    loaded, came_to, seen = LoadedOperation(row, [], "wrk_1", "invoices"), [str(start)], [(0, 0)]
    for status, amount_paid, attempts in looks:
        found = {"status": status, "total": 300, "currency": "usd", "amount_paid": amount_paid}
        told = OBSERVE.apply(loaded, Learned.SUCCEEDED, found | {"attempt_count": attempts}, "")
        topics = [fact.topic.removeprefix("invoice.") for fact in told]
        if row.state != came_to[-1]:
            assert (came_to[-1], row.state) in OBSERVED
            assert topics[-1] == row.state
            came_to.append(str(row.state))
            topics.pop()
        assert set(topics) <= {"partly_paid", "payment_failed"}
        seen.append((row.paid_minor or 0, row.attempts or 0))
    assert len(set(came_to)) == len(came_to), "a state that it had left"
    for one in range(2):
        assert [each[one] for each in seen] == sorted(each[one] for each in seen)


ACTS: dict[str, tuple[str, dict[str, str]]] = {
    "pay": ("paid_out_of_band=true", {"open": "paid", "uncollectible": "paid"}),
    "void": ("", {"open": "void", "uncollectible": "void"}),
    "mark_uncollectible": ("", {"open": "uncollectible"}),
}
"""What may be done at Stripe: the body of the call, and the status of the invoice before and after."""
INVOICES, TURNS = 4, 14


class AtStripe:
    """The invoices there, as people and customers change them."""

    def __init__(self, service: Service, rng: random.Random, invoices: list[str]) -> None:
        self._service, self._rng = service, rng
        self.status = {str(service.row(Invoice, each).stripe_invoice): "open" for each in invoices}

    def something_happens(self) -> None:
        possible = [
            (invoice, act)
            for invoice, status in self.status.items()
            for act, (_, changes) in ACTS.items()
            if status in changes
        ]
        if possible:
            invoice, act = self._rng.choice(sorted(possible))
            body, changes = ACTS[act]
            self._service.by_hand(f"/v1/invoices/{invoice}/{act}", body)
            self.status[invoice] = changes[self.status[invoice]]

    def events(self) -> list[dict[str, Any]]:
        """Every one that there has been."""
        return [each for each in self._service.read_list("/v1/events") if "invoice" in str(each["type"])]


def deliver(service: Service, events: list[dict[str, Any]]) -> None:
    received = [event_of(each, source="webhook") for each in events]
    with database.transaction(service.engines["web"]) as session:
        for each in received:
            assert each is not None
            inbox.put(session, [each])


def worked_off(service: Service) -> bool:
    moved = service.relay.round()
    service.work_off("invoices")
    return not moved and set(service.states_of_work()) <= {"done"}


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_random_histories_told_in_random_order_end_as_stripe_has_them(service: Service, seed: int) -> None:
    """[22, 23]"""
    rng = random.Random(seed)
    print(f"seed {seed}")
    customer, broke = service.customer(), service.payer("pm_card_chargeCustomerFail")[0]
    invoices = [service.ask_for_invoice(customer) for _ in range(INVOICES // 2)]
    invoices += [
        service.ask_for_invoice(broke, collect=billing.ChargeAutomatically()) for _ in range(INVOICES - len(invoices))
    ]
    began = dict(zip(invoices, service.settle(*invoices), strict=True))
    assert set(began.values()) == {"sent", "unpaid"}
    there = AtStripe(service, rng, invoices)
    for _ in range(TURNS):
        if rng.random() < 0.5:
            there.something_happens()
        told = there.events()
        # Some twice, some not at all, and none in its place.
        deliver(service, rng.choices(told, k=rng.randint(0, 4)))
        if rng.random() < 0.5:
            eventually(lambda: worked_off(service), "what was told is looked at")
    # Those that no webhook brought are swept, in their turn.
    deliver(service, rng.sample(there.events(), len(there.events())))
    eventually(lambda: worked_off(service), "everything is looked at")
    for invoice in invoices:
        status = there.status[str(service.row(Invoice, invoice).stripe_invoice)]
        came_to = [topic for topic in service.topics(invoice) if topic in list(InvoiceState)]
        assert service.status(invoice).state == ENDS.get(status, began[invoice]), status
        assert len(set(came_to)) == len(came_to), came_to
        assert came_to[-1] == service.status(invoice).state
        assert service.row(Invoice, invoice).version == len(service.facts(invoice))
