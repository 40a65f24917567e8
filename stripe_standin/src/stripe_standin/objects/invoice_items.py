"""Invoice items, and the lines of an invoice that show them: what is stored of each, and how it is shown."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .catalog import Discount, TaxRate, tax_rate
from .parts import Json, null


class InvoiceItem(NamedTuple):
    """Something to bill, in minor units; pending until it belongs to an invoice.

    `unit_amount` is a decimal; `unit_amount * quantity`, rounded, is `amount`. Without a price that was asked for,
    `price` and `product` are None.
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
    price: str | None = None
    product: str | None = None
    tax_behavior: str = "unspecified"
    tax_rates: tuple[TaxRate, ...] = ()
    object: str = "invoiceitem"


class Tax(NamedTuple):
    """By one rate, on one line or on the whole invoice."""

    rate: str
    amount: int
    inclusive: bool
    taxable: int
    automatic: bool


class Line(NamedTuple):
    """An item on its invoice, with its part of each discount of the invoice, and its taxes."""

    id: str
    item: InvoiceItem
    discounted: tuple[int, ...] = ()
    taxes: tuple[Tax, ...] = ()


_ITEM: Json = {
    **null("net_amount", "parent", "proration_details", "test_clock"),
    **{name: [] for name in ("discounts", "frozen_fields")},
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
        "tax_rates": [tax_rate(rate) for rate in row.tax_rates],
    }


_LINE: Json = {
    **{name: [] for name in ("discounts", "pretax_credit_amounts")},
    "object": "line_item",
    "subscription": None,
}


def line(row: Line, discounts: Sequence[Discount] = ()) -> Json:
    item = row.item
    named = {"invoice_item": item.id, "proration": False, **null("proration_details", "subscription")}
    return {
        **_LINE,
        "id": row.id,
        "amount": item.amount,
        "currency": item.currency,
        "description": item.description,
        "discount_amounts": discount_amounts(row.discounted, discounts),
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
        "taxes": [tax(each) for each in row.taxes],
    }


def discount_amounts(amounts: Sequence[int], discounts: Sequence[Discount]) -> list[Json]:
    return [{"amount": each, "discount": its.id} for each, its in zip(amounts, discounts, strict=True)]


def by_rate(taxes: Iterable[Tax]) -> tuple[Tax, ...]:
    """One for each rate, in the order of the lines."""
    found: dict[str, Tax] = {}
    for each in taxes:
        before = found.get(each.rate, each._replace(amount=0, taxable=0))
        found[each.rate] = before._replace(amount=before.amount + each.amount, taxable=before.taxable + each.taxable)
    return tuple(found.values())


def tax(row: Tax) -> Json:
    return {
        "amount": row.amount,
        "tax_behavior": "inclusive" if row.inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": row.rate},
        "taxability_reason": "standard_rated" if row.automatic else "not_available",
        "taxable_amount": row.taxable,
        "type": "tax_rate_details",
    }


def _pricing(item: InvoiceItem) -> Json:
    """As recorded: Stripe makes a price and a product for each amount. Here only their ids exist."""
    return {
        "price_details": {
            "price": item.price or f"price_{item.id[3:]}",
            "product": item.product or f"prod_{item.id[3:]}",
        },
        "type": "price_details",
        "unit_amount_decimal": item.unit_amount,
    }
