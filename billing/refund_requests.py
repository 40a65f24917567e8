"""Asking for a refund, or for a capture to be undone by one: bounded by what is left, and written once."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import ids, refundable, request_ids, row_io
from billing.asking import CommonArguments, Differing, callers_session, common_arguments, write_once, written_before
from billing.database import violated
from billing.errors import InvalidAmount, InvalidText, MoreThanCaptured, MoreThanInvoiced, NotCaptured, NotPaid
from billing.facts import new_fact
from billing.money import Money
from billing.refundable import Refundable
from billing.states import CAPTURE, CaptureState, InvoiceState
from billing.tables.entities import REFUND_REASONS, Capture, Refund

COMPENSATES = 2
"""The version of the fact, and of the contract, of a refund that undoes a capture: a worker from before it would not
wait for the end of that."""
OF_AN_INVOICE = 3
"""The version of the fact, and of the contract, of a refund of an invoice: a worker from before it would look for its
capture."""
MOST_TRIES = 10
"""So often is what is left read again, if other refunds take it while all of it is asked for."""
COMPENSATION = "compensation:"
"""How the request id of a refund begins that compensates a capture; the capture's id follows."""


@dataclass(frozen=True, slots=True)
class RefundReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    refund_id: ids.RefundId
    request_id: str
    amount: Money
    """What is to be given back: all that was left, if no amount was named."""
    new: bool


def request_refund(
    session: Session,
    *,
    capture: str | None = None,
    payment_intent: str | None = None,
    charge: str | None = None,
    invoice: str | None = None,
    amount: Money | None = None,
    reason: str | None = None,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> RefundReceipt:
    """Ask, inside the caller's own transaction, for money of one capture, or of what was paid for one invoice, to be
    given back to where it came from.

    Exactly one of `capture` (cap_...), `payment_intent`, `charge` and `invoice` (inv_...) says of which. Without
    `amount`, all that is left of it. `reason` is one of Stripe's: duplicate, fraudulent, requested_by_customer. The
    same `request_id` again returns the same receipt. The capture's or the invoice's account is used; a payment of
    another account than our own needs `account`.

    A refund takes its amount from what is left at once, and gives it back if it is refused, fails or is canceled. A
    constraint in Postgres refuses a sum above what was captured or invoiced, however many ask at the same time. Which
    payment an invoice was paid by, a worker reads from Stripe: one that was paid outside of Stripe, or whose payments
    are each smaller than the amount, ends as `refused`.

    Raises RequestReused (same request id, other parameters), NotCaptured, MoreThanCaptured, NotPaid, MoreThanInvoiced,
    NotOurPayment, UnknownEntity, and InvalidRequest; nothing is written then, and the caller's transaction stays
    usable. (Above READ COMMITTED, Postgres itself may ask for the transaction to be repeated, as for any other.)
    """
    session = callers_session(session)
    if amount is not None and not isinstance(amount, Money):
        raise InvalidAmount("amount", f"must be billing.Money or None, not {type(amount).__name__}")
    common = common_arguments(request_id, correlation_id, account, actor)
    of = refundable.named(
        session, common.account, capture=capture, payment_intent=payment_intent, charge=charge, invoice=invoice
    )
    if invoice is not None and (of.state != InvoiceState.PAID or of.stripe_invoice is None):
        raise NotPaid(of.id, of.state)
    if invoice is None and of.state != CaptureState.CAPTURED:
        raise NotCaptured(of.id, of.state)
    if amount is not None and amount.currency != of.currency:
        kind = of.table.life.of
        raise InvalidAmount(
            "amount", f"{amount} cannot be given back of {'an' * (kind[0] == 'i') or 'a'} {kind} in {of.currency}"
        )
    return _ask(session, common, of, amount, reason)


def compensate(
    session: Session, capture: str, *, reason: str | None = None, actor: str = "compensation"
) -> RefundReceipt:
    """Ask, inside the caller's own transaction, for a capture that nobody wants any more to be undone: by a refund of
    all that is left of it. Its request id is made of the capture's id, so asking twice asks once.

    The capture need not be over. Of one for which nothing was sent yet, nothing is taken: it ends as `refused`, with
    the reason `withdrawn`. Of any other the refund waits for the end, also of doubt or a conflict; then it is made if
    the money was taken, and else refused (`billing.compensations`). It has the capture's correlation id.

    Commit soon: until then no worker goes on with this capture. Raises NotCaptured if it ended without the money,
    MoreThanCaptured if all of it is given back already, UnknownEntity, and InvalidRequest; nothing is written then, and
    the caller's transaction stays usable.
    """
    session = callers_session(session)
    of = refundable.named(session, None, capture=capture)
    if of.state != CaptureState.CAPTURED and CAPTURE.is_final(of.state):
        raise NotCaptured(of.id, of.state)
    common = common_arguments(f"{COMPENSATION}{of.id}", of.correlation_id, of.account, actor)
    return _ask(session, common, of, None, reason, compensates=True)


def _ask(
    session: Session,
    common: CommonArguments,
    of: Refundable,
    amount: Money | None,
    reason: str | None,
    *,
    compensates: bool = False,
) -> RefundReceipt:
    if reason is not None and reason not in REFUND_REASONS:
        raise InvalidText("reason", f"must be one of {', '.join(REFUND_REASONS)}, or None")
    common = replace(common, account=of.account)
    row, minor, written = Refund(id=ids.new("ref"), correlation_id=common.correlation_id), 0, None
    further: dict[str, Any] = {"payment_intent": of.payment_intent, "stripe_invoice": of.stripe_invoice}
    further |= {"all_left": amount is None, "refund_reason": reason} | ({"compensates": True} if compensates else {})
    for _ in range(MOST_TRIES):
        minor = amount.minor if amount is not None else refundable.left(session, of)
        try:
            written = _write(session, row, common, of, minor, further)
        except _NothingLeft:
            if amount is not None or not refundable.left(session, of):
                break
        else:
            break
    if written is None:
        asked, left = amount.minor if amount else None, refundable.left(session, of)
        too_much = MoreThanCaptured if of.table is Capture else MoreThanInvoiced
        raise too_much(of.id, of.currency, asked=asked, left=left)
    if written is not row:
        kept = Money(written.amount_minor, written.currency)
        return RefundReceipt(ids.RefundId(written.id), common.request_id, kept, new=False)
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        minor=minor,
        currency=of.currency,
        **_source(of),
        account=of.account,
        request_digest=request_ids.digest_of(common.request_id),
        all_left=amount is None,
        refund_reason=reason,
    )
    if of.table is not Capture:
        requested.version = OF_AN_INVOICE
    if compensates:
        requested.version = COMPENSATES
        requested.payload |= {"compensates": True}
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [requested])
    return RefundReceipt(ids.RefundId(row.id), common.request_id, Money(minor, of.currency), new=True)


def _source(of: Refundable) -> dict[str, Any]:
    """What the fact says of where the money is taken from."""
    return {"capture": of.id, "payment_intent": of.payment_intent} if of.table is Capture else {"invoice": of.id}


class _NothingLeft(Exception):
    """The constraint has refused the sum."""


def _write(
    session: Session, row: Refund, common: CommonArguments, of: Refundable, minor: int, further: dict[str, Any]
) -> Refund | None:
    """As `write_once`. Raises _NothingLeft, and the transaction is as it was before."""
    named = not further["all_left"]
    parameters: dict[str, Any] = {of.column: of.id, "currency": of.currency}
    parameters |= {"amount_minor": minor} if named else {}

    def differing(first: Refund) -> Differing:
        if first.all_left is None:  # made again after a restore: neither of the two is known
            return {}
        asked = {True: "all that was left", False: "an amount"}
        found: Differing = {}
        if first.all_left is named:
            found["amount"] = asked[first.all_left], asked[not named]
        if first.refund_reason != further["refund_reason"]:
            found["reason"] = first.refund_reason, further["refund_reason"]
        return found

    if not minor:
        before = written_before(session, Refund, common, parameters, differing)
        if before is None:
            raise _NothingLeft
        return before
    further = further if named else {**further, "amount_minor": minor}
    try:
        # By the connection: a session's own savepoint would first write what the caller has pending there.
        with session.connection().begin_nested():
            return write_once(session, row, common, parameters, further=further, differing=differing)
    except IntegrityError as error:
        if violated(error) != of.bound:
            raise
    raise _NothingLeft
