"""Asking for a credit note: what it takes off is reckoned, bounded by what is left of the invoice, and written once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import ids, refund_requests, refundable, request_ids, row_io
from billing.asking import CommonArguments, Differing, callers_session, common_arguments, write_once, written_before
from billing.database import violated
from billing.errors import InvalidAmount, InvalidRequest, InvalidText, MoreThanInvoiced, NotOpen, NotPaid, UnknownEntity
from billing.facts import new_fact
from billing.invoice_lines import UnitAmount
from billing.invoice_terms import MAX_TEXT
from billing.money import Money
from billing.states import IS_OPEN, InvoiceState
from billing.tables.credit_notes import CREDIT_REASONS, SETTLEMENTS, CreditNote
from billing.tables.entities import MAX_LINES, Invoice, InvoiceLine
from billing.texts import opaque_id, plain_text

Settlement = Literal["reduce", "balance", "out_of_band", "refund"]
CreditReason = Literal["duplicate", "fraudulent", "order_change", "product_unsatisfactory"]

_BOUNDS = ("invoices_credited_bounded", "invoices_returned_bounded")
_OF_A_REFUND = {"duplicate": "duplicate"}
"""The reason that a refund gets. `fraudulent` would block the customer's card, which is asked for by a refund alone."""


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What is taken off one line of the invoice: `position` is its place, from 0; an `amount`, or a `quantity`.

    Raises InvalidAmount and InvalidRequest.
    """

    position: int
    amount: Money | None = None
    quantity: int | None = None

    def __post_init__(self) -> None:
        # As objects, because whoever does not check types may pass anything.
        position: object = self.position
        quantity: object = self.quantity
        if not _is_whole(position) or not 0 <= self.position < MAX_LINES:
            raise InvalidRequest("position", f"must be the place of a line on the invoice, 0 to {MAX_LINES - 1}")
        if (self.amount is None) == (quantity is None):
            raise InvalidRequest("a line", "has either an amount or a quantity")
        if self.amount is not None and not isinstance(self.amount, Money):
            raise InvalidAmount("amount", f"must be billing.Money, not {type(self.amount).__name__}")
        if quantity is not None and (not _is_whole(quantity) or self.quantity is None or self.quantity <= 0):
            raise InvalidRequest("quantity", "must be a whole number of units, 1 or more")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class CreditNoteReceipt:
    """What was requested, true once the caller's transaction commits. `refund_id`: of the refund that was requested
    with it. `new` is False if it was requested before."""

    credit_note_id: ids.CreditNoteId
    request_id: str
    amount: Money
    refund_id: str | None
    new: bool


class Credited(NamedTuple):
    """What of an invoice a request needs."""

    id: str
    account: str | None
    state: str
    currency: str
    stripe_invoice: str | None
    correlation_id: str | None
    final_minor: int
    computed: bool
    """Stripe adds taxes or takes off discounts, so its lines do not add up to what it comes to."""


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


def credited_invoice(session: Session, account: str | None, invoice: object) -> Credited:
    """The invoice with this id of ours. Raises UnknownEntity and InvalidRequest."""
    own = opaque_id("invoice", invoice, 40)
    row = session.execute(
        select(
            *(Invoice.id, Invoice.account, Invoice.state, Invoice.currency, Invoice.stripe_invoice),
            *(Invoice.correlation_id, Invoice.total_minor, Invoice.reckoned_minor),
            *(Invoice.discount_minor, Invoice.tax_minor),
        ).where(Invoice.id == own)
    ).one_or_none()
    if row is None:
        raise UnknownEntity(own)
    if account not in (None, row.account):
        raise InvalidRequest("account", f"is not the one of the invoice {own}; leave it out")
    final = row.total_minor if row.reckoned_minor is None else row.reckoned_minor
    return Credited(*row[:6], final, bool(row.discount_minor or row.tax_minor))


def common_of(common: CommonArguments, of: Credited) -> CommonArguments:
    """The note's account is the invoice's."""
    return CommonArguments(common.request_id, common.correlation_id, of.account, common.actor, common.traceparent)


def check_state(of: Credited, settle: str) -> None:
    """Whether this settlement fits how the invoice stands here. Raises NotOpen and NotPaid."""
    if settle == "reduce":
        if of.state not in IS_OPEN or of.stripe_invoice is None:
            raise NotOpen(of.id, of.state)
    elif of.state != InvoiceState.PAID or of.stripe_invoice is None:
        raise NotPaid(of.id, of.state)


def credited_amount(
    session: Session, of: Credited, amount: Money | None, lines: Iterable[CreditLine] | None
) -> tuple[Money, dict[str, Any] | None]:
    """What is taken off, and the lines as they are stored. Raises InvalidRequest."""
    if amount is None and lines is None:
        raise InvalidRequest("amount", "or lines must be given")
    if amount is not None and not isinstance(amount, Money):
        raise InvalidAmount("amount", f"must be billing.Money, not {type(amount).__name__}")
    if amount is not None and amount.currency != of.currency:
        raise InvalidAmount("amount", f"{amount} cannot be taken off an invoice in {of.currency}")
    if lines is None:
        assert amount is not None, "one of the two is given"
        return amount, None
    named = _read_once(lines)
    if of.computed and amount is None:
        raise InvalidRequest(
            "amount",
            "must be given with lines of an invoice that has taxes or discounts: what they come to with these, as a "
            "preview shows it",
        )
    there = {line.position: line for line in _lines_of(session, of.id, [each.position for each in named])}
    stored: dict[str, Any] = {}
    for each in sorted(named, key=lambda line: line.position):
        found = there.get(each.position)
        if found is None:
            raise InvalidRequest(f"lines: position {each.position}", "is no line of this invoice")
        stored[str(each.position)] = _off(of, each, found)
    total = sum(line["minor"] for line in stored.values())
    if amount is not None and not of.computed and amount.minor != total:
        raise InvalidAmount("amount", f"is {amount.minor} minor units, and the lines add up to {total}; leave it out")
    if amount is not None:
        return amount, stored
    try:
        return Money(total, of.currency), stored
    except InvalidAmount as error:
        raise InvalidAmount("lines", f"come to an amount that {error.problem}") from None


def _read_once(lines: object) -> Sequence[CreditLine]:
    if isinstance(lines, str | Mapping) or not isinstance(lines, Iterable):
        raise InvalidRequest("lines", f"must be a list of billing.CreditLine, not {type(lines).__name__}")
    found = list(islice(lines, MAX_LINES + 1))
    if not 0 < len(found) <= MAX_LINES or not all(isinstance(each, CreditLine) for each in found):
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES} billing.CreditLine")
    if len({each.position for each in found}) < len(found):
        raise InvalidRequest("lines", "name one position twice; name each line once")
    return found


def _lines_of(session: Session, invoice_id: str, positions: Sequence[int]) -> Sequence[Any]:
    return session.execute(
        select(InvoiceLine.position, InvoiceLine.amount_minor, InvoiceLine.details).where(
            InvoiceLine.invoice_id == invoice_id, InvoiceLine.position.in_(positions)
        )
    ).all()


def _off(of: Credited, asked: CreditLine, line: Any) -> dict[str, Any]:
    """What is taken off this line, as it is stored. Raises InvalidRequest."""
    name, details = f"lines: position {asked.position}", line.details or {}
    if asked.amount is not None:
        if asked.amount.currency != of.currency:
            raise InvalidAmount(name, f"{asked.amount} cannot be taken off an invoice in {of.currency}")
        off = {"minor": asked.amount.minor}
    else:
        quantity = details.get("quantity", 1)
        if "unit_amount" not in details:
            raise InvalidRequest(name, "has no amount of a unit that is known here; give an amount instead")
        if asked.quantity is None or asked.quantity > quantity:
            raise InvalidRequest(name, f"has a quantity of {quantity}, and not {asked.quantity}")
        unit = UnitAmount(details["unit_amount"], of.currency)
        off = {"minor": unit.times(asked.quantity), "quantity": asked.quantity}
    if line.amount_minor is not None and line.amount_minor <= 0:
        raise InvalidRequest(name, "takes nothing off by itself: it is a credit, or comes to nothing")
    if line.amount_minor is not None and off["minor"] > line.amount_minor:
        raise InvalidAmount(name, f"has {line.amount_minor} minor units, and {off['minor']} were to be taken off")
    return off


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
