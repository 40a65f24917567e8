"""A small application with its own tables: it ships an order in one parcel or several, cancels it, takes parcels back,
and sends invoices. What this means for the money is asked for in the same transaction.

    python examples/shop.py        # in a terminal with the lines that `billing up` printed

Its orders and the service's tables are in one database, so a parcel that is shipped and the request for its money
are written together, or not at all. Workers of the service do the rest: the shop itself asks Stripe only at its
checkout, where the customer's card is authorized. docs/moves has a page for each move of the money.

    DATABASE_URL       postgresql://..., migrated by `billing migrate`
    STRIPE_API_BASE    where the stand-in listens; needed unless PAYMENT_INTENT is set
    PAYMENT_INTENT     an authorization over 19.99 USD of your own, pi_...
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass

from checkout import Checkout
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

    @property
    def total(self) -> billing.Money:
        return billing.Money(self.total_minor, self.currency)


class Parcel(Table):
    """A part of an order that was shipped, or all of it, and the request for its money."""

    __tablename__ = "parcels"

    number: Mapped[int] = mapped_column(ForeignKey(Order.number), primary_key=True)
    parcel: Mapped[int] = mapped_column(primary_key=True)
    minor: Mapped[int]
    capture_id: Mapped[str]


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
        """Make the shop's own tables. The service's are made by `billing migrate`."""
        Table.metadata.create_all(self.engine)

    def sell(self, number: int, payment_intent: str, total: billing.Money) -> None:
        """At the checkout: write the order. The customer's money is only authorized."""
        with Session(self.engine) as session, session.begin():
            session.add(
                Order(number=number, payment_intent=payment_intent, total_minor=total.minor, currency=total.currency)
            )

    def ship(
        self,
        number: int,
        amount: billing.Money | None = None,
        *,
        parcel: int = 1,
        last: bool = True,
        in_stock: bool = True,
    ) -> str:
        """Ship a parcel and request its money, both or neither. By default it is the whole order.

        After a parcel that is not the last, Stripe keeps the rest of the authorization for the next ones; after the
        last, it releases what is left. A second call for the same parcel requests nothing more. Returns the capture's
        id. Raises AuthorizationTaken if the order was canceled, or its last parcel is gone.
        """
        with Session(self.engine) as session, session.begin():
            order = session.get_one(Order, number, with_for_update=True)
            price = amount or order.total
            receipt = billing.request_capture(
                session,
                payment_intent=order.payment_intent,
                amount=price,
                remainder="release" if last else "keep",
                request_id=f"shop-order-{number}-parcel-{parcel}",
                correlation_id=f"ship-{number}",
            )
            if receipt.new:
                session.add(Parcel(number=number, parcel=parcel, minor=price.minor, capture_id=receipt.capture_id))
            if not in_stock:
                # The transaction is rolled back: nothing is shipped, and no money is requested.
                raise OutOfStock(number)
            return receipt.capture_id

    def cancel(self, number: int) -> str:
        """Cancel it and give its authorization back, both or neither. Returns the void's id.

        Raises AuthorizationTaken if a parcel was shipped before: its money is refunded, and nothing is written here.
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

    def take_back(self, number: int, amount: billing.Money | None = None, *, parcel: int = 1, claim: str) -> str:
        """Give money of a parcel back: a part of it, or all that is left. A second call for the same claim gives
        nothing more.

        All claims together never get more than the parcel cost (`billing.MoreThanCaptured`). Raises NotCaptured if its
        money was not taken yet: ask again when it was. Returns the refund's id.
        """
        with Session(self.engine) as session, session.begin():
            shipped = session.get_one(Parcel, (number, parcel), with_for_update=True)
            receipt = billing.request_refund(
                session,
                capture=shipped.capture_id,
                amount=amount,
                reason="requested_by_customer",
                request_id=f"shop-order-{number}-parcel-{parcel}-claim-{claim}",
                correlation_id=f"back-{number}",
            )
            return receipt.refund_id

    def undo(self, number: int, *, parcel: int = 1) -> str:
        """The parcel never left: give back whatever its request takes, done or not. Returns the refund's id."""
        with Session(self.engine) as session, session.begin():
            shipped = session.get_one(Parcel, (number, parcel), with_for_update=True)
            return billing.compensate(session, shipped.capture_id).refund_id

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
        return " | ".join(f"{each.state}; {each.next}" for each in self.statuses(number)) or "not asked for"

    def statuses(self, number: int) -> list[billing.Status]:
        """Of each parcel in turn, and of a cancellation."""
        with Session(self.engine) as session:
            parcels = select(Parcel.capture_id).where(Parcel.number == number).order_by(Parcel.parcel)
            voids = select(Cancellation.void_id).where(Cancellation.number == number)
            asked_for = [*session.scalars(parcels), *session.scalars(voids)]
            return [billing.status(session, each) for each in asked_for]

    def cost(self, number: int) -> billing.Money | None:
        """For the customer's page: what the order has cost by now, None if nothing. A refund counts as soon as it is
        asked for."""
        with Session(self.engine) as session:
            order = session.get_one(Order, number)
            parcels = session.scalars(select(Parcel).where(Parcel.number == number)).all()
        minor = {each.capture_id: each.minor for each in parcels}
        taken = [each for each in self.statuses(number) if each.state == "captured"]
        cost = sum(minor[each.id] - (each.refunds_minor or 0) for each in taken)
        return billing.Money(cost, order.currency) if cost else None

    def next_number(self) -> int:
        with Session(self.engine) as session:
            return (session.scalar(select(func.max(Order.number))) or 0) + 1


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
    checkout = Checkout(stripe) if stripe else None
    if not payment_intent:
        if checkout is None:
            sys.exit("neither PAYMENT_INTENT nor STRIPE_API_BASE is set; `billing up` starts a stand-in and prints it")
        payment_intent = checkout.authorize(usd(1999))
    # postgresql:// means psycopg 3 to SQLAlchemy 2.1.
    shop = Shop(create_engine(url))
    shop.open()
    number = shop.next_number()
    shop.sell(number, payment_intent, usd(1999))
    try:
        shop.ship(number, in_stock=False)
    except OutOfStock:
        print(f"order {number}: out of stock, rolled back; its money is {shop.paid(number)}")
    print(f"order {number}: shipped; asked for as {shop.ship(number)}")
    print(f"order {number}: shipped twice; still {shop.ship(number)}")
    try:
        shop.ship(number, usd(2999))
    except billing.RequestReused as refused:
        print(f"order {number}: {refused}")
    try:
        shop.cancel(number)
    except billing.AuthorizationTaken as taken:
        print(f"order {number}: cannot be canceled: {taken}")
    if checkout is not None:
        more_moves(shop, checkout, wait_s)
    await_ends(shop, number, wait_s)


def more_moves(shop: Shop, checkout: Checkout, wait_s: float) -> None:
    """One order is canceled, one is shipped in two parcels and comes back, and a customer gets an invoice."""
    canceled = shop.next_number()
    shop.sell(canceled, checkout.authorize(usd(4500)), usd(4500))
    print(f"order {canceled}: canceled; its authorization is given back by {shop.cancel(canceled)}")
    parts = shop.next_number()
    shop.sell(parts, checkout.authorize(usd(3000)), usd(3000))
    first, second = shop.ship(parts, usd(1800), last=False), shop.ship(parts, usd(1000), parcel=2)
    print(f"order {parts}: shipped in two parcels; asked for as {first} and {second}, and 2.00 USD are released")
    invoice = shop.bill(checkout.customer(), "2026-11", seats=3)
    for number in (canceled, parts):
        await_ends(shop, number, wait_s)
    if shop.statuses(parts)[0].state == "captured":
        dent, rest = shop.take_back(parts, usd(500), claim="dent"), shop.take_back(parts, claim="return")
        print(f"order {parts}: parcel 1 had a dent, then came back; 5.00 USD by {dent}, the rest of it by {rest}")
        try:
            shop.take_back(parts, usd(1), claim="again")
        except billing.MoreThanCaptured as error:
            print(f"order {parts}: {error}")
        print(f"order {parts}: it has cost {shop.cost(parts)}")
        print(f"order {parts}: parcel 2 never left; its money is given back by {shop.undo(parts, parcel=2)}")
    try:
        print(f"invoice: {billing.wait(shop.engine, invoice, timeout_s=wait_s).state}")
    except billing.NotFinal as error:
        print(f"invoice: {error}")


def await_ends(shop: Shop, number: int, wait_s: float) -> None:
    give_up = time.monotonic() + wait_s
    while not all(each.final for each in shop.statuses(number)) and time.monotonic() < give_up:
        time.sleep(0.1)
    print(f"order {number}: its money is {shop.paid(number)}")


def usd(minor: int) -> billing.Money:
    return billing.Money(minor, "USD")


if __name__ == "__main__":
    main()
