"""Invoices: what is stored of each, and how it is shown. Amounts are in minor units."""

from collections.abc import Sequence
from typing import NamedTuple

from .catalog import Discount, TaxRate, tax_rate
from .invoice_items import Line, Tax, discount_amounts, line, tax
from .parts import Json, as_list, document_link, null
from .people import Customer

LINES_SHOWN = 10  # the others are read at /v1/invoices/{id}/lines
HOUR = 3_600


class Invoice(NamedTuple):
    """`subtotal` is the sum of the lines, and `total` what they come to with discounts and taxes (`sums`). `due` is
    what is to be paid of it, after the customer's balance was applied and after credit notes that came before the
    payment. `paid` is how much of `due` has been paid.
    """

    id: str
    created: int
    livemode: bool
    customer: str
    buyer: Customer  # as it was when the invoice was made, and then when it became final
    currency: str
    status: str
    collection_method: str
    auto_advance: bool
    metadata: dict[str, str]
    lines: tuple[Line, ...] = ()
    default_tax_rates: tuple[TaxRate, ...] = ()
    automatic_tax: bool = False
    discounts: tuple[Discount, ...] = ()
    discounted: tuple[int, ...] = ()  # by each of the discounts
    taxes: tuple[Tax, ...] = ()
    subtotal: int = 0
    total: int = 0
    due: int = 0
    paid: int = 0
    paid_out_of_band: int = 0
    pre_credited: int = 0
    post_credited: int = 0
    starting_balance: int = 0
    ending_balance: int | None = None
    number: str | None = None
    default_payment_method: str | None = None
    payment: str | None = None  # the default one of its invoice payments
    credit_notes: tuple[str, ...] = ()
    attempted: bool = False
    attempt_count: int = 0
    advances_at: int | None = None  # when it takes its next step by itself
    days_until_due: int | None = None
    due_date: int | None = None
    effective_at: int | None = None
    description: str | None = None
    footer: str | None = None
    custom_fields: Sequence[Json] = ()
    statement_descriptor: str | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    uncollectible_at: int | None = None
    voided_at: int | None = None
    object: str = "invoice"

    @property
    def remaining(self) -> int:
        return self.due - self.paid


_INVOICE = {
    **null("account_tax_ids", "application", "default_source", "from_invoice", "last_finalization_error"),
    **null("latest_revision", "on_behalf_of", "parent", "receipt_number", "rendering", "shipping_cost"),
    **null("shipping_details", "test_clock"),
    **{name: [] for name in ("customer_tax_ids", "total_pretax_credit_amounts")},
    "account_country": "US",
    "account_name": "Stand-in",
    "amount_overpaid": 0,
    "amount_shipping": 0,
    "billing_reason": "manual",
    "issuer": {"type": "self"},
    "object": "invoice",
    "payment_settings": null("default_mandate", "payment_method_options", "payment_method_types"),
}


def invoice(row: Invoice) -> Json:
    final = row.finalized_at is not None
    page = f"https://invoice.standin.invalid/{row.id}" if final else None
    lines = [line(each, row.discounts) for each in row.lines[:LINES_SHOWN]]
    body = {
        **_INVOICE,
        "id": row.id,
        "amount_due": row.due,
        "amount_paid": row.paid,
        "amount_remaining": row.remaining,
        "attempt_count": row.attempt_count,
        "attempted": row.attempted,
        "auto_advance": row.auto_advance,
        "automatic_tax": _automatic_tax(row),
        "automatically_finalizes_at": None if final else row.advances_at,
        "collection_method": row.collection_method,
        "created": row.created,
        "currency": row.currency,
        "custom_fields": row.custom_fields or None,
        "customer": row.customer,
        "customer_address": row.buyer.address,
        "customer_email": row.buyer.email,
        "customer_name": row.buyer.name,
        "customer_phone": row.buyer.phone,
        "customer_shipping": row.buyer.shipping,
        "customer_tax_exempt": row.buyer.tax_exempt,
        "default_payment_method": row.default_payment_method,
        "default_tax_rates": [tax_rate(rate) for rate in row.default_tax_rates],
        "description": row.description,
        "discounts": [each.id for each in row.discounts],
        "due_date": row.due_date,
        "effective_at": row.effective_at,
        "ending_balance": row.ending_balance,
        "footer": row.footer,
        "hosted_invoice_url": page,
        "invoice_pdf": document_link("invoice", row.id, row.livemode) if final else None,
        "lines": as_list(lines, len(row.lines) > LINES_SHOWN, f"/v1/invoices/{row.id}/lines"),
        "livemode": row.livemode,
        "metadata": row.metadata,
        "next_payment_attempt": _next_attempt(row),
        "number": row.number,
        "period_end": row.created,
        "period_start": row.created,
        "post_payment_credit_notes_amount": row.post_credited,
        "pre_payment_credit_notes_amount": row.pre_credited,
        "starting_balance": row.starting_balance,
        "statement_descriptor": row.statement_descriptor,
        "status": row.status,
        "status_transitions": {
            "finalized_at": row.finalized_at,
            "marked_uncollectible_at": row.uncollectible_at,
            "paid_at": row.paid_at,
            "voided_at": row.voided_at,
        },
        "subtotal": row.subtotal,
        "subtotal_excluding_tax": row.subtotal - _inclusive(row),
        "total": row.total,
        "total_discount_amounts": discount_amounts(row.discounted, row.discounts),
        "total_excluding_tax": row.total - sum(each.amount for each in row.taxes),
        "total_taxes": [tax(each) for each in row.taxes],
        "webhooks_delivered_at": row.created,
    }
    if row.status == "uncollectible":
        # docs.stripe.com/changelog/endive/2026-09-30/invoice-uncollectible-status-detail: only in this status.
        body["status_details"] = {"uncollectible": {"reason": "user_forgiven"}}
    return body


def _automatic_tax(row: Invoice) -> Json:
    """Stripe Tax needs to know where the customer is (docs.stripe.com/tax/customer-locations)."""
    if not row.automatic_tax:
        return {**null("disabled_reason", "liability", "provider", "status"), "enabled": False}
    located = bool((row.buyer.address or {}).get("country"))
    status = "complete" if located else "requires_location_inputs"
    return {
        "disabled_reason": None,
        "enabled": True,
        "liability": {"type": "self"},
        "provider": "stripe",
        "status": status,
    }


def _inclusive(row: Invoice) -> int:
    return sum(each.amount for each in row.taxes if each.inclusive)


def _next_attempt(row: Invoice) -> int | None:
    if row.advances_at is None or row.collection_method != "charge_automatically":
        return None
    # For a draft it is a second before it is finalized (recorded twice).
    return row.advances_at if row.finalized_at is not None else row.advances_at - 1
