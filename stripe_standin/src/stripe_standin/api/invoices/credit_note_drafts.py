"""Computes a credit note and checks it: its lines, and how much of it was paid. Nothing is stored yet.

An amount of an invoice's line is exclusive of tax (docs.stripe.com/api/credit_notes/create, `lines.amount`, of invoices
with automatic tax; decided here: of all), and before discounts (docs.stripe.com/api/credit_notes/line_item, `amount`).
"""

from decimal import ROUND_HALF_UP, Decimal

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.errors import money
from stripe_standin.objects import NO_METADATA, Charge, CreditNote, Invoice, Json
from stripe_standin.objects.credit_notes import CreditLine
from stripe_standin.parameters import merged
from stripe_standin.sums import credited


def drafted(call: Call) -> tuple[Invoice, CreditNote]:
    """The invoice, and the requested note. Raises if the note is impossible."""
    asked, books = call.params, call.books
    invoice = books.find(books.invoices, asked["invoice"], "invoice", status=400)
    if invoice.status not in ("open", "paid"):
        raise errors.wrong_state(
            f"You can only create a credit note for an open or a paid invoice; this one is {invoice.status}.",
            param="invoice",
        )
    if ("amount" in asked) == bool(asked.get("lines")):
        raise errors.bad_request("One of `amount` and `lines` must be provided, and not both.", "amount")
    lines = tuple(_line(call, invoice, line, n) for n, line in enumerate(asked.get("lines", ())))
    if not lines:
        only = {"unit_amount": asked["amount"], "type": "custom_line_item"}
        lines = (_line(call, invoice, only, 0),)
    _within(call, invoice, lines)
    whole = sum(line.total for line in lines)
    linked = tuple(_linked(call, invoice, each, n) for n, each in enumerate(asked.get("refunds", ())))
    by_refunds = sum(amount for _, amount in linked)
    most = invoice.remaining + _creditable(call, invoice, by_refunds)
    if not 0 < whole <= most:
        raise errors.wrong_state(
            f"The credit note amount ({money(whole, invoice.currency)}) must be more than nothing, and at most what "
            f"can be credited of this invoice ({money(most, invoice.currency)}).",
            param="amount",
        )
    pre = min(whole, invoice.remaining)
    given = by_refunds + sum(asked.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount"))
    if given != whole - pre:
        raise errors.wrong_state(
            "The sum of credit amount, refund amount and out of band amount "
            f"({money(given, invoice.currency)}) must equal the post payment amount of the credit note "
            f"({money(whole - pre, invoice.currency)})."
        )
    if asked.get("refund_amount") and charge_of(call, invoice) is None:
        raise errors.wrong_state("There is no payment of this invoice that could be refunded.", param="refund_amount")
    note = CreditNote(
        id=call.world.new_id("cn"),
        created=call.now,
        livemode=invoice.livemode,
        customer=invoice.customer,
        currency=invoice.currency,
        invoice=invoice.id,
        number=f"{invoice.number}-CN-{len(invoice.credit_notes) + 1:02}",
        pre=pre,
        post=whole - pre,
        lines=lines,
        metadata=merged(NO_METADATA, asked.get("metadata")),
        effective_at=asked.get("effective_at", call.now),
        memo=asked.get("memo"),
        reason=asked.get("reason"),
        out_of_band=asked.get("out_of_band_amount"),
        refunds=linked,
    )
    return invoice, note


def _line(call: Call, invoice: Invoice, asked: Json, n: int) -> CreditLine:
    """A line of a note: an amount or a quantity of an invoice's line, or a custom quantity with its own price."""
    line = None
    if asked["type"] == "invoice_line_item":
        named = asked.get("invoice_line_item")
        line = next((each for each in invoice.lines if each.id == named), None)
        if line is None:
            raise errors.no_such("invoice line item", named or "", f"lines[{n}][invoice_line_item]", status=400)
    unit = None
    if line is None:
        given = asked.get("unit_amount", asked.get("unit_amount_decimal"))
        if given is None:
            raise errors.missing_parameter(f"lines[{n}][unit_amount]")
        unit = Decimal(given)
    elif "amount" not in asked:
        unit = Decimal(line.item.unit_amount)
    elif "quantity" in asked:
        raise errors.bad_request(
            "You may only specify one of these parameters: amount, quantity.", f"lines[{n}][amount]"
        )
    quantity: int = asked.get("quantity", 1)
    worth = asked["amount"] if unit is None else int((unit * quantity).to_integral_value(ROUND_HALF_UP))
    before = sum(each.amount for note in _notes(call, invoice) for each in note.lines if line and each.line == line.id)
    discounted, taxes = ((), ()) if line is None else credited(line, invoice.discounts, worth, before)
    return CreditLine(
        id=call.world.new_id("cnli"),
        amount=worth,
        description=line.item.description if line is not None else asked.get("description"),
        quantity=None if unit is None else quantity,
        unit_amount=None if unit is None else f"{unit:f}",
        line=line.id if line is not None else None,
        metadata=merged(NO_METADATA, asked.get("metadata")),
        discounted=discounted,
        taxes=taxes,
    )


def _within(call: Call, invoice: Invoice, lines: tuple[CreditLine, ...]) -> None:
    """Check that a line is credited at most up to its own amount; a discount has an amount below zero."""
    for n, line in enumerate(lines):
        named = next((each for each in invoice.lines if each.id == line.line), None)
        if named is None:
            continue
        most = named.item.amount
        before = [each for note in _notes(call, invoice) for each in note.lines]
        off = sum(each.amount for each in (*before, *lines) if each.line == named.id)
        if not min(most, 0) <= off <= max(most, 0):
            raise errors.wrong_state("A line can be credited up to its own amount.", param=f"lines[{n}][amount]")


def _linked(call: Call, invoice: Invoice, asked: Json, n: int) -> tuple[str, int]:
    """An existing refund of this invoice's payment, and how much of it the note is about: all of it, unless it says.

    Source: docs.stripe.com/api/credit_notes/create, `refunds`. That no part of a refund counts twice is decided here.
    """
    place = f"refunds[{n}]"
    refund = call.books.find(call.books.refunds, asked["refund"], f"{place}[refund]", status=400)
    charge = charge_of(call, invoice)
    if charge is None or refund.charge != charge.id or refund.status in ("failed", "canceled"):
        raise errors.wrong_state("This refund gives back no payment of this invoice.", param=f"{place}[refund]")
    named = [each["refund"] for each in call.params["refunds"]]
    before = sum(amount for note in _notes(call, invoice) for linked, amount in note.refunds if linked == refund.id)
    amount: int = asked.get("amount_refunded", refund.amount)
    if before + amount > refund.amount or named.count(refund.id) > 1:
        raise errors.wrong_state("This refund belongs to a credit note already.", param=f"{place}[amount_refunded]")
    return refund.id, amount


def _creditable(call: Call, invoice: Invoice, linked: int) -> int:
    """What was paid and neither credited nor refunded. Refunds without a credit note count, too, but for `linked`: so
    much of them this note is about."""
    by_notes = linked + sum(amount for note in _notes(call, invoice) for _, amount in note.refunds)
    charge = charge_of(call, invoice)
    refunded = charge.amount_refunded if charge is not None else 0
    return invoice.paid - invoice.post_credited - max(refunded - by_notes, 0)


def _notes(call: Call, invoice: Invoice) -> list[CreditNote]:
    found = (call.books.credit_notes.get(each) for each in invoice.credit_notes)
    return [note for note in found if note is not None and note.status == "issued"]


def charge_of(call: Call, invoice: Invoice) -> Charge | None:
    """The charge that paid this invoice; None if none did."""
    payment = call.books.invoice_payments.get(invoice.payment or "")
    intent = call.books.intents.get(payment.intent) if payment is not None and payment.status == "paid" else None
    return call.books.charges.get(intent.latest_charge or "") if intent is not None else None
