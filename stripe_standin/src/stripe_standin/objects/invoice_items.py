"""Invoice items, and the lines of an invoice that show them: what is stored of each, and how it is shown."""

from typing import NamedTuple

from .parts import Json, null


class InvoiceItem(NamedTuple):
    """Something to bill, in minor units; pending until it belongs to an invoice.

    `unit_amount` is a decimal; `unit_amount * quantity`, rounded, is `amount`.
    """

    id: str
    created: int
    livemode: bool
    customer: str
    currency: str
    amount: int
    unit_amount: str
    quantity: int
    description: str | None
    discountable: bool
    metadata: dict[str, str]
    period_start: int
    period_end: int
    invoice: str | None
    object: str = "invoiceitem"


class Line(NamedTuple):
    """An item on its invoice."""

    id: str
    item: InvoiceItem


_ITEM: Json = {
    **null("net_amount", "parent", "proration_details", "test_clock"),
    **{name: [] for name in ("discounts", "frozen_fields", "tax_rates")},
    "object": "invoiceitem",
    "proration": False,
}


def invoice_item(row: InvoiceItem) -> Json:
    return {
        **_ITEM,
        "id": row.id,
        "amount": row.amount,
        "currency": row.currency,
        "customer": row.customer,
        "date": row.created,
        "description": row.description,
        "discountable": row.discountable,
        "invoice": row.invoice,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "period": {"end": row.period_end, "start": row.period_start},
        "pricing": _pricing(row),
        "quantity": row.quantity,
        "quantity_decimal": str(row.quantity),
    }


_LINE: Json = {
    **{name: [] for name in ("discount_amounts", "discounts", "pretax_credit_amounts", "taxes")},
    "object": "line_item",
    "subscription": None,
}


def line(row: Line) -> Json:
    item = row.item
    named = {"invoice_item": item.id, "proration": False, **null("proration_details", "subscription")}
    return {
        **_LINE,
        "id": row.id,
        "amount": item.amount,
        "currency": item.currency,
        "description": item.description,
        "discountable": item.discountable,
        "invoice": item.invoice,
        "livemode": item.livemode,
        "metadata": item.metadata,
        "parent": {
            "invoice_item_details": named,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "period": {"end": item.period_end, "start": item.period_start},
        "pricing": _pricing(item),
        "quantity": item.quantity,
        "quantity_decimal": str(item.quantity),
        "subtotal": item.amount,
    }


def _pricing(item: InvoiceItem) -> Json:
    """As recorded: Stripe makes a price and a product for each amount. Here only their ids exist."""
    return {
        "price_details": {"price": f"price_{item.id[3:]}", "product": f"prod_{item.id[3:]}"},
        "type": "price_details",
        "unit_amount_decimal": item.unit_amount,
    }
