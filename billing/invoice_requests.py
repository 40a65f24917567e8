"""Asking for an invoice: its lines are checked, and it is written once, in the caller's own transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io
from billing.asking import Differing, callers_session, common_arguments, write_once
from billing.errors import InvalidAmount, InvalidRequest
from billing.facts import new_fact
from billing.invoice_line_steps import LINES_OF_A_CALL
from billing.money import Money
from billing.provider_ids import provider_id
from billing.tables.entities import MAX_DAYS, MAX_DESCRIPTION, MAX_LINES, Invoice, InvoiceLine
from billing.texts import plain_text

FOR_NEWER_WORKERS = 2
"""The version of the fact, and of the contract, of an invoice whose lines take more than one call."""
UNKNOWN_TEXT = "not known: restored from Stripe"
"""The text of a line that `billing recover` has made again of what Stripe shows."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it is for, in 1 to 500 characters of any language, and an amount in the invoice's currency.

    Line ends and tabs are kept; docs/inputs.md says what is changed and what is refused. Raises InvalidText and
    InvalidAmount.
    """

    description: str
    amount: Money

    def __post_init__(self) -> None:
        description = plain_text("a line's description", self.description, MAX_DESCRIPTION, lines=True)
        object.__setattr__(self, "description", description)
        if not isinstance(self.amount, Money):
            raise InvalidAmount("a line's amount", f"must be billing.Money, not {type(self.amount).__name__}")


@dataclass(frozen=True, slots=True)
class SendInvoice:
    """Stripe e-mails the invoice; the customer pays within `days_until_due` days."""

    days_until_due: int

    def __post_init__(self) -> None:
        days: object = self.days_until_due
        if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= MAX_DAYS:
            raise InvalidRequest("days_until_due", f"must be a whole number from 1 to {MAX_DAYS}")
        object.__setattr__(self, "days_until_due", int.__index__(days))


@dataclass(frozen=True, slots=True)
class InvoiceReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    invoice_id: ids.InvoiceId
    request_id: str
    new: bool


def issue_invoice(
    session: Session,
    *,
    customer: str,
    lines: Iterable[Line],
    collect: SendInvoice,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
) -> InvoiceReceipt:
    """Ask, inside the caller's own transaction, for an invoice to be drafted, finalized and sent by Stripe.

    For a customer without an e-mail address Stripe refuses it, and it ends as `refused`. One that a credit balance pays
    is not sent, and ends as `paid`.

    1 to 250 lines, all in one currency. The same `request_id` again returns the same receipt. The request id is
    the default of `correlation_id`.

    Raises RequestReused (same request id, other parameters) and InvalidRequest before anything is written;
    the caller's transaction stays usable.
    """
    session = callers_session(session)
    customer = provider_id("customer", customer)
    common = common_arguments(request_id, correlation_id, account, actor)
    lines = _read_once(lines)
    total = _total(lines)
    if not isinstance(collect, SendInvoice):
        raise InvalidRequest("collect", f"must be billing.SendInvoice, not {type(collect).__name__}")
    parameters = {
        "customer": customer,
        "currency": total.currency,
        "total_minor": total.minor,
    }
    row = Invoice(id=ids.new("inv"), correlation_id=common.correlation_id)
    written = write_once(
        session,
        row,
        common,
        parameters,
        further={"days_until_due": collect.days_until_due},
        differing=lambda first: _differing(session, first, lines, collect),
    )
    assert written is not None, "nothing but its request id makes an invoice unique"
    if written is not row:
        return InvoiceReceipt(ids.InvoiceId(written.id), common.request_id, new=False)
    session.execute(
        insert(InvoiceLine),
        [
            {
                "invoice_id": row.id,
                "position": position,
                "description": line.description,
                "amount_minor": line.amount.minor,
            }
            for position, line in enumerate(lines)
        ],
    )
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        minor=total.minor,
        currency=total.currency,
        customer=customer,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
        lines=len(lines),
    )
    requested.version = fact_version(len(lines))
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [requested])
    return InvoiceReceipt(ids.InvoiceId(row.id), common.request_id, new=True)


def fact_version(lines: int) -> int:
    """Of the fact that requests an invoice with so many lines: an older worker would refuse more than one call adds."""
    return FOR_NEWER_WORKERS if lines > LINES_OF_A_CALL else 1


def _read_once(lines: Iterable[Line]) -> list[Line]:
    """A generator can be read only once, and an endless one is not read to its end."""
    try:
        each = iter(lines)
    except TypeError:
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES} of billing.Line, not {type(lines).__name__}") from None
    return list(islice(each, MAX_LINES + 1))


def _total(lines: Sequence[Line]) -> Money:
    if not 0 < len(lines) <= MAX_LINES:
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES}, not {'more' if lines else 'none'}")
    for line in lines:
        if not isinstance(line, Line):
            raise InvalidRequest("lines", f"must each be a billing.Line, not {type(line).__name__}")
    currencies = {line.amount.currency for line in lines}
    if len(currencies) > 1:
        raise InvalidRequest("lines", f"must all be in one currency, not in {', '.join(sorted(currencies))}")
    return Money(sum(line.amount.minor for line in lines), currencies.pop())


def _differing(session: Session, first: Invoice, lines: Sequence[Line], collect: SendInvoice) -> Differing:
    """Of an invoice that was made again after a restore, only the amounts of lines that Stripe has are known."""
    stored = session.execute(
        select(InvoiceLine.description, InvoiceLine.amount_minor)
        .where(InvoiceLine.invoice_id == first.id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    ).all()
    differing: dict[str, tuple[object, object]] = {}
    if all(line.description == UNKNOWN_TEXT for line in stored):
        same = not stored or [line.amount_minor for line in stored] == [line.amount.minor for line in lines]
    else:
        same = [tuple(line) for line in stored] == [(line.description, line.amount.minor) for line in lines]
        if first.days_until_due != collect.days_until_due:
            differing["days_until_due"] = first.days_until_due, collect.days_until_due
    if not same:
        differing["lines"] = len(stored), "other lines" if len(stored) == len(lines) else len(lines)
    return differing
