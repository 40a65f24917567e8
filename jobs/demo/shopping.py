"""The application of the demo: it authorizes cards, asks for captures and invoices, and orders faults."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.orm import Session

import billing
from billing.gateway import Budget, Gateway, Request, Response, boot_clock
from billing.states import CaptureState, InvoiceState
from stripe_standin.control import Control

# What happens to the first request of a call, and to how many percent of the calls. Of the lost answers, half are about
# money that was taken.
CAPTURE_FAULTS = {
    "drop_before": 4,
    "drop_after_commit": 6,
    "truncate_body": 2,
    "500_saved": 3,
    "500_with_effect": 3,
    "502_html": 2,
    "429_rate": 3,
    "409_in_use": 2,
    "latency": 4,
    "402_declined": 3,
}
INVOICE_FAULTS = ("drop_before", "drop_after_commit", "500_saved", "500_with_effect", "truncate_body", "429_rate")
INVOICE_STEPS = ("create", "add_lines", "finalize", "send")
HANGING = ("hold_after", "hold_before", "hold_after", "hold_before")
"""Calls that hang until their worker is killed: after the capture, and before it."""

PRICES = ((1999, "USD"), (4500, "EUR"), (120000, "JPY"), (799, "GBP"))


@dataclass(slots=True)
class Order:
    """One capture to be asked for, with the state in which it must end."""

    payment_intent: str
    amount: billing.Money
    authorization: billing.Authorization | None
    expected: str = CaptureState.CAPTURED
    fault: str | None = None
    capture_id: str = ""


@dataclass(slots=True)
class Shop:
    """`seed` decides every amount and every fault; only the timing differs from run to run."""

    gateway: Gateway
    standin: Control
    seed: int
    tag: str
    orders: list[Order] = field(default_factory=list)
    invoices: dict[str, str] = field(default_factory=dict)
    """Invoice id -> the state in which it must end."""
    hanging: list[Order] = field(default_factory=list)
    """Next to each other, after a third of the orders."""
    doubtful: Order | None = None
    """Its answer names another amount, so an operator has to decide. None if there are too few orders."""
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """What `billing` refused, as it must."""
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a repeatable run, no secret

    def authorize(self, count: int) -> None:
        """Authorize cards at the stand-in. Banks decline some, and the shop cancels some authorizations again."""
        rng = self._rng
        declined, canceled = max(1, count // 50), max(1, count // 50)
        for price, currency in PRICES:
            share = (count - declined) // len(PRICES) + (currency == "USD") * ((count - declined) % len(PRICES))
            for intent in self.standin.authorizations(share, amount=price, currency=currency.lower()) if share else ():
                minor = price if rng.random() < 0.85 else rng.randrange(price // 2, price)
                known = billing.Authorization(price, currency, None) if rng.random() < 0.7 else None
                self.orders.append(Order(intent, billing.Money(minor, currency), known))
        rng.shuffle(self.orders)
        for order in self.orders[:canceled]:
            self._post(f"/v1/payment_intents/{order.payment_intent}/cancel")
            order.expected = CaptureState.CANCELED
        self._order_faults(self.orders[canceled:])
        for _ in range(declined):
            # The bank declined the authorization. The shop did not check, and asks for the capture all the same.
            order = Order(self._declined_intent(), billing.Money(1999, "USD"), None, CaptureState.REFUSED)
            self.orders.append(order)
        rng.shuffle(self.orders)
        self._let_some_hang()

    def card(self, amount: int, more: str = "", *, card: str = "pm_card_visa") -> str:
        """One authorization in USD, as a checkout makes it. Returns its payment intent."""
        body = f"amount={amount}&currency=usd&capture_method=manual&confirm=true&payment_method={card}{more}"
        return str(self._post("/v1/payment_intents", body)["id"])

    def pay(self, stripe_invoice: str) -> None:
        """What a customer does with an invoice that came by e-mail."""
        self._post(f"/v1/invoices/{stripe_invoice}/pay", "paid_out_of_band=true")

    def events(self, types: Sequence[str]) -> list[str]:
        """The ids of the last hundred events of these types, the oldest first."""
        query = "&".join(["limit=100", *(f"types[]={each}" for each in types)])
        return [each["id"] for each in reversed(self._ask("GET", f"/v1/events?{query}")["data"])]

    @property
    def expected(self) -> dict[str, str]:
        """Request -> the state in which it must end."""
        return {order.capture_id: order.expected for order in self.orders} | self.invoices

    def customer(self) -> str:
        return str(self._post("/v1/customers", "name=Demo&email=demo%40example.com")["id"])

    def ask(self, session: Session, orders: Sequence[Order], customer: str, invoices: int) -> None:
        """One transaction of an application, with the requests for what it sold. The caller commits."""
        # This transaction also calls the stand-in, so it needs more time than the default.
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1min'"))
        for order in orders:
            receipt = self._request(session, order)
            order.capture_id = receipt.capture_id
        for _ in range(invoices):
            self._invoice(session, customer)
        if orders:
            self._ask_again(session, orders[0])

    def capture_without_the_service(self) -> str:
        """Capture money that no request asked for: the count must find it. Returns its payment intent."""
        (intent,) = self.standin.authorizations(1)
        self._post(f"/v1/payment_intents/{intent}/capture")
        return intent

    def _request(self, session: Session, order: Order, request_id: str | None = None) -> billing.CaptureReceipt:
        return billing.request_capture(
            session,
            payment_intent=order.payment_intent,
            amount=order.amount,
            authorization=order.authorization,
            request_id=request_id or f"{self.tag}-{order.payment_intent}",
        )

    def _ask_again(self, session: Session, order: Order) -> None:
        """The same request returns the same receipt; another one for the same authorization is refused."""
        assert not self._request(session, order).new
        self.refused["the same request, asked twice"] += 1
        try:
            self._request(session, order, f"{self.tag}-second-{order.payment_intent}")
        except billing.AuthorizationTaken:
            self.refused["a second capture of one authorization"] += 1

    def _invoice(self, session: Session, customer: str) -> None:
        rng = self._rng
        currency = rng.choice(["EUR", "USD"])
        lines = [
            billing.Line(f"{n + 1} seats", billing.Money(rng.randrange(100, 9000), currency))
            for n in range(rng.randrange(1, 5))
        ]
        receipt = billing.issue_invoice(
            session,
            customer=customer,
            lines=lines,
            collect=billing.SendInvoice(days_until_due=14),
            request_id=f"{self.tag}-invoice-{len(self.invoices)}",
        )
        self.invoices[receipt.invoice_id] = InvoiceState.SENT
        if len(self.invoices) % 2:
            fault, step = rng.choice(INVOICE_FAULTS), rng.choice(INVOICE_STEPS)
            self._add([{"fault": fault, "method": "POST", "key": f":{receipt.invoice_id}:{step}:", "times": 1}])

    def _order_faults(self, orders: Sequence[Order]) -> None:
        fates = [f for f, share in CAPTURE_FAULTS.items() for _ in range(max(1, round(len(orders) * share / 100)))]
        for fault, order in zip(fates, orders, strict=False):
            self._strike(order, fault)
            if fault == "402_declined":
                order.expected = CaptureState.DECLINED
        # Looks fail now and then, too.
        reads = {"method": "GET", "path": "^/v1/", "probability": 0.05, "seed": self.seed}
        self.standin.add_faults([{"fault": "drop_before", **reads}])

    def _let_some_hang(self) -> None:
        whole = [o for o in self.orders if o.expected == CaptureState.CAPTURED and o.authorization and not o.fault]
        self.hanging = whole[: len(HANGING)]
        for fault, order in zip(HANGING, self.hanging, strict=False):
            self._strike(order, fault)
        # The last: its answer must not go to the worker that is killed.
        for order in whole[len(HANGING) :][-1:]:
            self.doubtful = order
            self._strike(order, "other_amount")
        rest = [order for order in self.orders if order not in self.hanging]
        third = len(rest) // 3
        self.orders = [*rest[:third], *self.hanging, *rest[third:]]

    def _strike(self, order: Order, fault: str) -> None:
        order.fault = fault
        rule = {"fault": fault, "method": "POST", "path": f"/{order.payment_intent}/capture$", "times": 1}
        self._add([rule | ({"seconds": 0.4} if fault == "latency" else {})])

    def _add(self, rules: Sequence[Mapping[str, Any]]) -> None:
        if rules:
            self.standin.add_faults(rules)
            self.faults.update(rule["fault"] for rule in rules)

    def _declined_intent(self) -> str:
        body = "amount=1999&currency=usd&capture_method=manual&confirm=true&payment_method=pm_card_chargeCustomerFail"
        error: Any = self._post("/v1/payment_intents", body)["error"]
        return str(error["payment_intent"]["id"])

    def _post(self, path: str, body: str = "") -> Mapping[str, Any]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: str = "") -> Mapping[str, Any]:
        key = f"{self.tag}-{uuid4().hex}" if method == "POST" else None
        request = Request(method, path, body, key=key)
        answer = self.gateway.send(request, Budget(boot_clock() + 10, boot_clock() + 10))
        assert isinstance(answer, Response), f"the stand-in did not answer: {answer}"
        return answer.data or {}
