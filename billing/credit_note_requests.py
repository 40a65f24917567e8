"""Asking for a credit note: bounded by what is left of the invoice, with its refund, and written once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import ids, refund_requests, refundable, request_ids, row_io
from billing.asking import CommonArguments, Differing, callers_session, common_arguments, write_once, written_before
from billing.creditable import Credited, CreditLine, check_state, credited_amount, credited_invoice
from billing.database import violated
from billing.errors import InvalidText, MoreThanInvoiced
from billing.facts import new_fact
from billing.invoice_terms import MAX_TEXT
from billing.money import Money
from billing.tables.credit_notes import CREDIT_REASONS, SETTLEMENTS, CreditNote
from billing.texts import plain_text

Settlement = Literal["reduce", "balance", "out_of_band", "refund"]
CreditReason = Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"]

_BOUNDS = ("invoices_credited_bounded", "invoices_returned_bounded")
_OF_A_REFUND = {"duplicate": "duplicate"}
"""The reason that a refund gets. `fraudulent` would block the customer's card, which is asked for by a refund alone."""


@dataclass(frozen=True, slots=True)
class CreditNoteReceipt:
    """What was requested, true once the caller's transaction commits. `refund_id`: of the refund that was requested
    with it. `new` is False if it was requested before."""

    credit_note_id: ids.CreditNoteId
    request_id: str
    amount: Money
    refund_id: str | None
    new: bool


def issue_credit_note(
    session: Session,
    *,
    invoice: str,
    amount: Money | None = None,
    lines: Iterable[CreditLine] | None = None,
    reason: CreditReason | None = None,
    memo: str | None = None,
    settle: Settlement,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> CreditNoteReceipt:
    """Ask, inside the caller's own transaction, for an amount to be taken off an invoice (inv_...) that was issued.

    `amount`, or `lines` whose amounts add up to it. Of an invoice with taxes or discounts `lines` need the `amount`,
    too: what they come to with these, as `billing invoice credit --preview` shows it. A worker has Stripe reckon it
    before anything is issued; if it comes to something else, the note ends as `refused`.

    `reason` is one of Stripe's. `memo`: a text for the customer, on the note's PDF, of up to 1,500 characters. `settle`
    says what becomes of the amount: `reduce`, less is due of an open invoice; of a paid one `balance`, it is the
    customer's credit at Stripe; `out_of_band`, it is given back outside of Stripe; `refund`, a refund is requested in
    the same transaction, and the note comes after it. The same `request_id` again returns the same receipt.

    It takes its amount from what is left of the invoice at once, and gives it back if it is refused or voided.
    Constraints in Postgres refuse more than was invoiced or paid, however many ask at the same time.

    Raises RequestReused (same request id, other parameters), NotOpen and NotPaid (this `settle` does not fit the
    invoice's state), MoreThanInvoiced, UnknownEntity, and InvalidRequest; nothing is written then, and the caller's
    transaction stays usable.
    """
    session = callers_session(session)
    common = common_arguments(request_id, correlation_id, account, actor)
    known_words(settle, reason)
    text = None if memo is None else plain_text("memo", memo, MAX_TEXT, lines=True)
    of = credited_invoice(session, common.account, invoice)
    asked, named = credited_amount(session, of, amount, lines)
    common = common_of(common, of)
    row = CreditNote(
        id=ids.new("crn"),
        correlation_id=common.correlation_id,
        amount_minor=asked.minor,
        currency=asked.currency,
        refund_id=None,
    )
    parameters = {"invoice_id": of.id, "amount_minor": asked.minor, "currency": asked.currency, "settle": settle}

    def differing(first: CreditNote) -> Differing:
        if first.lines == UNKNOWN_LINES:
            return {}
        found: Differing = {}
        if first.lines != named:
            found["lines"] = _told(first.lines), _told(named)
        if first.credit_reason != reason:
            found["reason"] = first.credit_reason, reason
        # One that was erased is not known any more. What it says is in no message.
        if first.memo is not None and first.memo != text:
            found["memo"] = "one", "none" if text is None else "another"
        return found

    before = written_before(session, CreditNote, common, parameters, differing)
    if before is not None:
        return _receipt(before, common, new=False)
    check_state(of, settle)
    further = {"stripe_invoice": of.stripe_invoice, "lines": named, "credit_reason": reason, "memo": text}
    try:
        # By the connection: a session's own savepoint would first write what the caller has pending there.
        savepoint = session.connection().begin_nested()
        with savepoint:
            if settle == "refund":
                further["refund_id"] = row.refund_id = _refund(session, row, of, asked, reason, common)
            written = write_once(session, row, common, parameters, further=further, differing=differing)
            if written is not row:
                # Another transaction has written the same request meanwhile: what was written beside it is taken back.
                savepoint.rollback()
    except IntegrityError as error:
        if violated(error) not in _BOUNDS:
            raise
        left = refundable.creditable(session, of.id)
        raise MoreThanInvoiced(of.id, of.currency, asked=asked.minor, left=left) from None
    assert written is not None, "nothing else of a new note makes it unique"
    if written is not row:
        return _receipt(written, common, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        minor=asked.minor,
        currency=asked.currency,
        invoice=of.id,
        account=of.account,
        request_digest=request_ids.digest_of(common.request_id),
        settle=settle,
        credit_reason=reason,
        lines=None if named is None else len(named),
        refund=row.refund_id,
    )
    if text is not None:
        requested.payload |= {"memo": True}
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [requested])
    return _receipt(row, common, new=True)


UNKNOWN_LINES: dict[str, Any] = {"restored": True}
"""The lines of a note that was made again after a restore, and had lines or a memo: these are in no fact, and it is not
sent without them."""


def known_words(settle: object, reason: object) -> None:
    """Whether these are among Stripe's words and ours. Raises InvalidText."""
    if settle not in SETTLEMENTS:
        raise InvalidText("settle", f"must be one of {', '.join(SETTLEMENTS)}")
    if reason is not None and reason not in CREDIT_REASONS:
        raise InvalidText("reason", f"must be one of {', '.join(CREDIT_REASONS)}, or None")


def common_of(common: CommonArguments, of: Credited) -> CommonArguments:
    """The note's account is the invoice's."""
    return CommonArguments(common.request_id, common.correlation_id, of.account, common.actor, common.traceparent)


def _refund(
    session: Session, row: CreditNote, of: Credited, amount: Money, reason: str | None, common: CommonArguments
) -> str:
    """Request the refund that the note is about, under a request id of the note's."""
    return refund_requests.request_refund(
        session,
        invoice=of.id,
        amount=amount,
        reason=_OF_A_REFUND.get(str(reason)),
        request_id=f"credit-note:{row.id}",
        correlation_id=common.correlation_id,
        actor=common.actor,
    ).refund_id


def _receipt(row: CreditNote, common: CommonArguments, *, new: bool) -> CreditNoteReceipt:
    amount = Money(row.amount_minor, row.currency)
    return CreditNoteReceipt(ids.CreditNoteId(row.id), common.request_id, amount, row.refund_id, new)


def _told(lines: Mapping[str, Any] | None) -> str | None:
    return (
        None if lines is None else f"{len(lines)} lines that take off {sum(each['minor'] for each in lines.values())}"
    )
