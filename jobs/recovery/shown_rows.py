"""Rows of captures, voids, refunds and invoices that only Stripe knows, made of what it shows of them.

Stripe shows the digest of the application's request id, and not when an invoice is due by our own count of days. Texts
of lines are not read, because they may name people.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import invoice_actions, refundable, voids
from billing.capture_places import LEAVES_NOTHING, holder_of, next_place
from billing.capture_requests import tell_terms
from billing.facts import new_fact
from billing.holders import void_holding
from billing.invoice_action_steps import CALLS
from billing.invoice_requests import FOR_NEWER_WORKERS, UNKNOWN_TEXT
from billing.invoice_terms import ALREADY_PAID, CHARGED, COLLECT_KEY, is_charged
from billing.invoice_totals import totals_of
from billing.provider_ids import IdKind, is_id
from billing.refund_requests import OF_AN_INVOICE
from billing.request_ids import RECOVERED, REQUEST_KEY, is_digest
from billing.states import CaptureState, CreditNoteState, InvoiceActionState, InvoiceState, RefundState, VoidState
from billing.steps import CAPTURE_KEY, INVOICE_KEY, METADATA_KEY, Json, LoadedOperation
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import CANCELLATION_REASONS, Capture, Entity, Invoice, InvoiceLine, Refund, Requested, Void
from billing.tables.facts import Fact
from billing.tables.invoice_actions import VOID_CREDIT_NOTE, InvoiceAction
from jobs.recovery.repeats import Repeats
from jobs.recovery.retold import UNKNOWN_DAYS


def made_of(
    session: Session, own: str, account: str | None, shown: Json, repeats: Repeats, steps: Collection[str] = ()
) -> tuple[Capture | Void | Refund | Invoice | InvoiceAction | CreditNote, dict[str, Any]] | None:
    """The row of the operation with this id, and the payload of the fact that requests it. None if what Stripe shows is
    not enough. `steps`: the calls of it that Stripe shows."""
    if own.startswith(f"{invoice_actions.OPERATION.prefix}_"):
        return _action_on(session, own, account, shown, repeats, steps)
    currency = str(shown.get("currency")).upper()
    digest = _digest_in(shown)
    asked: dict[str, Any] = {"currency": currency, "account": account} | ({"request_digest": digest} if digest else {})
    if shown.get("object") == "credit_note":
        return _credit_note_of(session, own, account, shown, repeats, asked)
    if shown.get("object") == "refund":
        return _refund_of(session, own, account, shown, repeats, asked)
    intent, minor, total, customer = (shown.get(name) for name in ("id", "amount_received", "total", "customer"))
    if _is_void(own):
        return _void(own, account, shown)
    if is_id(IdKind.PAYMENT_INTENT, intent) and _is_money(minor):
        # What Stripe received is the sum of all captures of this authorization; those before it are known again.
        number, before = next_place(session, account, str(intent))
        assert isinstance(minor, int), "_is_money says so"
        minor -= before
        if minor <= 0:
            return None
        capture = Capture(
            id=own,
            account=account,
            request_id=repeats.request_id(session, Capture, account, own, digest=digest, known=None),
            payment_intent=intent,
            capture_no=number,
            keeps_remainder=shown.get("status") == "requires_capture",
            amount_minor=minor,
            currency=currency,
            # At least so much was authorized.
            authorized_minor=minor,
            authorized_currency=currency,
            state=CaptureState.REQUESTED,
        )
        return capture, asked | {"minor": minor, "payment_intent": intent, "authorized": True, "capture_before": None}
    if is_id(IdKind.INVOICE, intent) and is_id(IdKind.CUSTOMER, customer) and type(total) is int and total >= 0:
        invoice = Invoice(
            id=own,
            account=account,
            request_id=repeats.request_id(session, Invoice, account, own, digest=digest, known=None),
            customer=customer,
            currency=currency,
            **_totals(shown),
            days_until_due=None if _collected(shown) else UNKNOWN_DAYS,
            state=InvoiceState.REQUESTED,
        )
        return invoice, asked | {"minor": total, "customer": customer, "lines": len(_lines_of(own, shown))}
    return None


def _totals(shown: Json) -> dict[str, Any]:
    """The columns of the total: the sum of the lines, and what Stripe reckoned if that is another; with the terms as
    far as Stripe shows them."""
    found = totals_of(shown)
    collect = _collected(shown)
    terms: dict[str, Any] = {"collect": collect, "restored": True} if collect else {}
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


def _collected(shown: Json) -> str | None:
    """How it is collected; None if it is sent. What is paid already says so, and must not be charged."""
    metadata = shown.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get(COLLECT_KEY) == ALREADY_PAID:
        return ALREADY_PAID
    return CHARGED if shown.get("collection_method") == CHARGED else None


def _is_void(own: str) -> bool:
    return own.startswith(f"{voids.OPERATION.prefix}_")


def _void(own: str, account: str | None, shown: Json) -> tuple[Void, dict[str, Any]] | None:
    """A cancel takes no metadata, so nothing shows the application's request id: if it asks again, it is told that the
    authorization belongs to this void."""
    intent, why, amount, currency = (shown.get(n) for n in ("id", "cancellation_reason", "amount", "currency"))
    if not is_id(IdKind.PAYMENT_INTENT, intent) or why not in CANCELLATION_REASONS or not _is_money(amount):
        return None
    void = Void(
        id=own,
        account=account,
        request_id=f"{RECOVERED}{own}",
        payment_intent=intent,
        cancellation_reason=why,
        # At most so much was held.
        held_minor=amount,
        currency=str(currency).upper(),
        state=VoidState.REQUESTED,
    )
    return void, {"payment_intent": intent, "cancellation_reason": why, "account": account}


def requested(row: Requested, actor: str, asked: Mapping[str, Any]) -> Fact:
    """The fact that requests it, with what `made_of` says."""
    fact = new_fact(row, "requested", actor=actor, **asked)
    if isinstance(row, Capture):
        tell_terms(fact, row)
    elif isinstance(row, Refund) and row.invoice_id is not None:
        fact.version = OF_AN_INVOICE
    elif isinstance(row, Invoice) and is_charged(row):
        fact.version, fact.payload = FOR_NEWER_WORKERS, {**fact.payload, "charged": True}
    return fact


def _refund_of(
    session: Session, own: str, account: str | None, shown: Json, repeats: Repeats, asked: dict[str, Any]
) -> tuple[Refund, dict[str, Any]] | None:
    """Of the capture or the invoice that its metadata names; of one that an older version made, the first capture of
    this payment that has so much left. Stripe does not say whether all that was left was asked for."""
    intent, minor, metadata = shown.get("payment_intent"), shown.get("amount"), shown.get("metadata")
    if not is_id(IdKind.PAYMENT_INTENT, intent) or not _is_money(minor):
        return None
    if isinstance(metadata, Mapping) and INVOICE_KEY in metadata:
        return _refund_of_invoice(session, own, account, shown, repeats, asked)
    named = metadata.get(CAPTURE_KEY) if isinstance(metadata, Mapping) else None
    of_account = Capture.account.is_(None) if account is None else Capture.account == account
    enough = Capture.amount_minor - Capture.refunds_minor >= minor
    # Anybody can write anything into metadata, so what it names must be a capture of this payment.
    fits = (of_account, Capture.payment_intent == intent, Capture.state == CaptureState.CAPTURED, enough)
    found = select(Capture.id).where(*fits).order_by(Capture.id).limit(1)
    capture_id = session.scalar(found if named is None else found.where(Capture.id == str(named)))
    if capture_id is None:
        return None
    refund = Refund(
        id=own,
        account=account,
        request_id=repeats.request_id(session, Refund, account, own, digest=_digest_in(shown), known=None),
        capture_id=capture_id,
        payment_intent=intent,
        amount_minor=minor,
        currency=asked["currency"],
        state=RefundState.REQUESTED,
    )
    of = {"capture": capture_id, "payment_intent": intent, "refund_reason": None}
    return refund, asked | {"minor": minor} | of


def _refund_of_invoice(
    session: Session, own: str, account: str | None, shown: Json, repeats: Repeats, asked: dict[str, Any]
) -> tuple[Refund, dict[str, Any]] | None:
    minor, named = shown["amount"], str(shown["metadata"][INVOICE_KEY])
    invoice = session.get(Invoice, named)
    if invoice is None or invoice.account != account or invoice.stripe_invoice is None:
        return None
    if (refundable.left_of(session, None, named) or 0) < minor:
        return None
    refund = Refund(
        id=own,
        account=account,
        request_id=repeats.request_id(session, Refund, account, own, digest=_digest_in(shown), known=None),
        invoice_id=named,
        stripe_invoice=invoice.stripe_invoice,
        payment_intent=shown["payment_intent"],
        amount_minor=minor,
        currency=asked["currency"],
        state=RefundState.REQUESTED,
    )
    return refund, asked | {"minor": minor, "invoice": named, "refund_reason": None}


def _action_on(
    session: Session, own: str, account: str | None, shown: Json, repeats: Repeats, steps: Collection[str]
) -> tuple[InvoiceAction, dict[str, Any]] | None:
    """Of the invoice or the credit note that Stripe shows, which is known again before what was done with it. Stripe
    shows neither the application's request id of an action nor which payment method was named."""
    of_account = Invoice.account.is_(None) if account is None else Invoice.account == account
    action = next((name for name, step in CALLS.items() if step.name in steps), None)
    there, note = str(shown.get("id")), None
    if action == VOID_CREDIT_NOTE:
        note = session.scalar(select(CreditNote).where(CreditNote.stripe_credit_note == there))
        there = note.stripe_invoice if note is not None else ""
    invoice = session.scalar(select(Invoice).where(Invoice.stripe_invoice == there, of_account))
    if invoice is None or action is None:
        return None
    minor = invoice.final_minor if note is None else note.amount_minor
    of_it = {} if note is None else {"credit_note": note.id, "stripe_credit_note": note.stripe_credit_note}
    row = InvoiceAction(
        id=own,
        account=account,
        request_id=repeats.request_id(session, InvoiceAction, account, own, digest=None, known=None),
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
        "account": account,
    }


def _credit_note_of(
    session: Session, own: str, account: str | None, shown: Json, repeats: Repeats, asked: dict[str, Any]
) -> tuple[CreditNote, dict[str, Any]] | None:
    """Of the invoice that its metadata names. Stripe shows by its parts what became of the amount."""
    minor, metadata = shown.get("amount"), shown.get("metadata")
    named = metadata.get(INVOICE_KEY) if isinstance(metadata, Mapping) else None
    invoice = session.get(Invoice, str(named))
    if invoice is None or invoice.account != account or not _is_money(minor):
        return None
    assert isinstance(minor, int), "_is_money says so"
    given = [each.get("refund") for each in shown.get("refunds") or ()]
    refund_id = session.scalar(select(Refund.id).where(Refund.stripe_refund == given[0])) if given else None
    settle = _settled_by(shown, refund_id)
    returns = settle != "refund"
    fits = shown.get("invoice") == invoice.stripe_invoice and settle is not None
    if not fits or refundable.creditable(session, invoice.id, returns=returns) < minor:
        return None
    note = CreditNote(
        id=own,
        account=account,
        request_id=repeats.request_id(session, CreditNote, account, own, digest=_digest_in(shown), known=None),
        invoice_id=invoice.id,
        stripe_invoice=invoice.stripe_invoice,
        amount_minor=minor,
        currency=asked["currency"],
        settle=settle,
        refund_id=refund_id,
        # Whether lines were named, nothing shows; the look that follows finds the note, and needs none.
        state=CreditNoteState.REQUESTED,
    )
    told = {"minor": minor, "invoice": invoice.id, "settle": settle, "credit_reason": None, "lines": None}
    return note, asked | told | {"refund": refund_id}


def _settled_by(shown: Json, refund_id: str | None) -> str | None:
    """None if it is none that we issue, or its refund is not known here."""
    if shown.get("pre_payment_amount"):
        return "reduce"
    if shown.get("refunds"):
        return "refund" if refund_id is not None else None
    return "out_of_band" if shown.get("out_of_band_amount") else "balance"


def is_worthless(own: str, shown: Json) -> bool:
    """Whether it is a draft without lines, or with a part of them, which nobody can pay."""
    if not is_id(IdKind.INVOICE, shown.get("id")):
        return False
    return not _is_money(shown.get("total")) or (shown.get("status") == "draft" and not _begins(_lines_of(own, shown)))


def ended_without_effect(row: Entity) -> bool:
    """Whether this final row says that nothing was taken, or given back."""
    if isinstance(row, Void):
        return row.state != VoidState.VOIDED
    if isinstance(row, Refund):
        return row.state == RefundState.REFUSED
    if isinstance(row, InvoiceAction):
        return row.state == InvoiceActionState.REFUSED
    if isinstance(row, CreditNote):
        return row.state == CreditNoteState.REFUSED
    return isinstance(row, Capture) and row.state != CaptureState.CAPTURED


def is_taken(session: Session, own: str, account: str | None, shown: Json) -> bool:
    """Whether another one of its kind has the authorization that this one has taken or given back, and leaves nothing
    of it."""
    intent = shown.get("id")
    if not is_id(IdKind.PAYMENT_INTENT, intent):
        return False
    if _is_void(own):
        return void_holding(session, account, str(intent)) is not None
    return holder_of(session, account, str(intent), LEAVES_NOTHING) is not None


def bring_parts(session: Session, loaded: LoadedOperation, shown: Json) -> bool:
    """Write the lines that stand at Stripe for an invoice that has none here: then they can be compared. True if it
    did. If only a part of them was added, the others are unknown: then none is written, and it is refused later."""
    lines = _lines_of(loaded.row.id, shown)
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


def _digest_in(shown: Json) -> str | None:
    metadata = shown.get("metadata")
    digest = metadata.get(REQUEST_KEY) if isinstance(metadata, Mapping) else None
    return digest if is_digest(digest) else None


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


def _is_money(value: object) -> bool:
    return type(value) is int and value > 0
