"""A small application with its own tables: it sells, and asks for the money in the same transaction.

    DATABASE_URL=postgresql://... python examples/shop.py

Its orders and the service's tables lie in one database, so an order that is shipped and the wish for its money
are written together, or not at all. Workers of the service do the rest; nothing here calls Stripe.
"""

import os
import sys
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import billing


class Table(DeclarativeBase):
    pass


class Order(Table):
    """One order of the shop. The authorisation was made at the checkout, by confirming a PaymentIntent."""

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


class OutOfStock(Exception):
    """The parcel cannot be packed after all."""


@dataclass(frozen=True)
class Shop:
    engine: Engine

    def open(self) -> None:
        """Make the shop's own table. The service's are made by `billing migrate`."""
        Table.metadata.create_all(self.engine)

    def sell(self, number: int, payment_intent: str, total: billing.Money) -> None:
        """At the checkout: the order is written, and the customer's money is only held."""
        with Session(self.engine) as session, session.begin():
            session.add(
                Order(number=number, payment_intent=payment_intent, total_minor=total.minor, currency=total.currency)
            )

    def ship(self, number: int, *, in_stock: bool = True) -> str:
        """Ship it and ask for its money, both or neither. Shipping twice asks once. Returns the capture's id."""
        with Session(self.engine) as session, session.begin():
            order = session.get_one(Order, number, with_for_update=True)
            order.shipped = True
            receipt = billing.request_capture(
                session,
                payment_intent=order.payment_intent,
                amount=order.total,
                request_id=f"order-{number}",
                correlation_id=f"ship-{number}",
            )
            order.capture_id = receipt.capture_id
            if not in_stock:
                # The transaction is rolled back: the order is not shipped, and nobody asked for its money.
                raise OutOfStock(number)
            return receipt.capture_id

    def bill(self, customer: str, month: str, seats: int) -> str:
        """Invoice a subscription for one month; asking again for the same month asks for nothing new."""
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
        """What a support agent sees: how the money of an order stands, and what happens next."""
        with Session(self.engine) as session:
            order = session.scalars(select(Order).where(Order.number == number)).one()
            if order.capture_id is None:
                return "not asked for"
            status = billing.status(session, order.capture_id)
            return f"{status.state}; {status.next}"


def main() -> None:
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("DATABASE_URL is not set; `billing up` starts a database and prints it")
    shop = Shop(create_engine(make_url(url).set(drivername="postgresql+psycopg")))
    shop.open()
    number, payment_intent = int(os.environ.get("ORDER", "1")), os.environ.get("PAYMENT_INTENT", "pi_of_the_checkout")
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
                request_id=f"order-{number}",
            )
    except billing.RequestReused as refused:
        print(f"order {number}: {refused}")
    print(f"order {number}: its money is {shop.paid(number)}")


if __name__ == "__main__":
    main()
