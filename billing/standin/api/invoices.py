"""Invoices: a draft, its lines, then final and sent. Collecting them comes with the rest of the stand-in."""

from billing.standin import errors
from billing.standin.call import Call
from billing.standin.lists import limit_of, page
from billing.standin.objects import NO_METADATA, Invoice, Json, Line, as_list, shown
from billing.standin.objects.invoices import line as line_shown
from billing.standin.parameters import (
    PAGE,
    Reader,
    Table,
    boolean,
    currency,
    expand,
    line_amount,
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

LINES_MAX = 250  # per invoice (STRIPE.md section 3)
DAY = 86_400

_expand = expand("customer")
_LINE: dict[str, Reader] = {
    "amount": line_amount,
    "description": text,
    "discountable": boolean,
    "metadata": metadata,
    "period": nested(Table({"start": natural, "end": natural}, required=("start", "end"))),
    "quantity": natural,
}
CREATE = Table(
    {
        "auto_advance": boolean,
        "collection_method": one_of("charge_automatically", "send_invoice"),
        "currency": currency,
        "customer": text,
        "days_until_due": natural,
        "description": text,
        "due_date": natural,
        "effective_at": natural,
        "footer": text,
        "metadata": metadata,
        "number": short_text(26),
        # There are no pending items here, so there is nothing to include.
        "pending_invoice_items_behavior": one_of("exclude"),
        "statement_descriptor": short_text(22),
        "expand": _expand,
    },
    required=("customer",),
)
ADD_LINES = Table(
    {
        "lines": list_of(nested(Table(_LINE, required=("amount",))), most=LINES_MAX),
        "invoice_metadata": metadata,
        "expand": _expand,
    },
    required=("lines",),
)
FINALIZE = Table({"auto_advance": boolean, "expand": _expand})
SEND = Table({"expand": _expand})
DELETE = Table({})
GET = Table({"expand": _expand})
LINES = Table(PAGE)
LIST = Table(
    {
        **PAGE,
        "collection_method": one_of("charge_automatically", "send_invoice"),
        "created": moment,
        "customer": text,
        "status": one_of("draft", "open", "paid", "uncollectible", "void"),
        "expand": expand("data.customer"),
    }
)


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    customer = books.find(books.customers, asked["customer"], "customer", status=400)
    collection_method = asked.get("collection_method", "charge_automatically")
    due = "days_until_due" in asked or "due_date" in asked
    if collection_method == "send_invoice" and not due:
        raise errors.bad_request(
            "If invoices are set to be `collection_method=send_invoice`, you must pass either `due_date` or "
            "`days_until_due`."
        )
    if collection_method != "send_invoice" and due:
        raise errors.bad_request("You can only set a due date if `collection_method=send_invoice`.")
    number = asked.get("number")
    if number is not None and number in books.invoice_numbers:
        raise errors.wrong_state(f"The invoice number {number} is already in use.", param="number")
    if number is not None:
        books.invoice_numbers.add(number)
    days = asked.get("days_until_due")
    invoice = Invoice(
        id=call.world.new_id("in"),
        created=call.now,
        livemode=books.livemode,
        customer=customer.id,
        customer_email=customer.email,
        customer_name=customer.name,
        currency=asked.get("currency", "usd"),
        status="draft",
        collection_method=collection_method,
        auto_advance=asked.get("auto_advance", False),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        number=number,
        days_until_due=days,
        due_date=asked.get("due_date") if days is None else call.now + days * DAY,
        effective_at=asked.get("effective_at"),
        description=asked.get("description"),
        footer=asked.get("footer"),
        statement_descriptor=asked.get("statement_descriptor"),
    )
    return _happened(call, invoice, "invoice.created", "invoice.created")


def add_lines(call: Call) -> Json:
    invoice, asked = _invoice(call), call.params
    if invoice.status != "draft":
        raise errors.wrong_state(
            "This invoice is no longer editable, so lines cannot be added to it.", code="invoice_not_editable"
        )
    if not asked["lines"]:
        raise errors.missing_parameter("lines")
    if len(invoice.lines) + len(asked["lines"]) > LINES_MAX:
        raise errors.wrong_state(f"An invoice can have at most {LINES_MAX} lines.", param="lines")
    lines = invoice.lines + tuple(_line(call, invoice, line) for line in asked["lines"])
    labels = invoice.metadata
    if "invoice_metadata" in asked:
        labels = merged(labels, asked["invoice_metadata"])
    invoice = invoice._replace(lines=lines, total=sum(line.amount for line in lines), metadata=labels)
    return _happened(call, invoice, "invoice.updated", "invoice.lines_added")


def finalize(call: Call) -> Json:
    invoice = _invoice(call)
    if invoice.status != "draft":
        raise errors.wrong_state("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    return shown(_finalize(call, invoice))


def send(call: Call) -> Json:
    invoice = _invoice(call)
    if invoice.collection_method != "send_invoice":
        raise errors.wrong_state("You can only manually send an invoice if its collection method is 'send_invoice'.")
    if invoice.status == "draft":
        invoice = _finalize(call, invoice)
    if invoice.status != "open":
        raise errors.wrong_state("This invoice cannot be sent right now. Only open invoices can be sent.")
    return _happened(call, invoice, "invoice.sent", "invoice.sent")


def delete(call: Call) -> Json:
    invoice = _invoice(call)
    if invoice.status != "draft":
        raise errors.wrong_state("You can only delete draft invoices.")
    _happened(call, invoice, "invoice.deleted", "invoice.deleted")
    call.books.invoices.remove(invoice.id)
    if invoice.number is not None:
        call.books.invoice_numbers.discard(invoice.number)
    return {"id": invoice.id, "object": "invoice", "deleted": True}


def get(call: Call) -> Json:
    return shown(_invoice(call))


def list_(call: Call) -> Json:
    wanted = [
        (name, call.params[name])
        for name in ("customer", "status", "collection_method")
        if call.params.get(name) is not None
    ]
    return page(
        call.books.invoices,
        call.params,
        "/v1/invoices",
        shown,
        lambda invoice: all(getattr(invoice, name) == value for name, value in wanted),
    )


def lines(call: Call) -> Json:
    """The lines of an invoice in the order they were added."""
    invoice = _invoice(call)
    rows = list(invoice.lines)
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    limit = limit_of(call.params)
    places = {line.id: place for place, line in enumerate(rows)}
    for param, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and cursor not in places:
            raise errors.no_such("line item", cursor, param, status=400)
    if before:
        rows = rows[: places[before]]
        shown, more = rows[-limit:], len(rows) > limit
    else:
        rows = rows[places[after] + 1 if after else 0 :]
        shown, more = rows[:limit], len(rows) > limit
    return as_list([line_shown(invoice, line) for line in shown], more, f"/v1/invoices/{invoice.id}/lines")


def _invoice(call: Call) -> Invoice:
    return call.books.find(call.books.invoices, call.ids[0], "invoice")


def _line(call: Call, invoice: Invoice, asked: Json) -> Line:
    period = asked.get("period", {"start": call.now, "end": call.now})
    return Line(
        id=call.world.new_id("il"),
        amount=asked["amount"],
        currency=invoice.currency,
        description=asked.get("description"),
        quantity=asked.get("quantity", 1),
        discountable=asked.get("discountable", True),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        period_start=period["start"],
        period_end=period["end"],
        invoice_item=call.world.new_id("ii"),
    )


def _finalize(call: Call, invoice: Invoice) -> Invoice:
    books = call.books
    number = invoice.number
    customer = books.find(books.customers, invoice.customer, "customer", status=400)
    while number is None or (number != invoice.number and number in books.invoice_numbers):
        number = f"{customer.invoice_prefix}-{customer.next_invoice_sequence:04}"
        customer = books.customers.put(customer._replace(next_invoice_sequence=customer.next_invoice_sequence + 1))
    books.invoice_numbers.add(number)
    # Nothing to pay is paid: Stripe does not leave such an invoice open.
    free = invoice.total <= 0
    days = invoice.days_until_due
    invoice = invoice._replace(
        status="paid" if free else "open",
        number=number,
        auto_advance=call.params.get("auto_advance", invoice.auto_advance),
        due_date=invoice.due_date if days is None else call.now + days * DAY,
        effective_at=invoice.effective_at or call.now,
        finalized_at=call.now,
        paid_at=call.now if free else None,
    )
    _happened(call, invoice, "invoice.finalized", "invoice.finalized")
    if free:
        call.event("invoice.paid", invoice)
    return invoice


def _happened(call: Call, invoice: Invoice, event: str, effect: str) -> Json:
    call.books.invoices.put(invoice)
    call.event(event, invoice)
    call.effect(effect, invoice, invoice.total)
    return shown(invoice)
