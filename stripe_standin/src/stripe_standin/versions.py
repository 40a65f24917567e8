"""Older API versions: how an object looked before each change.

A request's `Stripe-Version`, or a webhook endpoint's `api_version`, chooses how objects are shown. Each row of
`CHANGES` undoes one change. The changes since that version are undone, the newest first. A version older than the last
row is shown as that row leaves it.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from itertools import takewhile
from typing import Any, NamedTuple

from .books import Books, R, Shelf
from .expansion import refunds_of
from .history import API_VERSION
from .objects import AUTOMATIC, Json, as_list, shown
from .objects.parts import null

FIRST, FIRST_NAMED = "2011-01-01", "2024-09-30"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME = re.compile(r"[a-z]+")


class Change(NamedTuple):
    """A change of the API: since version `since` objects called `name` lack what `undo` puts back, in place."""

    since: str
    name: str
    undo: Callable[[Json, Books], None]


def possible(version: str) -> bool:
    """Whether there can be such a version by now. Any day since the first version counts: the real days are not known
    here.

    Source: docs.stripe.com/changelog (the first is of 2011) and docs.stripe.com/api-versions (names of releases since
    2024-09-30.acacia). Stripe refuses an impossible one: stripe/stripe-java#682, pay-rails/pay#680.
    """
    if version == API_VERSION:
        return True
    day, dot, name = version.partition(".")
    named = bool(dot) == (day >= FIRST_NAMED) and (not dot or bool(_NAME.fullmatch(name)))
    return bool(_DAY.fullmatch(day)) and named and FIRST <= day < API_VERSION[:10] and _is_a_date(day)


def older(version: str, than: str = API_VERSION) -> bool:
    """Whether a version such as 2026-10-28.endive is older than a date or another version."""
    return version[:10] < than[:10]


def as_of(body: Any, version: str, books: Books) -> Any:
    """An answer, or a snapshot, as `version` shows it. The argument is not changed.

    Events stay as they are: each keeps the version that it was made with (docs.stripe.com/api/events/list).
    """
    undone = tuple(change for change in CHANGES if older(version, change.since))
    return _undone(body, undone, books) if undone else body


def _is_a_date(day: str) -> bool:
    try:
        return bool(date.fromisoformat(day))
    except ValueError:
        return False


def _undone(body: Any, undone: tuple[Change, ...], books: Books) -> Any:
    if isinstance(body, list):
        return [_undone(each, undone, books) for each in body]
    if not isinstance(body, dict) or body.get("object") == "event":
        return body
    seen = dict(body)
    if not seen.get("deleted"):
        for change in undone:
            if seen.get("object") == change.name:
                change.undo(seen, books)
    # Metadata is the caller's own, whatever the names of its keys.
    return {name: value if name == "metadata" else _undone(value, undone, books) for name, value in seen.items()}


def _invoice_of_one_payment(invoice: Json, books: Books) -> None:
    row = books.invoices.get(invoice["id"])
    payment = books.invoice_payments.get(row.payment) if row and row.payment else None
    intent = books.intents.get(payment.intent) if payment else None
    _remove(invoice, "amount_overpaid", "confirmation_secret", "payments")
    invoice |= {
        **null("application_fee_amount", "transfer_data"),
        "charge": intent and intent.latest_charge,
        "paid": invoice["status"] == "paid",
        "paid_out_of_band": row is not None and row.paid_out_of_band > 0,
        "payment_intent": intent and intent.id,
    }


def _invoice_without_parent(invoice: Json, books: Books) -> None:
    _remove(invoice, "parent", "total_taxes")
    invoice |= {**null("discount", "quote", "subscription", "subscription_details", "tax"), "total_tax_amounts": []}


def _line_without_parent(line: Json, books: Books) -> None:
    item = (line["parent"] or {}).get("invoice_item_details") or {}
    _remove(line, "parent", "pricing", "taxes")
    line |= {
        **null("plan", "price", "proration_details", "subscription", "unit_amount_excluding_tax"),
        "amount_excluding_tax": line["amount"],
        "invoice_item": item.get("invoice_item"),
        "proration": False,
        "tax_amounts": [],
        "tax_rates": [],
        "type": "invoiceitem",
    }


def _item_with_price(item: Json, books: Books) -> None:
    each = item["pricing"]["unit_amount_decimal"]
    _remove(item, "parent", "pricing")
    item |= {
        **null("plan", "price", "subscription"),
        "unit_amount": int(each) if each.lstrip("-").isdecimal() else None,
        "unit_amount_decimal": each,
    }


def _credit_note_of_one_refund(note: Json, books: Books) -> None:
    refunds = note.get("refunds") or [{}]
    _remove(note, "refunds", "total_taxes")
    note |= {"refund": refunds[0].get("refund"), "tax_amounts": []}


def _credit_note_line_with_tax(line: Json, books: Books) -> None:
    _remove(line, "taxes")
    line |= {**null("amount_excluding_tax", "unit_amount_excluding_tax"), "tax_amounts": []}


def _intent_of_invoice(intent: Json, books: Books) -> None:
    row = books.intents.get(intent["id"])
    intent["invoice"] = row and row.invoice


def _charge_of_invoice(charge: Json, books: Books) -> None:
    # Read from the rows, because the intent in the answer may have been expanded.
    row = books.charges.get(charge["id"])
    intent = row and books.intents.get(row.intent)
    charge["invoice"] = intent and intent.invoice


def _intent_canceled_by_itself(intent: Json, books: Books) -> None:
    if intent["cancellation_reason"] == "expired":
        intent["cancellation_reason"] = "automatic"


def _charge_with_release(charge: Json, books: Books) -> None:
    """A released amount was shown as refunded. The refund itself, and its entry in the balance, are not put back."""
    row = books.charges.get(charge["id"])
    intent = row and books.intents.get(row.intent)
    canceled = intent and intent.status == "canceled" and intent.latest_charge == charge["id"]
    if charge["captured"] or (canceled and charge["status"] == "succeeded"):
        charge["amount_refunded"] += charge["amount"] - charge["amount_captured"]
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]


def _intent_for_cards(intent: Json, books: Books) -> None:
    row = books.intents.get(intent["id"])
    if row and row.automatic_payment_methods is AUTOMATIC:
        intent["automatic_payment_methods"] = None


def _intent_with_charges(intent: Json, books: Books) -> None:
    made = [shown(each) for each in _since(books.charges, intent["created"]) if each.intent == intent["id"]]
    intent["charges"] = as_list(made, False, f"/v1/charges?payment_intent={intent['id']}")


def _charge_with_refunds(charge: Json, books: Books) -> None:
    charge["refunds"] = refunds_of(books, charge["id"])


def _since(shelf: Shelf[R], created: int) -> Iterator[R]:
    """The newest first. No row is older than the one that it names."""
    return takewhile(lambda row: row.created >= created, shelf.newest_first())


def _remove(body: Json, *names: str) -> None:
    for name in names:
        body.pop(name, None)


CHANGES = (
    # docs.stripe.com/changelog/basil/2025-03-31/add-support-for-multiple-partial-payments-on-invoices
    Change("2025-03-31", "invoice", _invoice_of_one_payment),
    Change("2025-03-31", "payment_intent", _intent_of_invoice),
    Change("2025-03-31", "charge", _charge_of_invoice),
    Change("2025-03-31", "credit_note", _credit_note_of_one_refund),
    # docs.stripe.com/changelog/basil/2025-03-31/adds-new-parent-field-to-invoicing-objects, and beside it
    # invoice-pricing-configurations and invoice-tax-configurations
    Change("2025-03-31", "invoice", _invoice_without_parent),
    Change("2025-03-31", "line_item", _line_without_parent),
    Change("2025-03-31", "invoiceitem", _item_with_price),
    Change("2025-03-31", "credit_note_line_item", _credit_note_line_with_tax),
    # docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
    Change("2025-03-31", "payment_intent", _intent_canceled_by_itself),
    Change("2025-03-31", "charge", _charge_with_release),
    # docs.stripe.com/changelog/2023-08-16/automatic-payment-methods
    Change("2023-08-16", "payment_intent", _intent_for_cards),
    # docs.stripe.com/changelog/2022-11-15/removes-charges-attribute-paymentintent
    Change("2022-11-15", "payment_intent", _intent_with_charges),
    # docs.stripe.com/changelog/2022-11-15/deprecates-charges-auto-expand
    Change("2022-11-15", "charge", _charge_with_refunds),
)
