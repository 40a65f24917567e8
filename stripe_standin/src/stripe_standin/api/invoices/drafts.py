"""Invoices: create, change, delete and read drafts."""

from typing import Any

from stripe_standin import errors
from stripe_standin.api.customers import payment_methods
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import bounds, page
from stripe_standin.objects import NO_METADATA, Discount, Invoice, Json, shown
from stripe_standin.parameters import (
    PAGE,
    Table,
    boolean,
    currency,
    expand,
    list_of,
    merged,
    metadata,
    moment,
    natural,
    nested,
    one_of,
    short_text,
    text,
)

from .changes import record, the_invoice, with_balance, with_lines
from .items import attached, pending, tax_rates_named, untaxable
from .progress import DAY, scheduled

_expand = expand(*paths("invoice"))
_COLLECTION_METHOD = one_of("charge_automatically", "send_invoice")
_CUSTOM_FIELD = Table({"name": short_text(40), "value": short_text(140)}, required=("name", "value"))
UPDATE = Table(
    {
        "auto_advance": boolean,
        "automatic_tax": nested(Table({"enabled": boolean}, required=("enabled",))),
        "collection_method": _COLLECTION_METHOD,
        "custom_fields": list_of(nested(_CUSTOM_FIELD), most=4),
        "days_until_due": natural,
        "default_payment_method": text,
        "default_tax_rates": list_of(text, most=20),
        "description": text,
        "discounts": list_of(nested(Table({"coupon": text}, required=("coupon",))), most=20),
        "due_date": natural,
        "effective_at": natural,
        "footer": text,
        "metadata": metadata,
        "number": short_text(26),
        "statement_descriptor": short_text(22),
        "expand": _expand,
    }
)
CREATE = Table(
    {
        **UPDATE.readers,
        "currency": currency,
        "customer": text,
        "pending_invoice_items_behavior": one_of("exclude", "include"),
    },
    required=("customer",),
)
DELETE = Table({})
GET = Table({"expand": _expand})
LIST = Table(
    {
        **PAGE,
        "collection_method": _COLLECTION_METHOD,
        "created": moment,
        "customer": text,
        "due_date": moment,
        "status": one_of("draft", "open", "void", "paid", "uncollectible"),
        "expand": expand(*paths("invoice", data=True)),
    }
)

_PLAIN = ("collection_method", "custom_fields", "effective_at", "description", "footer", "statement_descriptor")
# docs.stripe.com/invoicing/integration/automatic-advancement-collection: it can be changed on open ones, too.
_OF_FINAL = {"auto_advance", "expand", "metadata"}


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    customer = books.find(books.customers, asked["customer"], "customer", status=400)
    items = []
    if asked.get("pending_invoice_items_behavior") == "include":
        items = pending(call, customer.id, asked.get("currency"))
    money = asked.get("currency") or (items[0].currency if items else customer.currency) or "usd"
    invoice = Invoice(
        id=call.world.new_id("in"),
        created=call.now,
        livemode=books.livemode,
        customer=customer.id,
        buyer=customer,
        currency=money,
        status="draft",
        collection_method="charge_automatically",
        auto_advance=asked.get("auto_advance", False),
        metadata=NO_METADATA,
    )
    invoice = scheduled(call, attached(call, _asked(call, invoice), items))
    for line in invoice.lines:
        books.invoice_items.put(line.item)
    return shown(record(call, invoice, "invoice.created", "invoice.created"))


def update(call: Call) -> Json:
    invoice, asked = the_invoice(call, "id"), call.params
    refused = sorted(set(asked) - _OF_FINAL) if invoice.status != "draft" else []
    if invoice.status not in ("draft", "open") and "auto_advance" in asked:
        refused = ["auto_advance"]
    if refused:
        raise errors.wrong_state("Finalized invoices can't be updated in this way", param=refused[0])
    changed = _asked(call, invoice)
    if "auto_advance" in asked and asked["auto_advance"] != invoice.auto_advance:
        changed = scheduled(call, changed._replace(auto_advance=asked["auto_advance"]))
    # Without a change there is no event (recorded).
    return shown(invoice if changed == invoice else record(call, changed, "invoice.updated"))


def delete(call: Call) -> Json:
    """Delete a draft. Its items stay with it, and cannot be changed either (recorded)."""
    invoice = the_invoice(call)
    if invoice.status != "draft":
        raise errors.wrong_state("You can only delete draft invoices.")
    record(call, invoice, "invoice.deleted", "invoice.deleted")
    call.books.invoices.remove(invoice.id)
    if invoice.number is not None:
        call.books.invoice_numbers.discard(invoice.number)
    return {"id": invoice.id, "object": "invoice", "deleted": True}


def get(call: Call) -> Json:
    return shown(with_balance(call, the_invoice(call)))


def list_(call: Call) -> Json:
    asked = call.params
    first, last = bounds(asked.get("due_date"))
    return page(
        call.books.invoices,
        asked,
        "/v1/invoices",
        "customer",
        "status",
        "collection_method",
        where=lambda invoice: "due_date" not in asked or first <= (invoice.due_date or -1) <= last,
    )


def _asked(call: Call, invoice: Invoice) -> Invoice:
    """The invoice with these parameters. Raises before anything is stored."""
    asked = call.params
    changes: dict[str, Any] = {name: asked[name] for name in _PLAIN if name in asked}
    if "metadata" in asked:
        changes["metadata"] = merged(invoice.metadata, asked["metadata"])
    if "default_payment_method" in asked:
        named = asked["default_payment_method"]
        if named:
            named = payment_methods.owned(call, named, invoice.customer, "default_payment_method").id
        changes["default_payment_method"] = named
    if "days_until_due" in asked:
        changes |= {
            "days_until_due": asked["days_until_due"],
            "due_date": invoice.created + asked["days_until_due"] * DAY,
        }
    elif "due_date" in asked:
        changes |= {"days_until_due": None, "due_date": asked["due_date"]}
    if invoice.status == "draft":
        _check_due(changes.get("collection_method", invoice.collection_method), changes, invoice)
        if changes.get("collection_method") == "send_invoice":
            check_email(call, invoice)
        if changes.get("collection_method") == "charge_automatically":
            changes |= {"days_until_due": None, "due_date": None}
    changes |= _reckoned(call, invoice)
    if "number" in asked:
        changes["number"] = _number(call, invoice, asked["number"])
    changed = invoice._replace(**changes)
    return with_lines(changed, changed.lines) if invoice.status == "draft" else changed


def _reckoned(call: Call, invoice: Invoice) -> dict[str, Any]:
    """What changes the totals of a draft: its tax rates, Stripe Tax, its discounts."""
    asked, changes = call.params, dict[str, Any]()
    if "default_tax_rates" in asked:
        changes["default_tax_rates"] = tax_rates_named(call, asked["default_tax_rates"], "default_tax_rates")
    if "automatic_tax" in asked:
        changes["automatic_tax"] = asked["automatic_tax"]["enabled"]
    if changes.get("automatic_tax", invoice.automatic_tax):
        if changes.get("default_tax_rates", invoice.default_tax_rates):
            raise errors.bad_request("You cannot use `default_tax_rates` with automatic tax.", "default_tax_rates")
        for line in invoice.lines:
            if untaxable(line.item):
                raise errors.bad_request("A line of this invoice cannot have automatic tax.", "automatic_tax")
    if "discounts" in asked:
        changes["discounts"] = discounts_named(call, invoice, asked["discounts"])
    return changes


def discounts_named(call: Call, invoice: Invoice, asked: list[Json]) -> tuple[Discount, ...]:
    named = [(each["coupon"], f"discounts[{n}][coupon]") for n, each in enumerate(asked)]
    return tuple(_discount(call, invoice, coupon, param) for coupon, param in named)


def _discount(call: Call, invoice: Invoice, named: str, param: str) -> Discount:
    coupon = call.books.find(call.books.coupons, named, param, status=400)
    if coupon.currency not in (None, invoice.currency):
        raise errors.bad_request(f"The coupon {named} is in {coupon.currency}, the invoice is not.", param)
    return Discount(call.world.new_id("di"), coupon)


def _check_due(collection_method: str, changes: Json, invoice: Invoice) -> None:
    due = changes.get("due_date") is not None
    if collection_method == "send_invoice" and not due and invoice.due_date is None:
        raise errors.bad_request(
            "If invoice collection method is 'send_invoice', you must specify 'due_date' or 'days_until_due'."
        )
    if collection_method != "send_invoice" and due:
        raise errors.bad_request(
            "You can only specify 'due_date' or 'days_until_due' if invoice collection method is 'send_invoice'."
        )


def check_email(call: Call, invoice: Invoice) -> None:
    """As recorded: Stripe checks the e-mail address when the invoice is made. Decided here: again when it is sent."""
    customer = call.books.customers.get(invoice.customer)
    if customer is not None and customer.email is None:
        raise errors.wrong_state(
            "Missing email. In order to create invoices that are sent to the customer, the customer must have a valid "
            "email."
        )


def _number(call: Call, invoice: Invoice, number: str | None) -> str | None:
    numbers = call.books.invoice_numbers
    if number == invoice.number:
        return number
    if number in numbers:
        raise errors.wrong_state(f"The invoice number {number} is already in use.", param="number")
    numbers.discard(invoice.number or "")
    if number is not None:
        numbers.add(number)
    return number
