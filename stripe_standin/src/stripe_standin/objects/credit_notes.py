"""Credit notes, and the customer's balance that they can add to: what is stored of each, and how it is shown."""

from collections.abc import Iterable
from typing import NamedTuple

from .invoice_items import Tax, by_rate, tax
from .parts import NO_METADATA, Json, as_list, document_link, null

LINES_SHOWN = 10


class CreditLine(NamedTuple):
    """`line` is the invoice's line that it credits; None if it is a custom line. `amount` is before `discounted`, its
    part of each discount of the invoice, by the discount's id, and before exclusive `taxes`."""

    id: str
    amount: int
    description: str | None
    quantity: int | None
    unit_amount: str | None
    line: str | None
    metadata: dict[str, str]
    discounted: tuple[tuple[str, int], ...] = ()
    taxes: tuple[Tax, ...] = ()

    @property
    def total(self) -> int:
        exclusive = sum(each.amount for each in self.taxes if not each.inclusive)
        return self.amount - sum(part for _, part in self.discounted) + exclusive


class CreditNote(NamedTuple):
    """Amounts are in minor units: `pre` was taken from what was still to be paid, `post` from what had been paid.

    `refunds` are refunds with their amounts; with `out_of_band` and what went to the balance they add up to `post`.
    """

    id: str
    created: int
    livemode: bool
    customer: str
    currency: str
    invoice: str
    number: str
    pre: int
    post: int
    lines: tuple[CreditLine, ...]
    metadata: dict[str, str]
    effective_at: int
    memo: str | None = None
    reason: str | None = None
    out_of_band: int | None = None
    refunds: tuple[tuple[str, int], ...] = ()
    balance_transaction: str | None = None
    status: str = "issued"
    voided_at: int | None = None
    object: str = "credit_note"

    @property
    def amount(self) -> int:
        return self.pre + self.post


class BalanceChange(NamedTuple):
    """A customer balance transaction, in minor units. Below zero it is the customer's credit."""

    id: str
    created: int
    livemode: bool
    customer: str
    amount: int
    currency: str
    ending_balance: int
    type: str
    invoice: str | None = None
    credit_note: str | None = None
    description: str | None = None
    metadata: dict[str, str] = NO_METADATA
    object: str = "customer_balance_transaction"


_LINE: Json = {
    **{name: [] for name in ("pretax_credit_amounts", "tax_rates")},
    "object": "credit_note_line_item",
}


def _discounts(parts: Iterable[tuple[str, int]]) -> Json:
    """By discount, and in all."""
    found: dict[str, int] = {}
    for discount, amount in parts:
        found[discount] = found.get(discount, 0) + amount
    return {
        "discount_amount": sum(found.values()),
        "discount_amounts": [{"amount": amount, "discount": discount} for discount, amount in found.items()],
    }


def credit_line(row: CreditLine, livemode: bool) -> Json:
    whole = row.unit_amount is not None and "." not in row.unit_amount
    body = {
        **_LINE,
        **_discounts(row.discounted),
        "id": row.id,
        "amount": row.amount,
        "taxes": [tax(each) for each in row.taxes],
        "description": row.description,
        "livemode": livemode,
        "metadata": row.metadata,
        "quantity": row.quantity,
        "type": "custom_line_item" if row.line is None else "invoice_line_item",
        "unit_amount": int(row.unit_amount) if row.unit_amount is not None and whole else None,
        "unit_amount_decimal": row.unit_amount,
    }
    if row.line is not None:
        body["invoice_line_item"] = row.line
    return body


_NOTE: Json = {
    **null("shipping_cost"),
    "pretax_credit_amounts": [],
    "amount_shipping": 0,
    "object": "credit_note",
}


def credit_note(row: CreditNote) -> Json:
    lines = [credit_line(each, row.livemode) for each in row.lines[:LINES_SHOWN]]
    kind = "mixed" if row.pre and row.post else "pre_payment" if row.pre else "post_payment"
    taxes = [each for line in row.lines for each in line.taxes]
    subtotal, inside = sum(line.amount for line in row.lines), sum(each.amount for each in taxes if each.inclusive)
    return {
        **_NOTE,
        **_discounts(part for line in row.lines for part in line.discounted),
        "id": row.id,
        "amount": row.amount,
        "created": row.created,
        "currency": row.currency,
        "customer": row.customer,
        "customer_balance_transaction": row.balance_transaction,
        "effective_at": row.effective_at,
        "invoice": row.invoice,
        "lines": as_list(lines, len(row.lines) > LINES_SHOWN, f"/v1/credit_notes/{row.id}/lines"),
        "livemode": row.livemode,
        "memo": row.memo,
        "metadata": row.metadata,
        "number": row.number,
        "out_of_band_amount": row.out_of_band,
        "pdf": document_link("credit_notes", row.id, row.livemode),
        "post_payment_amount": row.post,
        "pre_payment_amount": row.pre,
        "reason": row.reason,
        "refunds": [
            {"amount_refunded": amount, "payment_record_refund": None, "refund": refund, "type": "refund"}
            for refund, amount in row.refunds
        ],
        "status": row.status,
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inside,
        "total": row.amount,
        "total_excluding_tax": row.amount - sum(each.amount for each in taxes),
        "total_taxes": [tax(each) for each in by_rate(taxes)],
        "type": kind,
        "voided_at": row.voided_at,
    }


def balance_change(row: BalanceChange) -> Json:
    return {
        "id": row.id,
        "object": "customer_balance_transaction",
        "amount": row.amount,
        "created": row.created,
        "credit_note": row.credit_note,
        "currency": row.currency,
        "customer": row.customer,
        "description": row.description,
        "ending_balance": row.ending_balance,
        "invoice": row.invoice,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "type": row.type,
    }
