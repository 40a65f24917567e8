"""What an invoice would come to at Stripe, asked without creating anything there or here.

Stripe's preview takes lines in a form of its own (docs.stripe.com/api/invoices/create_preview): a price by its id, a
unit amount without a product, and no default tax rates, so each line gets those of the invoice. The answer is compared
as that of a draft is before it is finalized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from billing.differences import Difference
from billing.errors import InvalidRequest
from billing.gateway import Budget, Gateway, Request, Response, boot_clock, encode
from billing.invoice_lines import not_as_asked, parameters
from billing.invoice_requests import WantedInvoice
from billing.invoice_totals import not_our_totals, totals_of
from billing.reading import PAGE_S, NotRead
from billing.steps import Json, Reader, Unread
from billing.tables.entities import Invoice, InvoiceLine

_KEY = "preview"
_PATH = "/v1/invoices"


@dataclass(frozen=True, slots=True)
class PreviewedLine:
    """`minor`: what Stripe makes of it."""

    description: str
    quantity: int
    minor: int


@dataclass(frozen=True, slots=True)
class Preview:
    """In minor units. `tax` is what is added; inclusive tax is a part of the lines. `differs`: in what Stripe reckons
    otherwise than was asked, so that the invoice would be refused before it is finalized."""

    currency: str
    lines: Sequence[PreviewedLine]
    subtotal_minor: int
    discount_minor: int
    tax_minor: int
    total_minor: int
    differs: Sequence[str]


def preview(gateway: Gateway, read: Reader, account: str | None, customer: str, wanted: WantedInvoice) -> Preview:
    """Raises InvalidRequest if Stripe refuses it, and NotRead if it does not answer."""
    row = Invoice(customer=customer, currency=wanted.currency, total_minor=wanted.known_minor, terms=wanted.terms)
    lines = [InvoiceLine(**line) for line in wanted.rows()]
    until = boot_clock() + PAGE_S
    body = encode(_asked(row, lines))
    # A preview has no effect, so every one may have a key of its own.
    request = Request("POST", f"{_PATH}/create_preview", body, key=f"{_KEY}:{uuid4()}", account=account)
    answer = gateway.send(request, Budget(until, until))
    if not isinstance(answer, Response):
        raise NotRead(answer.why)
    if answer.status == 400 and answer.error_code is not None:
        about = f": {answer.error_param}" if answer.error_param else ""
        raise InvalidRequest("Stripe", f"refuses it: {answer.error_code}{about}")
    if answer.status != 200 or answer.data is None:
        raise NotRead(f"status {answer.status}")
    shown = _lines(read, answer.data)
    differs: list[Difference] = not_our_totals(row, answer.data, list(shown.values()))
    for line in lines:
        differs += [
            Difference(f"lines.{line.position}.{each.field}", each.expected, each.found)
            for each in not_as_asked(line, shown.get(str(line.position), {}))
        ]
    found = totals_of(answer.data)
    return Preview(
        currency=row.currency,
        lines=[_previewed(line, shown.get(str(line.position), {})) for line in lines],
        subtotal_minor=found.subtotal,
        discount_minor=found.discount,
        tax_minor=found.tax,
        total_minor=found.total,
        differs=[str(each) for each in differs],
    )


def _asked(row: Invoice, lines: Sequence[InvoiceLine]) -> dict[str, Any]:
    terms = row.terms or {}
    asked: dict[str, Any] = {"customer": row.customer, "currency": row.currency.lower()}
    if "automatic_tax" in terms:
        asked["automatic_tax"] = {"enabled": True}
    asked["discounts"] = [{"coupon": coupon} for coupon in terms.get("discounts", ())] or ""
    asked["invoice_items"] = [_item(row, line, terms.get("tax_rates")) for line in lines]
    return asked


def _item(row: Invoice, line: InvoiceLine, tax_rates: object) -> dict[str, Any]:
    item = parameters(row, line)
    if (data := item.pop("price_data", None)) is not None:
        item |= {name: data[name] for name in ("unit_amount_decimal", "tax_behavior") if name in data}
    if (pricing := item.pop("pricing", None)) is not None:
        item["price"] = pricing["price"]
    if tax_rates and "tax_rates" not in item:
        item["tax_rates"] = tax_rates
    return {**item, "currency": row.currency.lower(), "metadata": {"billing_line": str(line.position)}}


def _lines(read: Reader, shown: Json) -> dict[str, Json]:
    """Every line of the preview, by its position. Raises NotRead."""
    listed = shown.get("lines")
    first: Json = listed if isinstance(listed, Mapping) else {}
    try:
        whole = first.get("has_more") is False
        every = first.get("data", ()) if whole else list(read.pages(f"{_PATH}/{shown.get('id')}/lines", {}))
    except Unread as unread:
        raise NotRead(unread.why) from None
    return {str((line.get("metadata") or {}).get("billing_line")): line for line in every}


def _previewed(line: InvoiceLine, shown: Json) -> PreviewedLine:
    quantity, minor = shown.get("quantity"), shown.get("amount")
    return PreviewedLine(
        description=line.description,
        quantity=quantity if type(quantity) is int else 1,
        minor=minor if type(minor) is int else 0,
    )
