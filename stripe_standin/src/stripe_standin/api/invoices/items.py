"""Invoice items: what is to be billed, pending or on a draft. Their texts are recorded ones."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from stripe_standin import errors
from stripe_standin.api.catalog import TAX_BEHAVIOR, unit_amount, unit_asked
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Invoice, InvoiceItem, Json, Line, TaxRate, shown
from stripe_standin.parameters import (
    AMOUNT_MAX,
    PAGE,
    Reader,
    Table,
    boolean,
    currency,
    decimal,
    expand,
    line_amount,
    list_of,
    merged,
    metadata,
    moment,
    natural,
    nested,
    short_text,
    text,
)
from stripe_standin.sums import rounded

from .changes import editable, record, with_lines

LINES_MAX = 250  # per invoice (docs.stripe.com/api/invoiceitems/create)

_expand = expand(*paths("invoice_item"))
_PRICE_DATA = Table(
    {
        "currency": currency,
        "unit_amount": unit_amount,
        "unit_amount_decimal": unit_amount,
        "product": text,
        "product_data": nested(Table({"name": short_text(250)}, required=("name",))),
        "tax_behavior": TAX_BEHAVIOR,
    },
    required=("currency",),
)
# What a line that is added may have beside what a line has that is changed.
PRICED: dict[str, Reader] = {
    "price_data": nested(_PRICE_DATA),
    "pricing": nested(Table({"price": text}, required=("price",))),
    "tax_rates": list_of(text, most=20),
}
LINE: dict[str, Reader] = {
    "amount": line_amount,
    "description": text,
    "discountable": boolean,
    "metadata": metadata,
    "period": nested(Table({"start": natural, "end": natural}, required=("start", "end"))),
    "quantity": natural,
}
_ITEM: dict[str, Reader] = {**LINE, "unit_amount_decimal": decimal}
CREATE = Table({**_ITEM, "currency": currency, "customer": text, "invoice": text, "expand": _expand})
UPDATE = Table({**_ITEM, "expand": _expand})
GET = Table({"expand": _expand})
DELETE = Table({})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "customer": text,
        "invoice": text,
        "pending": boolean,
        "expand": expand(*paths("invoice_item", data=True)),
    }
)


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    invoice = None
    if asked.get("invoice"):
        invoice = editable(books.find(books.invoices, asked["invoice"], "invoice", status=400))
    named = asked.get("customer") or (invoice.customer if invoice else None)
    if named is None:
        raise errors.missing_parameter("customer")
    customer = books.find(books.customers, named, "customer", status=400)
    money = asked.get("currency") or (invoice.currency if invoice else customer.currency) or "usd"
    if invoice and (customer.id, money) != (invoice.customer, invoice.currency):
        raise errors.wrong_state("An invoice item has the customer and the currency of its invoice.", param="invoice")
    item = made(call, customer.id, money, asked, "amount")
    if invoice:
        invoice = attached(call, invoice, [item])
        item = invoice.lines[0].item
    books.invoice_items.put(item)
    call.event("invoiceitem.created", item)
    call.effect("invoiceitem.created", item, item.amount)
    if invoice:
        record(call, invoice, "invoice.updated")
    return shown(item)


def update(call: Call) -> Json:
    item = _item(call)
    invoice = _draft_of(call, item)
    item = call.books.invoice_items.put(changed(item, call.params, "amount"))
    if invoice:
        record(call, with_items(invoice, [item]), "invoice.updated")
    return shown(item)


def delete(call: Call) -> Json:
    item = _item(call)
    invoice = call.books.invoices.get(item.invoice) if item.invoice else None
    if item.invoice and (invoice is None or invoice.status != "draft"):
        raise errors.wrong_state(
            "Can't delete an invoice item that is attached to an invoice that is no longer editable",
            code="invoice_not_editable",
        )
    gone(call, item)
    call.effect("invoiceitem.deleted", item, item.amount)
    if invoice:
        record(call, without(invoice, {item.id}), "invoice.updated")
    return {"id": item.id, "object": "invoiceitem", "deleted": True}


def get(call: Call) -> Json:
    return shown(_item(call))


def list_(call: Call) -> Json:
    asked = call.params
    pending = asked.get("pending")
    return page(
        call.books.invoice_items,
        asked,
        "/v1/invoiceitems",
        "customer",
        "invoice",
        where=lambda item: pending in (None, item.invoice is None),
    )


# Used by invoices.


def pending(call: Call, customer: str, money: str | None) -> list[InvoiceItem]:
    """Up to 250 items that belong to no invoice yet, the newest first; all in one currency, `money` or the newest's."""
    found: list[InvoiceItem] = []
    for item in call.books.invoice_items.newest_first():
        if item.customer == customer and item.invoice is None and item.currency == (money or item.currency):
            money = item.currency
            found.append(item)
            if len(found) == LINES_MAX:
                break
    return found


def attached(call: Call, invoice: Invoice, items: Iterable[InvoiceItem]) -> Invoice:
    """The draft with these in front of its lines. Raises if there are too many. Nothing is stored yet."""
    added = tuple(Line(call.world.new_id("il"), item._replace(invoice=invoice.id)) for item in items)
    if len(invoice.lines) + len(added) > LINES_MAX:
        raise errors.wrong_state(f"An invoice can have at most {LINES_MAX} lines.", param="lines")
    return with_lines(invoice, added + invoice.lines)


def _item(call: Call) -> InvoiceItem:
    return call.books.find(call.books.invoice_items, call.ids[0], "id")


def made(call: Call, customer: str, money: str, asked: Json, named: str) -> InvoiceItem:
    item = InvoiceItem(
        id=call.world.new_id("ii"),
        created=call.now,
        livemode=call.books.livemode,
        customer=customer,
        currency=money,
        amount=0,
        unit_amount="",
        quantity=1,
        description=None,
        discountable=True,
        metadata=NO_METADATA,
        period_start=call.now,
        period_end=call.now,
        invoice=None,
    )
    if "amount" not in asked and "unit_amount_decimal" not in asked:
        raise errors.missing_parameter(named)
    return changed(item, asked, named)


def priced(call: Call, invoice: Invoice, asked: Json, under: str) -> InvoiceItem:
    """The item of a line that is added to a draft: an amount, a price, or a price that it makes by itself."""
    ways = [name for name in ("amount", "price_data", "pricing") if name in asked]
    if len(ways) > 1:
        raise errors.bad_request(f"You may only specify one of these parameters: {', '.join(ways)}.", under)
    given = dict(asked)
    fields: dict[str, Any] = {"tax_rates": tax_rates_named(call, given.pop("tax_rates", []), f"{under}[tax_rates]")}
    if (data := given.pop("price_data", None)) is not None:
        if ("product" in data) == ("product_data" in data):
            raise errors.bad_request("You must specify one of `product` or `product_data`.", f"{under}[price_data]")
        given["unit_amount_decimal"] = unit_asked(data, f"{under}[price_data]")
        money = data["currency"]
        fields |= {"price": call.world.new_id("price"), "product": data.get("product") or call.world.new_id("prod")}
        fields["tax_behavior"] = data.get("tax_behavior", "unspecified")
    elif (pricing := given.pop("pricing", None)) is not None:
        param = f"{under}[pricing][price]"
        price = call.books.find(call.books.prices, pricing["price"], param, status=400)
        given["unit_amount_decimal"] = Decimal(price.unit_amount)
        money = price.currency
        fields |= {"price": price.id, "product": price.product, "tax_behavior": price.tax_behavior}
    else:
        money = invoice.currency
    if money != invoice.currency:
        raise errors.bad_request(f"The price is in {money}, and the invoice in {invoice.currency}.", under)
    item = made(call, invoice.customer, invoice.currency, given, f"{under}[amount]")._replace(**fields)
    # docs.stripe.com/api/invoiceitems/create: false by default for negative ones.
    item = item._replace(discountable=given.get("discountable", item.amount >= 0))
    if invoice.automatic_tax and untaxable(item):
        raise errors.bad_request("This line cannot be added to an invoice with automatic tax.", under)
    return item


def untaxable(item: InvoiceItem) -> bool:
    """Source: docs.stripe.com/api/invoices/create, `automatic_tax[enabled]`. What has no price has the behavior of the
    tax settings."""
    unspecified = item.price is not None and item.tax_behavior == "unspecified"
    return bool(item.tax_rates) or item.amount < 0 or unspecified


def tax_rates_named(call: Call, named: list[str], param: str) -> tuple[TaxRate, ...]:
    rates = call.books.tax_rates
    return tuple(call.books.find(rates, each, f"{param}[{n}]", status=400) for n, each in enumerate(named))


def changed(item: InvoiceItem, asked: Json, named: str) -> InvoiceItem:
    """The requested item. `named` is the name of the amount in a refusal. Execution has not begun yet."""
    changes: dict[str, Any] = {name: asked[name] for name in ("description", "discountable") if name in asked}
    if "metadata" in asked:
        changes["metadata"] = merged(item.metadata, asked["metadata"])
    if "period" in asked:
        start, end = asked["period"]["start"], asked["period"]["end"]
        if end < start:
            raise errors.bad_request("A period ends at its start or later.", "period")
        changes |= {"period_start": start, "period_end": end}
    return item._replace(**changes, **_price(item, asked, named))


def _price(item: InvoiceItem, asked: Json, named: str) -> dict[str, Any]:
    """An amount, or a quantity and the price of a unit. An amount is one unit."""
    if "amount" in asked:
        for other in ("quantity", "unit_amount_decimal"):
            if other in asked:
                raise errors.bad_request(f"You may only specify one of these parameters: amount, {other}.", named)
        return {"amount": asked["amount"], "unit_amount": str(asked["amount"]), "quantity": 1}
    if "quantity" not in asked and "unit_amount_decimal" not in asked:
        return {}
    unit = asked["unit_amount_decimal"] if "unit_amount_decimal" in asked else Decimal(item.unit_amount)
    quantity = asked.get("quantity", item.quantity)
    amount = rounded(unit * quantity)
    if abs(amount) > AMOUNT_MAX:
        raise errors.bad_request("Amount must be no more than 99999999.", "unit_amount_decimal", "amount_too_large")
    return {"amount": amount, "unit_amount": f"{unit:f}", "quantity": quantity}


def _draft_of(call: Call, item: InvoiceItem) -> Invoice | None:
    """The draft that it is on, if any. Raises if that cannot be changed any more."""
    if item.invoice is None:
        return None
    invoice = call.books.invoices.get(item.invoice)
    if invoice is None:
        # The items of a deleted draft stay with it (recorded).
        raise errors.wrong_state("This invoice item has been deleted.")
    return editable(invoice)


def with_items(invoice: Invoice, items: list[InvoiceItem]) -> Invoice:
    changed = {item.id: item for item in items}
    return with_lines(invoice, tuple(Line(line.id, changed.get(line.item.id, line.item)) for line in invoice.lines))


def without(invoice: Invoice, items: set[str]) -> Invoice:
    return with_lines(invoice, tuple(line for line in invoice.lines if line.item.id not in items))


def gone(call: Call, item: InvoiceItem) -> None:
    call.books.invoice_items.remove(item.id)
    call.event("invoiceitem.deleted", item)
