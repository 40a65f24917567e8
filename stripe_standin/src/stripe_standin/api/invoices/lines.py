"""The lines of a draft: its invoice items, added, changed and removed, many at once.

Recorded: a line takes an amount or a quantity, and lines that are added later come first. Decided here: lines added by
one call keep their order.
"""

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import part
from stripe_standin.objects import Invoice, InvoiceItem, Json, Line, shown
from stripe_standin.objects.invoice_items import line as line_shown
from stripe_standin.parameters import PAGE, Reader, Table, expand, list_of, merged, metadata, nested, one_of, text

from .changes import editable, not_editable, record, the_invoice
from .items import LINE, LINES_MAX, PRICED, attached, changed, gone, priced, with_items, without


def _lines(row: dict[str, Reader], *required: str) -> Table:
    of_lines = list_of(nested(Table(row, required=required)), most=LINES_MAX)
    return Table(
        {"lines": of_lines, "invoice_metadata": metadata, "expand": expand(*paths("invoice"))}, required=("lines",)
    )


ADD_LINES = _lines({**LINE, **PRICED, "invoice_item": text})
UPDATE_LINES = _lines({**LINE, "id": text}, "id")
REMOVE_LINES = _lines({"id": text, "behavior": one_of("delete", "unassign")}, "id", "behavior")
UPDATE_LINE = Table({**LINE, "expand": expand()})
LINES = Table({**PAGE, "expand": expand()})


def add_lines(call: Call) -> Json:
    invoice, books = _labeled(call, editable(the_invoice(call))), call.books
    lines = _asked_lines(call)
    items: list[InvoiceItem] = []
    for n, asked in enumerate(lines):
        if asked.get("invoice_item"):
            items.append(_assignable(call, invoice, asked["invoice_item"], f"lines[{n}][invoice_item]", items))
        else:
            items.append(priced(call, invoice, asked, f"lines[{n}]"))
    invoice = attached(call, invoice, items)
    for line in invoice.lines[: len(items)]:
        new = books.invoice_items.get(line.item.id) is None
        books.invoice_items.put(line.item)
        if new:
            call.event("invoiceitem.created", line.item)
    return shown(record(call, invoice, "invoice.updated", "invoice.lines_added"))


def update_lines(call: Call) -> Json:
    invoice = _labeled(call, editable(the_invoice(call)))
    items = [
        changed(_on(invoice, asked["id"], f"lines[{n}][id]").item, asked, f"lines[{n}][amount]")
        for n, asked in enumerate(_asked_lines(call))
    ]
    for item in items:
        call.books.invoice_items.put(item)
    return shown(record(call, with_items(invoice, items), "invoice.updated"))


def update_line(call: Call) -> Json:
    """Returns the line, not the invoice (recorded)."""
    invoice = editable(the_invoice(call))
    line = _on(invoice, call.ids[1], "line_item_id", status=404)
    item = call.books.invoice_items.put(changed(line.item, call.params, "amount"))
    invoice = record(call, with_items(invoice, [item]), "invoice.updated")
    return line_shown(_on(invoice, line.id, "line_item_id"), invoice.discounts)


def remove_lines(call: Call) -> Json:
    invoice = _labeled(call, editable(the_invoice(call)))
    behaviors = {asked["id"]: asked["behavior"] for asked in _asked_lines(call)}
    removed = [_on(invoice, line_id, "lines") for line_id in behaviors]
    for line in removed:
        if behaviors[line.id] == "delete":
            gone(call, line.item)
        else:
            call.books.invoice_items.put(line.item._replace(invoice=None))
    invoice = without(invoice, {line.item.id for line in removed})
    return shown(record(call, invoice, "invoice.updated"))


def lines(call: Call) -> Json:
    invoice = call.books.previews.get(call.ids[0]) or the_invoice(call)
    return part(
        invoice.lines,
        call.params,
        f"/v1/invoices/{invoice.id}/lines",
        lambda line: line_shown(line, invoice.discounts),
        lambda line: line.id,
        "line item",
    )


def _assignable(call: Call, invoice: Invoice, named: str, param: str, taken: list[InvoiceItem]) -> InvoiceItem:
    item = call.books.find(call.books.invoice_items, named, param, status=400)
    if item.invoice is not None or item in taken:
        raise not_editable()
    if (item.customer, item.currency) != (invoice.customer, invoice.currency):
        raise errors.wrong_state("An invoice item has the customer and the currency of its invoice.", param=param)
    return item


def _asked_lines(call: Call) -> list[Json]:
    asked: list[Json] = call.params["lines"]
    if not asked:
        raise errors.missing_parameter("lines")
    return asked


def _on(invoice: Invoice, line_id: str, param: str, *, status: int = 400) -> Line:
    for line in invoice.lines:
        if line.id == line_id:
            return line
    raise errors.no_such("invoice line item", line_id, param, status=status)


def _labeled(call: Call, invoice: Invoice) -> Invoice:
    """Check the metadata first: if there is too much, the refusal must leave no change behind."""
    if "invoice_metadata" not in call.params:
        return invoice
    return invoice._replace(metadata=merged(invoice.metadata, call.params["invoice_metadata"]))
