"""Credit notes: they reduce a final invoice, before or after it was paid.

The amount that remains to be paid goes down first, but not below zero. The rest is refunded, added to the customer's
balance, or given back outside of Stripe; the three must add up. Source: docs.stripe.com/api/credit_notes/create.
"""

from stripe_standin import errors
from stripe_standin.api.customers import balances
from stripe_standin.api.payments.refunds import give_back
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page, part
from stripe_standin.objects import CreditNote, Invoice, Json, shown
from stripe_standin.objects.credit_notes import credit_line
from stripe_standin.parameters import (
    PAGE,
    Table,
    amount,
    decimal,
    expand,
    list_of,
    merged,
    metadata,
    moment,
    natural,
    nested,
    one_of,
    text,
)

from . import payments
from .changes import record
from .credit_note_drafts import charge_of, drafted
from .progress import settled

LINES_MAX = 250  # as many as an invoice has
REFUNDS_MAX = 20  # decided here; Stripe's limit is not documented

_expand = expand(*paths("credit_note"))
_LINE = Table(
    {
        "amount": amount,
        "description": text,
        "invoice_line_item": text,
        "metadata": metadata,
        "quantity": natural,
        "type": one_of("custom_line_item", "invoice_line_item"),
        "unit_amount": natural,
        "unit_amount_decimal": decimal,
    },
    required=("type",),
)
# `payment_record_refund`, of a payment that was made outside of Stripe, is not modelled.
_REFUND = Table({"amount_refunded": amount, "refund": text, "type": one_of("refund")}, required=("refund",))
CREATE = Table(
    {
        "amount": amount,
        "credit_amount": natural,
        "effective_at": natural,
        "email_type": one_of("credit_note", "none"),
        "invoice": text,
        "lines": list_of(nested(_LINE), most=LINES_MAX),
        "memo": text,
        "metadata": metadata,
        "out_of_band_amount": natural,
        "reason": one_of("duplicate", "fraudulent", "order_change", "product_unsatisfactory"),
        "refund_amount": natural,
        "refunds": list_of(nested(_REFUND), most=REFUNDS_MAX),
        "expand": _expand,
    },
    required=("invoice",),
)
UPDATE = Table({"memo": text, "metadata": metadata, "expand": _expand})
VOID = Table({"expand": _expand})
GET = Table({"expand": _expand})
LINES = Table({**PAGE, "expand": expand()})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "customer": text,
        "invoice": text,
        "expand": expand(*paths("credit_note", data=True)),
    }
)

_REFUND_REASONS = {"duplicate", "fraudulent"}  # the reasons that a refund can have, too


def create(call: Call) -> Json:
    asked, books = call.params, call.books
    invoice, note = drafted(call)
    refund, credit = asked.get("refund_amount", 0), asked.get("credit_amount", 0)
    customer = books.customers.get(invoice.customer)
    if credit and (customer is None or not balances.holds(customer, invoice.currency)):
        raise errors.wrong_state("The customer has no balance in this currency.", param="credit_amount")
    charge = charge_of(call, invoice)
    if refund and charge is not None:
        reason = note.reason if note.reason in _REFUND_REASONS else None
        given = give_back(call, charge, refund, reason=reason)
        note = note._replace(refunds=(*note.refunds, (given.id, given.amount)))
    if credit:
        change = balances.move(
            call, note.customer, -credit, note.currency, "credit_note", invoice=invoice.id, credit_note=note.id
        )
        note = note._replace(balance_transaction=change.id)
    books.credit_notes.put(note)
    call.event("credit_note.created", note)
    call.effect("credit_note.created", note, note.amount)
    _credited(call, invoice._replace(credit_notes=(*invoice.credit_notes, note.id)), note.pre, note.post)
    return shown(note)


def preview(call: Call) -> Json:
    """The note as `create` would make it, without its refunds and its transaction."""
    _, note = drafted(call)
    return shown(note)


def update(call: Call) -> Json:
    note, asked = _note(call), call.params
    changed = note._replace(memo=asked.get("memo", note.memo))
    if "metadata" in asked:
        changed = changed._replace(metadata=merged(note.metadata, asked["metadata"]))
    if changed != note:
        call.event("credit_note.updated", call.books.credit_notes.put(changed))
    return shown(changed)


def void(call: Call) -> Json:
    """Void it: what it took from an open invoice is to be paid again. A note that gave money back cannot be voided."""
    note = _note(call)
    invoice = call.books.invoices.get(note.invoice)
    if note.status == "void":
        raise errors.wrong_state("This credit note has already been voided.")
    if note.post or invoice is None or invoice.status != "open":
        raise errors.wrong_state("You can only void a credit note of an open invoice, issued before it was paid.")
    note = call.books.credit_notes.put(note._replace(status="void", voided_at=call.now))
    call.event("credit_note.voided", note)
    call.effect("credit_note.voided", note, note.amount)
    _credited(call, invoice, -note.pre, 0)
    return shown(note)


def get(call: Call) -> Json:
    return shown(_note(call))


def list_(call: Call) -> Json:
    return page(call.books.credit_notes, call.params, "/v1/credit_notes", "customer", "invoice")


def lines(call: Call) -> Json:
    note = _note(call)
    return part(
        note.lines,
        call.params,
        f"/v1/credit_notes/{note.id}/lines",
        lambda line: credit_line(line, note.livemode),
        lambda line: line.id,
        "credit note line item",
    )


def _note(call: Call) -> CreditNote:
    return call.books.find(call.books.credit_notes, call.ids[0], "id")


def _credited(call: Call, invoice: Invoice, pre: int, post: int) -> None:
    invoice = invoice._replace(
        due=invoice.due - pre, pre_credited=invoice.pre_credited + pre, post_credited=invoice.post_credited + post
    )
    if invoice.status == "open" and not invoice.remaining:
        invoice = settled(call, invoice)
    else:
        record(call, invoice, "invoice.updated")
    payments.keep_in_step(call, invoice)
