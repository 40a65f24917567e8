"""Expansion: replace an id in an answer by the object that it names, and ids inside that object, four levels deep.

Source: docs.stripe.com/api/expanding_objects (`a.b` expands b in the expanded a; in a list every path begins with
`data.`).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile
from typing import Any, NamedTuple

from .books import Books
from .objects import Json, Row, as_list, shown

LEVELS_MAX = 4
REFUNDS_SHOWN = 10


class Field(NamedTuple):
    """An expandable field: where its object is stored, and which of that object's fields can be expanded."""

    find: Callable[[Books, str], Row | None]
    within: tuple[str, ...] = ()


def _source(books: Books, named: str) -> Row | None:
    return books.charges.get(named) or books.refunds.get(named) or books.payouts.get(named)


def _nothing(books: Books, named: str) -> Row | None:
    return None


_OF_REFUND = (
    *("balance_transaction", "charge", "customer", "failure_balance_transaction", "payment_intent"),
    "payment_method",
)
_OF_CHARGE = ("balance_transaction", "customer", "payment_intent", "charge refunds")

# By the name of the field in any object, or by object and field where that name has two meanings.
# Some fields hold no id, and only lead to others.
FIELDS: dict[str, Field] = {
    "customer": Field(lambda books, named: books.customers.get(named), ("invoice_settings",)),
    "invoice_settings": Field(_nothing, ("default_payment_method",)),
    "default_payment_method": Field(lambda books, named: books.payment_methods.get(named), ("customer",)),
    "payment_method": Field(lambda books, named: books.payment_methods.get(named), ("customer",)),
    "payment_intent": Field(
        lambda books, named: books.intents.get(named), ("customer", "latest_charge", "payment_method")
    ),
    "charge": Field(lambda books, named: books.charges.get(named), _OF_CHARGE),
    "latest_charge": Field(lambda books, named: books.charges.get(named), _OF_CHARGE),
    "charge refunds": Field(_nothing, ("refunds data",)),
    "refunds data": Field(_nothing, _OF_REFUND),
    "refund": Field(lambda books, named: books.refunds.get(named), _OF_REFUND),
    "balance_transaction": Field(lambda books, named: books.balance_transactions.get(named), ("source",)),
    "failure_balance_transaction": Field(lambda books, named: books.balance_transactions.get(named), ("source",)),
    "payout": Field(lambda books, named: books.payouts.get(named), ("balance_transaction",)),
    # The source of a balance transaction: a charge, a refund or a payout.
    "source": Field(_source, ("charge", "customer", "payment_intent")),
    "invoice": Field(
        lambda books, named: books.invoices.get(named),
        ("amount_paid_off_stripe", "confirmation_secret", "customer", "default_payment_method", "payments"),
    ),
    "amount_paid_off_stripe": Field(_nothing),
    "confirmation_secret": Field(_nothing),
    "payments": Field(_nothing, ("data",)),
    "data": Field(_nothing, ("payment",)),
    "payment": Field(_nothing, ("payment_intent",)),
    "invoice_payment": Field(_nothing, ("invoice", "payment")),
    "invoice_item": Field(_nothing, ("customer", "invoice")),
    "credit_note": Field(
        lambda books, named: books.credit_notes.get(named),
        ("customer", "customer_balance_transaction", "invoice", "refunds"),
    ),
    "refunds": Field(_nothing, ("refund",)),
    "customer_balance_transaction": Field(
        lambda books, named: books.balance_changes.get(named), ("credit_note", "customer", "invoice")
    ),
}


def _payments(books: Books, invoice_id: str) -> Json:
    invoice = books.invoices.get(invoice_id)
    since = invoice.created if invoice is not None else 0
    made = takewhile(lambda payment: payment.created >= since, books.invoice_payments.newest_first())
    found = [shown(payment) for payment in made if payment.invoice == invoice_id]
    return as_list(found, False, f"/v1/invoice_payments?invoice={invoice_id}")


def _paid_off_stripe(books: Books, invoice_id: str) -> int:
    """Source: docs.stripe.com/changelog/dahlia/2026-05-27/invoice-object-amount-paid-off-stripe-property: in answers
    where it is asked for, in no event."""
    invoice = books.invoices.get(invoice_id)
    return invoice.paid_out_of_band if invoice is not None else 0


def _confirmation_secret(books: Books, invoice_id: str) -> Json | None:
    invoice = books.invoices.get(invoice_id)
    payment = books.invoice_payments.get(invoice.payment or "") if invoice is not None else None
    intent = books.intents.get(payment.intent) if payment is not None else None
    return {"client_secret": shown(intent)["client_secret"], "type": "payment_intent"} if intent else None


def refunds_of(books: Books, charge_id: str) -> Json:
    """A charge's refunds, the newest first, up to ten of them."""
    charge = books.charges.get(charge_id)
    since = charge.created if charge is not None else 0
    made = takewhile(lambda refund: refund.created >= since, books.refunds.newest_first())
    found = list(islice((refund for refund in made if refund.charge == charge_id), REFUNDS_SHOWN + 1))
    listed = [shown(refund) for refund in found[:REFUNDS_SHOWN]]
    return as_list(listed, len(found) > REFUNDS_SHOWN, f"/v1/charges/{charge_id}/refunds")


# Fields that an object has only if they are expanded.
_ONLY_EXPANDED: dict[tuple[str, str], Callable[[Books, str], Json | int | None]] = {
    ("charge", "refunds"): refunds_of,
    ("invoice", "amount_paid_off_stripe"): _paid_off_stripe,
    ("invoice", "confirmation_secret"): _confirmation_secret,
    ("invoice", "payments"): _payments,
}


def paths(name: str, *, data: bool = False) -> tuple[str, ...]:
    """Everything that can be expanded in an object called `name`; in a list of them, it begins with `data.`."""
    if data:
        return tuple(f"data.{path}" for path in _below(name, LEVELS_MAX - 1))
    return tuple(_below(name, LEVELS_MAX))


def expand(answer: Json, fields: Iterable[str], books: Books) -> None:
    """Replace each field's id in place. The routes' tables chose the fields."""
    for field in fields:
        places: list[Any] = [answer]
        for name in field.split("."):
            places = list(_reached(places, name, books))


def _reached(places: list[Any], name: str, books: Books) -> Iterator[Any]:
    """The objects that the field names in each of these places, after their ids were replaced."""
    for place in places:
        found = place.get(name)
        looked_up = _ONLY_EXPANDED.get((place.get("object"), name)) if found is None else None
        if looked_up is not None:
            place[name] = found = looked_up(books, place["id"])
        if isinstance(found, str) and name in FIELDS:
            row = FIELDS[name].find(books, found)
            if row is not None:
                place[name] = found = shown(row)
        if isinstance(found, dict):
            yield found
        elif isinstance(found, list):
            yield from found


def _below(name: str, levels: int) -> Iterator[str]:
    for field in FIELDS[name].within:
        path = field.split()[-1]
        yield path
        if levels > 1:
            yield from (f"{path}.{further}" for further in _below(field, levels - 1))
