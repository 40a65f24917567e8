"""The books of a small shop: each capture gets an invoice, and what is given back of it a credit note.

    python examples/bookkeeping.py        # in a terminal with the lines that `billing up` printed

The customer has paid when the invoice is made, so it is marked as paid and asks nobody for money; and a refund changes
no invoice, so the note says what was taken off. Each pair (refund and note) is asked for in one transaction: both or
neither. docs/moves/invoicing-captures.md and credit-notes.md have the rules.

    DATABASE_URL       postgresql://..., migrated by `billing migrate`
    STRIPE_API_BASE    where the stand-in listens
"""

import argparse
import os
import sys
from dataclasses import dataclass

from checkout import Checkout
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

import billing


@dataclass(frozen=True)
class Books:
    engine: Engine

    def sell(self, order: str, payment_intent: str, price: billing.Money, customer: str) -> tuple[str, str]:
        """Take the money, and invoice it to this customer: the invoice waits for the capture, and there is none if the
        capture ends without the money. Returns both ids; a second call asks for nothing more."""
        with Session(self.engine) as session, session.begin():
            capture = billing.request_capture(
                session, payment_intent=payment_intent, amount=price, request_id=order
            ).capture_id
            receipt = billing.invoice_capture(
                session, capture=capture, customer=customer, description=f"Order {order}", when="at_once"
            )
            assert receipt.invoice_id is not None, "it is asked for at once"
            return capture, receipt.invoice_id

    def give_back(self, capture: str, invoice: str, amount: billing.Money, claim: str) -> tuple[str, str]:
        """Refund a part, and credit the invoice with it, once for each claim. Returns the ids of both.

        The note is out of band, because the invoice is: Stripe knows no payment of it, and the refund is of the
        capture. Raises NotPaid until the invoice is marked as paid, and MoreThanCaptured or MoreThanInvoiced; then
        neither is asked for.
        """
        with Session(self.engine) as session, session.begin():
            refund = billing.request_refund(session, capture=capture, amount=amount, request_id=f"back-{claim}")
            note = billing.issue_credit_note(
                session, invoice=invoice, amount=amount, settle="out_of_band", request_id=f"note-{claim}"
            )
            return refund.refund_id, note.credit_note_id

    def documents(self, *of: str) -> list[str]:
        """How the PDF of each of these invoices and notes stands. Where no bucket is configured, there is none."""
        with Session(self.engine) as session:
            return [_document(session, each) for each in of]


def _document(session: Session, of: str) -> str:
    try:
        found = billing.document(session, of)
    except billing.UnknownEntity:
        return "no document"
    return f"{found.document_id} {found.state}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--wait", type=float, default=30, metavar="SECONDS", help="the longest to wait for each end")
    wait_s = arguments.parse_args().wait
    url, stripe = os.environ.get("DATABASE_URL"), os.environ.get("STRIPE_API_BASE")
    if not url or not stripe:
        sys.exit("DATABASE_URL or STRIPE_API_BASE is not set; `billing up` starts both and prints them")
    books, checkout = Books(create_engine(url)), Checkout(stripe)
    price = billing.Money(1999, "USD")
    intent = checkout.authorize(price)
    capture, invoice = books.sell(intent, intent, price, checkout.customer())
    print(f"captured as {capture}, invoiced as {invoice}")
    print(f"the invoice is {_end(books, invoice, wait_s)}; nobody was asked for money")
    refund, note = books.give_back(capture, invoice, billing.Money(500, "USD"), claim=intent)
    print(f"5.00 USD back by {refund}: {_end(books, refund, wait_s)}; credited by {note}: {_end(books, note, wait_s)}")
    print(f"documents: {', '.join(books.documents(invoice, note))}")


def _end(books: Books, of: str, wait_s: float) -> str:
    return billing.wait(books.engine, of, timeout_s=wait_s).state


if __name__ == "__main__":
    main()
