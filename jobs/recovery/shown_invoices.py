"""Invoices that only Stripe knows, and what was done with them on request: see `jobs.recovery.shown_rows`.

Stripe does not show when an invoice is due by our own count of days. Texts of lines are not read, because they may name
people.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.invoice_action_steps import CALLS
from billing.invoice_requests import UNKNOWN_TEXT
from billing.invoice_terms import ALREADY_PAID, CHARGED, COLLECT_KEY
from billing.invoice_totals import totals_of
from billing.provider_ids import IdKind, is_id
from billing.states import InvoiceActionState, InvoiceState
from billing.steps import METADATA_KEY, Json, LoadedOperation
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, InvoiceLine
from billing.tables.invoice_actions import VOID_CREDIT_NOTE, InvoiceAction
from jobs.recovery.retold_requests import UNKNOWN_DAYS
from jobs.recovery.shown import Shown, is_money


def invoice_of(session: Session, shown: Shown) -> tuple[Invoice, dict[str, Any]] | None:
    there, total, customer = (shown.data.get(name) for name in ("id", "total", "customer"))
    known = is_id(IdKind.INVOICE, there) and is_id(IdKind.CUSTOMER, customer)
    if not known or type(total) is not int or total < 0:
        return None
    collected = _collected(shown)
    invoice = Invoice(
        id=shown.own,
        account=shown.account,
        request_id=shown.request_id(session, Invoice),
        customer=customer,
        currency=shown.currency,
        **_totals(shown, collected),
        days_until_due=None if collected else UNKNOWN_DAYS,
        state=InvoiceState.REQUESTED,
    )
    return invoice, shown.asked | {"minor": total, "customer": customer, "lines": len(_lines_of(shown.own, shown.data))}


def _totals(shown: Shown, collected: str | None) -> dict[str, Any]:
    """The columns of the total: the sum of the lines, and what Stripe reckoned if that is another; with the terms as
    far as Stripe shows them."""
    found = totals_of(shown.data)
    terms: dict[str, Any] = {"collect": collected, "restored": True} if collected else {}
    if found.subtotal == found.total:
        return {"total_minor": found.total, **({"terms": terms} if terms else {})}
    return {
        "total_minor": max(0, found.subtotal),
        "reckoned_minor": found.total,
        "subtotal_minor": found.subtotal,
        "discount_minor": found.discount,
        "tax_minor": found.tax,
        "terms": {**terms, "computed": True, "restored": True},
    }


def _collected(shown: Shown) -> str | None:
    """How it is collected; None if it is sent. What is paid already says so, and must not be charged."""
    if shown.metadata.get(COLLECT_KEY) == ALREADY_PAID:
        return ALREADY_PAID
    return CHARGED if shown.data.get("collection_method") == CHARGED else None


def action_on(session: Session, shown: Shown) -> tuple[InvoiceAction, dict[str, Any]] | None:
    """Of the invoice or the credit note that Stripe shows, which is known again before what was done with it. Stripe
    shows neither the application's request id of an action nor which payment method was named."""
    of_account = Invoice.account.is_(None) if shown.account is None else Invoice.account == shown.account
    action = next((name for name, step in CALLS.items() if step.name in shown.steps), None)
    there, note = str(shown.data.get("id")), None
    if action == VOID_CREDIT_NOTE:
        note = session.scalar(select(CreditNote).where(CreditNote.stripe_credit_note == there))
        there = note.stripe_invoice if note is not None else ""
    invoice = session.scalar(select(Invoice).where(Invoice.stripe_invoice == there, of_account))
    if invoice is None or action is None:
        return None
    minor = invoice.final_minor if note is None else note.amount_minor
    of_it = {} if note is None else {"credit_note": note.id, "stripe_credit_note": note.stripe_credit_note}
    row = InvoiceAction(
        id=shown.own,
        account=shown.account,
        request_id=shown.repeats.request_id(session, InvoiceAction, shown.account, shown.own, digest=None, known=None),
        invoice_id=invoice.id,
        action=action,
        stripe_invoice=invoice.stripe_invoice,
        credit_note_id=of_it.get("credit_note"),
        stripe_credit_note=of_it.get("stripe_credit_note"),
        amount_minor=minor,
        currency=invoice.currency,
        state=InvoiceActionState.REQUESTED,
    )
    return row, of_it | {
        "action": action,
        "invoice": invoice.id,
        "stripe_invoice": invoice.stripe_invoice,
        "minor": minor,
        "currency": invoice.currency,
        "payment_method": None,
        "account": shown.account,
    }


def is_worthless(own: str, data: Json) -> bool:
    """Whether it is a draft without lines, or with a part of them, which nobody can pay."""
    if not is_id(IdKind.INVOICE, data.get("id")):
        return False
    return not is_money(data.get("total")) or (data.get("status") == "draft" and not _begins(_lines_of(own, data)))


def bring_parts(session: Session, loaded: LoadedOperation, data: Json) -> bool:
    """Write the lines that stand at Stripe for an invoice that has none here: then they can be compared. True if it
    did. If only a part of them was added, the others are unknown: then none is written, and it is refused later."""
    lines = _lines_of(loaded.row.id, data)
    if not isinstance(loaded.row, Invoice) or loaded.parts or not _begins(lines):
        return False
    session.add_all(
        InvoiceLine(
            invoice_id=loaded.row.id,
            position=position,
            description=UNKNOWN_TEXT,
            amount_minor=minor,
            details=None if minor > 0 else {},
        )
        for position, minor in lines.items()
    )
    session.flush()
    return True


def _lines_of(own: str, invoice: Json) -> dict[int, int]:
    """Position -> amount, of the lines that we added."""
    lines = invoice.get("lines")
    found = {}
    for line in (lines.get("data") or ()) if isinstance(lines, Mapping) else ():
        metadata, amount = line.get("metadata") or {}, line.get("amount")
        position = str(metadata.get("billing_line"))
        # A credit is below zero.
        if metadata.get(METADATA_KEY) == own and position.isdigit() and type(amount) is int:
            found[int(position)] = amount
    return found


def _begins(lines: Mapping[int, int]) -> bool:
    """Whether the first line is there, which the last call adds (`billing.invoice_line_steps`): then all were added."""
    return 0 in lines
