"""One loaded invoice: its paths at Stripe, which objects there are its own, and how its row changes."""

from collections.abc import Mapping
from typing import Any

from billing.facts import OWN, new_fact
from billing.provider_ids import IdKind, is_id, object_path
from billing.states import InvoiceState, set_state
from billing.steps import METADATA_KEY, Json, LoadedOperation, Reader, Unread, read_object
from billing.tables.entities import Invoice, InvoiceLine
from billing.tables.facts import Fact


def invoice_of(loaded: LoadedOperation) -> Invoice:
    assert isinstance(loaded.row, Invoice)
    return loaded.row


def lines_of(loaded: LoadedOperation) -> list[InvoiceLine]:
    """Its lines, in their order. What it waits for may be among its parts, too (`billing.paid_already`)."""
    return [part for part in loaded.parts if isinstance(part, InvoiceLine)]


def path_of(loaded: LoadedOperation, *verb: str) -> str:
    return object_path(IdKind.INVOICE, invoice_of(loaded).stripe_invoice, *verb)


def named(invoice_id: object) -> str:
    """The id of an invoice in Stripe's answer. Raises Unread if it is no such id: the look is not finished."""
    if not is_id(IdKind.INVOICE, invoice_id):
        raise Unread(None, "the provider named an invoice by something that is no invoice id")
    return str(invoice_id)


def is_ours(loaded: LoadedOperation, shown: Json) -> bool:
    """Whether this invoice, or this line of one, carries our id."""
    metadata = shown.get("metadata")
    return isinstance(metadata, Mapping) and metadata.get(METADATA_KEY) == invoice_of(loaded).id


def read_invoice(loaded: LoadedOperation, read: Reader, livemode: bool) -> Json:
    # Stripe shows what was paid out of band only where it is asked for.
    path = f"{path_of(loaded)}?expand[0]=amount_paid_off_stripe"
    return read_object(read, path, ("invoice", str(invoice_of(loaded).stripe_invoice)), livemode=livemode)


def move(loaded: LoadedOperation, state: InvoiceState, topic: str, **payload: Any) -> list[Fact]:
    row = invoice_of(loaded)
    set_state(row, state)
    return [new_fact(row, topic, stripe_invoice=row.stripe_invoice, **payload)]


def refuse(loaded: LoadedOperation, why: str) -> list[Fact]:
    row = invoice_of(loaded)
    row.reason = why
    # A refused invoice may have its number, which explains a gap between those that were sent.
    return move(loaded, InvoiceState.REFUSED, "refused", **money_of(row), number=row.number, why=why)


def paid(loaded: LoadedOperation, invoice: Json) -> list[Fact]:
    """It is paid, as Stripe shows. The fact says whether that was out of band, which means not through Stripe."""
    row, off_stripe = invoice_of(loaded), invoice.get("amount_paid_off_stripe")
    see_payments(row, invoice)
    row.reason = None
    about = {"number": row.number, **money_of(row), **payments_of(row)}
    return move(loaded, InvoiceState.PAID, "paid", **about, out_of_band=type(off_stripe) is int and off_stripe > 0)


def unpaid(loaded: LoadedOperation, invoice: Json, why: str) -> list[Fact]:
    """Stripe was to charge it, and it is not paid."""
    row = invoice_of(loaded)
    see_payments(row, invoice)
    row.reason = why
    return move(loaded, InvoiceState.UNPAID, "unpaid", number=row.number, **money_of(row), **payments_of(row), why=why)


ENDED: Mapping[object, InvoiceState] = {"void": InvoiceState.VOIDED, "uncollectible": InvoiceState.UNCOLLECTIBLE}
"""Stripe's statuses by which an invoice ends unpaid."""


def ended(loaded: LoadedOperation, invoice: Json) -> list[Fact]:
    """It was voided or given up, as its status in `ENDED` says: by us, or by somebody at Stripe."""
    row = invoice_of(loaded)
    see_payments(row, invoice)
    row.reason = None
    about = {"number": row.number, **money_of(row), **payments_of(row)}
    if ENDED[invoice.get("status")] is InvoiceState.VOIDED:
        return move(loaded, InvoiceState.VOIDED, "voided", **about)
    return move(loaded, InvoiceState.UNCOLLECTIBLE, "uncollectible", **about)


def see_payments(row: Invoice, invoice: Json) -> tuple[bool, bool]:
    """Keep in the row what Stripe shows of payments and attempts. Returns whether more was paid than was known, and
    whether there were more attempts. Both only grow: an older answer changes nothing."""
    amount, attempts = invoice.get("amount_paid"), invoice.get("attempt_count")
    more_paid = type(amount) is int and amount > (row.paid_minor or 0)
    more_attempts = type(attempts) is int and attempts > (row.attempts or 0)
    if more_paid:
        row.paid_minor = amount
    if more_attempts:
        row.attempts = attempts
    return more_paid, more_attempts


def money_of(row: Invoice) -> dict[str, Any]:
    """What a fact about an end, or about the number, says of the money."""
    return {"minor": row.final_minor, "currency": row.currency, "account": row.account or OWN}


def payments_of(row: Invoice) -> dict[str, Any]:
    """What a fact says of payments and attempts, as far as they were seen. A row that is made again of facts knows by
    them what was told, so that nothing is told twice."""
    seen = {"paid_minor": row.paid_minor, "attempts": row.attempts}
    return {name: value for name, value in seen.items() if value is not None}


def differ(loaded: LoadedOperation, why: str, theirs: object = None) -> list[Fact]:
    """Our draft cannot be used: it is deleted before the invoice counts as refused."""
    row = invoice_of(loaded)
    row.reason = why
    money = {"minor": row.total_minor, "theirs": theirs}
    return move(loaded, InvoiceState.LINES_DIFFER, "lines_differ", **money, why=why)
