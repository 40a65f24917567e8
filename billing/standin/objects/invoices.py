"""Invoices and their lines: what is kept of each, and how it looks."""

from typing import NamedTuple

from .parts import Json, as_list, null

LINES_SHOWN = 10  # the others are read at /v1/invoices/{id}/lines


class Line(NamedTuple):
    id: str
    amount: int
    currency: str
    description: str | None
    quantity: int
    discountable: bool
    metadata: dict[str, str]
    period_start: int
    period_end: int
    invoice_item: str


class Invoice(NamedTuple):
    id: str
    created: int
    livemode: bool
    customer: str
    customer_email: str | None
    customer_name: str | None
    currency: str
    status: str
    collection_method: str
    auto_advance: bool
    metadata: dict[str, str]
    lines: tuple[Line, ...] = ()
    total: int = 0
    number: str | None = None
    days_until_due: int | None = None
    due_date: int | None = None
    effective_at: int | None = None
    description: str | None = None
    footer: str | None = None
    statement_descriptor: str | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    object: str = "invoice"


_LINE: Json = {
    "discount_amounts": [],
    "discounts": [],
    "object": "line_item",
    "pretax_credit_amounts": [],
    "pricing": None,
    "taxes": [],
}


def line(invoice: Invoice, row: Line) -> Json:
    item = {"invoice_item": row.invoice_item, "proration": False, **null("proration_details", "subscription")}
    return {
        **_LINE,
        "id": row.id,
        "amount": row.amount,
        "currency": row.currency,
        "description": row.description,
        "discountable": row.discountable,
        "invoice": invoice.id,
        "livemode": invoice.livemode,
        "metadata": row.metadata,
        "parent": {
            "invoice_item_details": item,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "period": {"end": row.period_end, "start": row.period_start},
        "quantity": row.quantity,
        "subtotal": row.amount,
    }


_INVOICE = {
    **null("account_tax_ids", "application", "automatically_finalizes_at", "custom_fields", "customer_address"),
    **null("customer_phone", "customer_shipping", "default_payment_method", "default_source", "from_invoice"),
    **null("last_finalization_error", "latest_revision", "next_payment_attempt", "on_behalf_of", "parent"),
    **null("receipt_number", "rendering", "shipping_cost", "shipping_details", "test_clock"),
    "webhooks_delivered_at": None,
    **{name: [] for name in ("customer_tax_ids", "default_tax_rates", "discounts", "total_discount_amounts")},
    **{name: [] for name in ("total_pretax_credit_amounts", "total_taxes")},
    "account_country": "US",
    "account_name": "Stand-in",
    "amount_overpaid": 0,
    "amount_shipping": 0,
    "attempt_count": 0,
    "automatic_tax": {**null("disabled_reason", "liability", "provider", "status"), "enabled": False},
    "billing_reason": "manual",
    "customer_tax_exempt": "none",
    "issuer": {"type": "self"},
    "object": "invoice",
    "payment_settings": null("default_mandate", "payment_method_options", "payment_method_types"),
    "post_payment_credit_notes_amount": 0,
    "pre_payment_credit_notes_amount": 0,
    "starting_balance": 0,
}


def invoice(row: Invoice) -> Json:
    due = max(row.total, 0)
    paid = row.status == "paid"
    final = row.finalized_at is not None
    page = f"https://invoice.stripe.com/i/standin/{row.id}" if final else None
    lines = [line(row, each) for each in row.lines[:LINES_SHOWN]]
    return {
        **_INVOICE,
        "id": row.id,
        "amount_due": due,
        "amount_paid": due if paid else 0,
        "amount_remaining": 0 if paid else due,
        "attempted": paid,
        "auto_advance": row.auto_advance and not paid,
        "collection_method": row.collection_method,
        "created": row.created,
        "currency": row.currency,
        "customer": row.customer,
        "customer_email": row.customer_email,
        "customer_name": row.customer_name,
        "description": row.description,
        "due_date": row.due_date,
        "effective_at": row.effective_at,
        "ending_balance": 0 if final else None,
        "footer": row.footer,
        "hosted_invoice_url": page,
        "invoice_pdf": f"{page}/pdf" if page else None,
        "lines": as_list(lines, len(row.lines) > LINES_SHOWN, f"/v1/invoices/{row.id}/lines"),
        "livemode": row.livemode,
        "metadata": row.metadata,
        "number": row.number,
        "period_end": row.created,
        "period_start": row.created,
        "statement_descriptor": row.statement_descriptor,
        "status": row.status,
        "status_transitions": {
            "finalized_at": row.finalized_at,
            "marked_uncollectible_at": None,
            "paid_at": row.paid_at,
            "voided_at": None,
        },
        "subtotal": row.total,
        "subtotal_excluding_tax": row.total,
        "total": row.total,
        "total_excluding_tax": row.total,
    }
