"""One invoice in four calls: draft, all lines, finalize, send; each under its own key, compared before it counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import ids, row_io, statements
from billing.asking import Differing, asked, the_session, write_once
from billing.duplicate_drafts import duplicates_step, step_named
from billing.errors import InvalidAmount, InvalidRequest
from billing.facts import new_fact
from billing.invoice_case import differ, refuse
from billing.invoice_draft_steps import ADD_LINES, CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.money import Money, no_money
from billing.provider_ids import IdKind, NoSuchShape, is_id, provider_id
from billing.registration import Contract, Operation, Parts
from billing.states import InvoiceState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import MAX_DAYS, MAX_DESCRIPTION, MAX_LINES, Invoice, InvoiceLine
from billing.tables.facts import Fact
from billing.texts import plain_text

SQL = statements.beside(__file__)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it is for, in 1 to 500 characters of any language, and an amount in the invoice's currency.

    Line ends and tabs stay; docs/inputs.md says what is made alike and what is refused. Raises InvalidText and
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
    """What was asked for, true once the caller's transaction commits. `new` is False where it was asked for before."""

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

    Stripe refuses to make it for a customer without an e-mail address, and does not send what a credit balance has
    paid: it ends as `refused`, or as `paid`.

    1 to 100 lines, all in one currency. The same `request_id` again returns the same receipt. Without a
    `correlation_id` the request id is one.

    Raises RequestReused (same request id, other parameters) and InvalidRequest before anything is written;
    the caller's transaction stays usable.
    """
    session = the_session(session)
    customer = provider_id("customer", customer)
    by = asked(request_id, correlation_id, account, actor)
    lines = _read_once(lines)
    total = _total(lines)
    if not isinstance(collect, SendInvoice):
        raise InvalidRequest("collect", f"must be billing.SendInvoice, not {type(collect).__name__}")
    parameters = {
        "customer": customer,
        "currency": total.currency,
        "total_minor": total.minor,
        "days_until_due": collect.days_until_due,
    }
    row = Invoice(id=ids.new("inv"), correlation_id=by.correlation_id, version=0)
    written = write_once(
        session, row, by, parameters, differing=lambda first: _differing_lines(session, first.id, lines)
    )
    assert written is not None, "nothing but its request id makes an invoice unique"
    if written is not row:
        return InvoiceReceipt(ids.InvoiceId(written.id), by.request_id, new=False)
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
        actor=by.actor,
        minor=total.minor,
        currency=total.currency,
        customer=customer,
        account=by.account,
        lines=len(lines),
    )
    # Not by the ORM: it would name, and read back, columns that are none of the application's business.
    row_io.save(session, (), [requested])
    return InvoiceReceipt(ids.InvoiceId(row.id), by.request_id, new=True)


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


def _differing_lines(session: Session, invoice_id: str, lines: Sequence[Line]) -> Differing:
    stored = session.execute(
        select(InvoiceLine.description, InvoiceLine.amount_minor)
        .where(InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    ).all()
    now = [(line.description, line.amount.minor) for line in lines]
    if [tuple(line) for line in stored] == now:
        return {}
    return {"lines": (len(stored), "other lines" if len(stored) == len(now) else len(now))}


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """Lines that were written past `issue_invoice` and that no call of ours can carry: the invoice is refused.

    Without a call where none was made. Where there is a draft, it is deleted first, as one whose total differs.
    """
    row = loaded.row
    assert isinstance(row, Invoice)
    if row.state not in (InvoiceState.REQUESTED, InvoiceState.DRAFTED) or (why := _unfit(loaded.parts)) is None:
        return []
    return list(refuse(loaded, why) if row.state == InvoiceState.REQUESTED else differ(loaded, why))


def _unfit(lines: Sequence[InvoiceLine]) -> str | None:
    if not 0 < len(lines) <= MAX_LINES:
        return f"unfit_lines: {len(lines) or 'none'}{' or more' * (len(lines) > MAX_LINES)}, expected 1 to {MAX_LINES}"
    for line in lines:
        # What is much longer is not even loaded: see invoices.sql.
        if not line.description or len(line.description) > MAX_DESCRIPTION:
            return f"unfit_lines: line {line.position}, description has more than {MAX_DESCRIPTION} characters, or none"
    return None


def next_step(loaded: LoadedOperation) -> Step | None:
    """By the row's state. Where several drafts may exist, others go before lines are added and before finalizing."""
    row = loaded.row
    assert isinstance(row, Invoice)
    match row.state:
        case InvoiceState.REQUESTED:
            return CREATE
        case InvoiceState.DRAFTED:
            return duplicates_step(loaded, "before_lines") or ADD_LINES
        case InvoiceState.LINES_ADDED:
            return duplicates_step(loaded, "before_finalize") or FINALIZE
        case InvoiceState.LINES_DIFFER:
            return DELETE_DRAFT
        case InvoiceState.FINALIZED:
            return SEND
        case _:
            return None


def reopen(row: Invoice, *, actor: str, reason: str) -> list[Fact]:
    """Have a refused invoice tried again, as a person's decision: the next create has a new generation and key.

    One that was finalized before it was refused goes on from there: a second one would be payable, too.
    Raises InvalidRequest when the invoice is not refused.
    """
    if row.state != InvoiceState.REFUSED:
        raise InvalidRequest(f"invoice {row.id}", f"is {row.state}, not refused")
    row.reason = None
    if row.number is not None:
        set_state(row, InvoiceState.FINALIZED)
    else:
        set_state(row, InvoiceState.REQUESTED)
        row.stripe_invoice = row.create_generation = None
    return [new_fact(row, "reopened", actor=actor, reason=reason)]


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. Money counts until the first call: what went out is seen through."""
    row = loaded.row
    assert isinstance(row, Invoice)
    if not is_id(IdKind.CUSTOMER, row.customer):
        return str(NoSuchShape(IdKind.CUSTOMER))
    if row.stripe_invoice is not None and not is_id(IdKind.INVOICE, row.stripe_invoice):
        return str(NoSuchShape(IdKind.INVOICE))
    if loaded.records:
        return None
    if not 0 < row.days_until_due <= MAX_DAYS:
        return f"days_until_due is not from 1 to {MAX_DAYS}"
    return no_money(row.total_minor, row.currency)


_STEPS = {step.name: step for step in (CREATE, ADD_LINES, FINALIZE, SEND, DELETE_DRAFT)}


def _step(name: str) -> Step:
    """The step of this name, those about duplicate drafts included. Raises KeyError for a name that is not known."""
    return step_named(name) or _STEPS[name]


def _shown(session: Session, row: Invoice) -> dict[str, Any]:
    # Without their texts, which may name a person: a story is pasted into tickets.
    lines = session.scalars(
        select(InvoiceLine.amount_minor)
        .where(InvoiceLine.invoice_id == row.id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    )
    return {
        "customer": row.customer,
        "minor": row.total_minor,
        "currency": row.currency,
        "days_until_due": row.days_until_due,
        "stripe_invoice": row.stripe_invoice,
        "number": row.number,
        "lines": list(lines),
    }


OPERATION = Operation(
    table=Invoice,
    prefix="inv",
    contracts=(
        Contract(
            name="issue_invoice",
            topic="requested",
            queue="invoices",
            max_attempts=5,
            owner="billing",
            purpose="draft, fill, finalize and send one invoice",
        ),
    ),
    next_step=next_step,
    steps=_step,
    scope="invoices",
    parts=Parts(
        InvoiceLine,
        owner="invoice_id",
        statement=SQL["lines_of_invoices"],
        bounds={"most": MAX_LINES + 1, "most_bytes": 4 * MAX_DESCRIPTION},
    ),
    found_by={"in": Invoice.stripe_invoice},
    shown=_shown,
    rule_out=rule_out,
    unfit=unfit,
    reopen=reopen,
)
