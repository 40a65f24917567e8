"""A small application with its own tables: it ships or cancels an order, and asks for its money to be taken or given
back in the same transaction.

    python examples/shop.py        # in a terminal with the lines that `billing up` printed

Its orders and the service's tables are in one database, so an order that is shipped and the request for its money
are written together, or not at all. Workers of the service do the rest: the shop itself asks Stripe only at its
checkout, where the customer's card is authorized.

    DATABASE_URL       postgresql://..., migrated by `billing migrate`
    STRIPE_API_BASE    where the stand-in listens; needed unless PAYMENT_INTENT is set
    PAYMENT_INTENT     an authorization over 19.99 USD of your own, pi_...
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3
from sqlalchemy import Engine, ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import billing


class Table(DeclarativeBase):
    pass


class Order(Table):
    """One order of the shop. The authorization was made at the checkout, by confirming a PaymentIntent."""

    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    payment_intent: Mapped[str]
    total_minor: Mapped[int]
    currency: Mapped[str]
    shipped: Mapped[bool] = mapped_column(default=False)
    capture_id: Mapped[str | None]

    @property
    def total(self) -> billing.Money:
        return billing.Money(self.total_minor, self.currency)


class Cancellation(Table):
    """An order that is not shipped: what the customer's card held for it is given back."""

    __tablename__ = "cancellations"

    number: Mapped[int] = mapped_column(ForeignKey(Order.number), primary_key=True)
    void_id: Mapped[str]


class OutOfStock(Exception):
    """The parcel cannot be packed."""


@dataclass(frozen=True)
class Shop:
    engine: Engine

    def open(self) -> None:
        """Make the shop's own table. The service's are made by `billing migrate`."""
        Table.metadata.create_all(self.engine)

    def sell(self, number: int, payment_intent: str, total: billing.Money) -> None:
        """At the checkout: write the order. The customer's money is only authorized."""
        with Session(self.engine) as session, session.begin():
            session.add(
                Order(number=number, payment_intent=payment_intent, total_minor=total.minor, currency=total.currency)
            )

    def ship(self, number: int, *, in_stock: bool = True) -> str:
        """Ship it and request its money, both or neither.

        A second call requests nothing more. Returns the capture's id.
        """
        with Session(self.engine) as session, session.begin():
            order = session.get_one(Order, number, with_for_update=True)
            order.shipped = True
            receipt = billing.request_capture(
                session,
                payment_intent=order.payment_intent,
                amount=order.total,
                request_id=f"shop-order-{number}",
                correlation_id=f"ship-{number}",
            )
            order.capture_id = receipt.capture_id
            if not in_stock:
                # The transaction is rolled back: the order is not shipped, and its money is not requested.
                raise OutOfStock(number)
            return receipt.capture_id

    def cancel(self, number: int) -> str:
        """Cancel it and give its authorization back, both or neither. Returns the void's id.

        Raises AuthorizationTaken if the order was shipped before: its money is refunded, and nothing is written here.
        """
        with Session(self.engine) as session, session.begin():
            order = session.get_one(Order, number, with_for_update=True)
            receipt = billing.request_void(
                session,
                payment_intent=order.payment_intent,
                reason="requested_by_customer",
                request_id=f"shop-order-{number}-canceled",
                correlation_id=f"cancel-{number}",
            )
            if receipt.new:
                session.add(Cancellation(number=number, void_id=receipt.void_id))
            return receipt.void_id

    def take_back(self, number: int, amount: billing.Money, *, parcel: str) -> str:
        """A parcel came back: give a part of the order's money back. A second call for the same parcel gives no more.

        All parcels together never get more than was captured (`billing.MoreThanCaptured`). Returns the refund's id.
        """
        with Session(self.engine) as session, session.begin():
            order = session.get_one(Order, number, with_for_update=True)
            receipt = billing.request_refund(
                session,
                capture=order.capture_id,
                amount=amount,
                reason="requested_by_customer",
                request_id=f"shop-order-{number}-back-{parcel}",
                correlation_id=f"back-{number}",
            )
            return receipt.refund_id

    def bill(self, customer: str, month: str, seats: int) -> str:
        """Invoice a subscription for one month. A second call for the same month requests nothing new.

        Stripe sends it by e-mail. Without an e-mail address of the customer it is refused, and `billing.status` says
        so.
        """
        with Session(self.engine) as session, session.begin():
            receipt = billing.issue_invoice(
                session,
                customer=customer,
                lines=[billing.Line(f"{seats} seats, {month}", billing.Money(1500 * seats, "EUR"))],
                collect=billing.SendInvoice(days_until_due=14),
                request_id=f"seats-{customer}-{month}",
            )
            return receipt.invoice_id

    def paid(self, number: int) -> str:
        """For a support agent: the state of an order's payment, and what happens next."""
        status = self.status(number)
        return f"{status.state}; {status.next}" if status else "not asked for"

    def status(self, number: int) -> billing.Status | None:
        with Session(self.engine) as session:
            order, canceled = session.get_one(Order, number), session.get(Cancellation, number)
            asked_for = canceled.void_id if canceled else order.capture_id
            return billing.status(session, asked_for) if asked_for else None

    def next_number(self) -> int:
        with Session(self.engine) as session:
            return (session.scalar(select(func.max(Order.number))) or 0) + 1


def authorize(stripe: str, amount: billing.Money) -> str:
    """The authorization of a checkout, in one request: nothing is captured yet, and the amount is held.

    `capture_method=manual` is what makes it a hold. In a real shop the customer's browser confirms the intent
    with the customer's own card; `pm_card_visa` is a test card, so this never works with a live key.
    """
    asked = {
        "amount": amount.minor,
        "currency": amount.currency.lower(),
        "capture_method": "manual",
        "payment_method": "pm_card_visa",
        "confirm": "true",
    }
    headers = {"Authorization": "Bearer sk_test_shop", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = urllib3.request("POST", f"{stripe}/v1/payment_intents", headers=headers, body=urlencode(asked))
    except urllib3.exceptions.HTTPError:
        sys.exit(f"STRIPE_API_BASE is set, and nothing answers at {stripe}; `billing up` starts a stand-in")
    intent = answer.json()
    if intent.get("status") != "requires_capture":
        sys.exit(f"the card was not authorized at {stripe}: {intent}")
    return str(intent["id"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--wait", type=float, default=30, metavar="SECONDS", help="the longest to wait for the money"
    )
    wait_s = arguments.parse_args().wait
    url, stripe = os.environ.get("DATABASE_URL"), os.environ.get("STRIPE_API_BASE")
    payment_intent = os.environ.get("PAYMENT_INTENT")
    if not url:
        sys.exit("DATABASE_URL is not set; `billing up` starts a database and prints it")
    if not payment_intent:
        if not stripe:
            sys.exit("neither PAYMENT_INTENT nor STRIPE_API_BASE is set; `billing up` starts a stand-in and prints it")
        payment_intent = authorize(stripe, billing.Money(1999, "USD"))
    # postgresql:// means psycopg 3 to SQLAlchemy 2.1.
    shop = Shop(create_engine(url))
    shop.open()
    number = shop.next_number()
    shop.sell(number, payment_intent, billing.Money(1999, "USD"))
    try:
        shop.ship(number, in_stock=False)
    except OutOfStock:
        print(f"order {number}: out of stock, rolled back; its money is {shop.paid(number)}")
    print(f"order {number}: shipped; asked for as {shop.ship(number)}")
    print(f"order {number}: shipped twice; still {shop.ship(number)}")
    try:
        with Session(shop.engine) as session, session.begin():
            billing.request_capture(
                session,
                payment_intent=payment_intent,
                amount=billing.Money(2999, "USD"),
                request_id=f"shop-order-{number}",
            )
    except billing.RequestReused as refused:
        print(f"order {number}: {refused}")
    try:
        shop.cancel(number)
    except billing.AuthorizationTaken as taken:
        print(f"order {number}: cannot be canceled: {taken}")
    numbers = [number]
    if stripe:
        canceled = shop.next_number()
        shop.sell(canceled, authorize(stripe, billing.Money(4500, "USD")), billing.Money(4500, "USD"))
        print(f"order {canceled}: canceled; its authorization is given back by {shop.cancel(canceled)}")
        numbers.append(canceled)
    give_up = time.monotonic() + wait_s
    for each in numbers:
        while (status := shop.status(each)) and not status.final and time.monotonic() < give_up:
            time.sleep(0.1)
        print(f"order {each}: its money is {shop.paid(each)}")
    if (status := shop.status(number)) and status.state == "captured":
        refund = shop.take_back(number, billing.Money(500, "USD"), parcel="1")
        print(f"order {number}: a parcel came back; 5.00 USD are given back as {refund}")


if __name__ == "__main__":
    main()
