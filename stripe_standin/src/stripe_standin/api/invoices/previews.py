"""A preview: what an invoice would come to. Nothing is created, but its lines can be read under the id that it names.

Source: docs.stripe.com/api/invoices/create_preview. Modeled are invoice items that are given with the request.
"""

from typing import Any

from stripe_standin import errors
from stripe_standin.api.catalog import TAX_BEHAVIOR, unit_amount
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.objects import NO_METADATA, Invoice, Json, Line, shown
from stripe_standin.parameters import Reader, Table, boolean, currency, expand, list_of, nested, text

from .changes import with_lines
from .drafts import discounts_named
from .items import LINE, LINES_MAX, PRICED, priced

_KEPT = 100
_ITEM: dict[str, Reader] = {
    **LINE,
    "currency": currency,
    "price": text,
    "tax_rates": PRICED["tax_rates"],
    "tax_behavior": TAX_BEHAVIOR,
    "unit_amount": unit_amount,
    "unit_amount_decimal": unit_amount,
}
CREATE = Table(
    {
        "automatic_tax": nested(Table({"enabled": boolean}, required=("enabled",))),
        "currency": currency,
        "customer": text,
        "discounts": list_of(nested(Table({"coupon": text}, required=("coupon",))), most=20),
        "invoice_items": list_of(nested(Table(_ITEM)), most=LINES_MAX),
        "expand": expand(*paths("invoice")),
    },
    required=("customer",),
)


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    customer = books.find(books.customers, asked["customer"], "customer", status=400)
    items = asked.get("invoice_items", [])
    if not items:
        raise errors.wrong_state("Nothing to invoice for customer", code="invoice_upcoming_none")
    preview = Invoice(
        id=call.world.new_id("upcoming_in"),
        created=call.now,
        livemode=books.livemode,
        customer=customer.id,
        buyer=customer,
        currency=asked.get("currency") or customer.currency or "usd",
        status="draft",
        collection_method="charge_automatically",
        auto_advance=False,
        metadata=NO_METADATA,
        automatic_tax=asked.get("automatic_tax", {}).get("enabled", False),
    )
    preview = preview._replace(discounts=discounts_named(call, preview, asked.get("discounts", [])))
    made = [priced(call, preview, _as_line(preview, item, n), f"invoice_items[{n}]") for n, item in enumerate(items)]
    lines = tuple(Line(call.world.new_id("il_tmp"), item._replace(invoice=preview.id)) for item in made)
    preview = with_lines(preview, lines)
    books.previews[preview.id] = preview
    while len(books.previews) > _KEPT:
        del books.previews[next(iter(books.previews))]
    return shown(preview)


def _as_line(preview: Invoice, item: Json, n: int) -> Json:
    """As `add_lines` takes it, where a price is named or made in another way."""
    given: dict[str, Any] = {**item}
    money = given.pop("currency", preview.currency)
    if money != preview.currency:
        raise errors.bad_request("All items of a preview have its currency.", f"invoice_items[{n}][currency]")
    behavior = given.pop("tax_behavior", None)
    if (named := given.pop("price", None)) is not None:
        return {**given, "pricing": {"price": named}}
    units: dict[str, Any] = {name: given.pop(name) for name in ("unit_amount", "unit_amount_decimal") if name in given}
    if not units:
        return given
    data = {"currency": money, "product_data": {"name": "-"}, **units}
    if behavior is not None:
        data["tax_behavior"] = behavior
    return {**given, "price_data": data}
