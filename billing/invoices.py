"""An invoice takes four calls: draft, lines, finalize, and then send or charge; one more for each further hundred of
lines. This page says which comes next, and registers it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import documents, invoice_emails, invoice_terms, observing, paid_already, row_io, statements
from billing.call_settings import CallSettings
from billing.duplicate_drafts import duplicates_step, step_named
from billing.errors import InvalidRequest
from billing.facts import new_fact
from billing.invoice_charge_steps import PAY
from billing.invoice_draft_steps import CREATE, DELETE_DRAFT
from billing.invoice_final_steps import FINALIZE, SEND
from billing.invoice_line_steps import batch_named, next_batch
from billing.invoice_lines import details_fit
from billing.invoice_observing import OBSERVE, observe
from billing.invoice_paid_steps import MARK_PAID
from billing.invoice_requests import FOR_NEWER_WORKERS
from billing.invoice_row import differ, lines_of, refuse
from billing.money import money_problem
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.registration import Afterwards, BusinessMetric, Compensation, Contract, Operation, Retry
from billing.states import InvoiceState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.entities import ERASED, MAX_DAYS, MAX_DESCRIPTION, MAX_LINES, Entity, Invoice, InvoiceLine
from billing.tables.facts import Fact
from billing.tables.invoiced_captures import InvoicedCapture

SQL = statements.beside(__file__)


def rule_out(loaded: LoadedOperation) -> list[Fact]:
    """Refuse an invoice whose lines fit into no call of ours: written without `issue_invoice`, or erased since.

    Without a draft it is refused at once. A draft is deleted first, like one whose total differs.
    """
    row = loaded.row
    assert isinstance(row, Invoice)
    if ruled_out := paid_already.rule_out(loaded):
        return ruled_out
    if row.state not in (InvoiceState.REQUESTED, InvoiceState.DRAFTED) or (why := _unfit(lines_of(loaded))) is None:
        return []
    return list(refuse(loaded, why) if row.state == InvoiceState.REQUESTED else differ(loaded, why))


def _unfit(lines: Sequence[InvoiceLine]) -> str | None:
    if not 0 < len(lines) <= MAX_LINES:
        return f"unfit_lines: {len(lines) or 'none'}{' or more' * (len(lines) > MAX_LINES)}, expected 1 to {MAX_LINES}"
    for line in lines:
        if line.description == ERASED:
            return f"unfit_lines: line {line.position} was erased"
        # A description that is much longer is not even loaded: see invoices.sql.
        if not line.description or len(line.description) > MAX_DESCRIPTION:
            return f"unfit_lines: line {line.position}, description has more than {MAX_DESCRIPTION} characters, or none"
        if not details_fit(line):
            return f"unfit_lines: line {line.position}, details are not as billing.issue_invoice writes them"
    return None


def next_step(loaded: LoadedOperation) -> Step | None:
    """By the row's state. Duplicate drafts are deleted before lines are added, and again before finalizing."""
    row = loaded.row
    assert isinstance(row, Invoice)
    match row.state:
        case InvoiceState.REQUESTED:
            return CREATE
        case InvoiceState.DRAFTED:
            return duplicates_step(loaded, "before_lines") or next_batch(loaded)
        case InvoiceState.LINES_ADDED:
            return duplicates_step(loaded, "before_finalize") or FINALIZE
        case InvoiceState.LINES_DIFFER:
            return DELETE_DRAFT
        case InvoiceState.FINALIZED:
            if invoice_terms.is_paid_already(row):
                return MARK_PAID
            return PAY if invoice_terms.is_charged(row) else SEND
        case _:
            return None


def reopen(row: Invoice, *, actor: str, reason: str) -> list[Fact]:
    """Have a refused invoice tried again, as an operator decided: the next create has a new generation and key.

    If it was finalized before it was refused, it goes on from there, because a second invoice would be payable, too.
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
    return [new_fact(row, "reopened", actor=actor, reason=reason, number=row.number)]


_SOME = 100
"""An amount of every currency."""


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`. Money is checked before the first call only: an invoice that was begun is finished."""
    row = loaded.row
    assert isinstance(row, Invoice)
    if not is_id(IdKind.CUSTOMER, row.customer):
        return str(NoSuchShape(IdKind.CUSTOMER))
    if row.stripe_invoice is not None and not is_id(IdKind.INVOICE, row.stripe_invoice):
        return str(NoSuchShape(IdKind.INVOICE))
    if loaded.records:
        return None
    if row.days_until_due is not None and not 0 < row.days_until_due <= MAX_DAYS:
        return f"days_until_due is not from 1 to {MAX_DAYS}"
    # A total of 0 is no money, and may come of credits, or of prices that only Stripe knows.
    return invoice_terms.unfit(row) or money_problem(row.total_minor or _SOME, row.currency)


_STEPS = {step.name: step for step in (CREATE, FINALIZE, SEND, PAY, MARK_PAID, DELETE_DRAFT, OBSERVE)}


def _step(name: str) -> Step:
    """The step of this name: batches of lines, and those about duplicate drafts, included. Raises KeyError for a name
    that is not known."""
    return step_named(name) or batch_named(name) or _STEPS[name]


_NEEDS_LINES = (InvoiceState.REQUESTED, InvoiceState.DRAFTED)
"""In these states a call carries lines, or is compared with them; later ones compare the total alone."""


def _lines(session: Session, rows: Sequence[Invoice]) -> Iterator[tuple[str, InvoiceLine]]:
    """As `Operation.parts`: no more lines, and no longer ones, than can be used, and only where they are."""
    bounds = {"most": MAX_LINES + 1, "most_bytes": 4 * MAX_DESCRIPTION}
    ids = [row.id for row in rows if row.state in _NEEDS_LINES]
    if not ids:
        return
    for line in row_io.load(session, InvoiceLine, SQL["lines_of_invoices"], ids=ids, **bounds):
        yield line.invoice_id, line


def _parts(session: Session, rows: Sequence[Invoice]) -> Iterator[tuple[str, Any]]:
    yield from _lines(session, rows)
    yield from paid_already.invoiced(session, rows)


def _shown(session: Session, row: Invoice) -> dict[str, Any]:
    # Without the lines' texts, which may name a person: people paste this output into tickets.
    lines = session.scalars(
        select(InvoiceLine.amount_minor)
        .where(InvoiceLine.invoice_id == row.id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    )
    of_it = InvoicedCapture.invoice_id == row.id
    captures = select(InvoicedCapture.capture_id).where(of_it).order_by(InvoicedCapture.position)
    return {
        "customer": row.customer,
        "minor": row.final_minor,
        "currency": row.currency,
        "subtotal_minor": row.subtotal_minor,
        "discount_minor": row.discount_minor,
        "tax_minor": row.tax_minor,
        "days_until_due": row.days_until_due,
        "due_date": _due_date(row),
        "stripe_invoice": row.stripe_invoice,
        "number": row.number,
        **invoice_emails.shown(session, row),
        "collect": (row.terms or {}).get("collect", "send_invoice"),
        "paid_minor": row.paid_minor,
        "attempts": row.attempts,
        "lines": list(lines),
        # Of those that were captured: what paid each line.
        "captures": list(session.scalars(captures)) or None,
    }


_ISSUE = Contract(
    name="issue_invoice",
    topic="requested",
    queue="invoices",
    max_attempts=5,
    call_budget_s=30,
    retry=Retry.PATIENT,
    owner="billing",
    purpose="draft, fill, finalize, and send or charge one invoice",
    sheddable=True,
    payload={
        "minor": "integer",
        "currency": "text",
        "customer": "text",
        "account": "text or null",
        "request_digest": "optional text",
        "lines": "integer",
    },
)


def _due_date(row: Invoice) -> datetime | None:
    seconds = (row.terms or {}).get("due_date")
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _begins(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
    """As `Operation.begins`: our own e-mail of it, and its document."""
    begun = (documents.begin_with, invoice_emails.begin_with)
    return [row for begin in begun for row in begin(loaded, new, call_settings)]


OPERATION = Operation(
    table=Invoice,
    prefix="inv",
    contracts=(
        _ISSUE,
        replace(
            _ISSUE,
            version=FOR_NEWER_WORKERS,
            fact_versions=(FOR_NEWER_WORKERS,),
            payload={
                **_ISSUE.payload,
                "computed": "optional true or false",
                "charged": "optional true or false",
                "paid_already": "optional true or false",
                "capture": "optional text",
            },
        ),
        observing.contract("invoice", queue="invoices", owner="billing", sheddable=True),
    ),
    next_step=next_step,
    steps=_step,
    belongs_to=((Invoice.customer, None),),
    observe=observe,
    begins=_begins,
    scope="invoices",
    amount="final_minor",
    business=(
        BusinessMetric("invoices_sent", InvoiceState.SENT, "invoices that Stripe sent to their customers"),
        BusinessMetric("invoiced_money_minor", InvoiceState.SENT, "the totals of those invoices", money=True),
        BusinessMetric("invoices_paid", InvoiceState.PAID, "invoices that are paid"),
        BusinessMetric("invoices_paid_money_minor", InvoiceState.PAID, "the totals of those invoices", money=True),
        BusinessMetric("invoices_unpaid", InvoiceState.UNPAID, "invoices that Stripe was to charge, and could not"),
        BusinessMetric("invoices_uncollectible", InvoiceState.UNCOLLECTIBLE, "invoices that were given up"),
        BusinessMetric(
            "invoices_uncollectible_money_minor", InvoiceState.UNCOLLECTIBLE, "the totals of those invoices", money=True
        ),
    ),
    parts=_parts,
    comes_after=paid_already.comes_after,
    found_by={"in": Invoice.stripe_invoice, "cus": Invoice.customer},
    shown=_shown,
    rule_out=rule_out,
    unfit=unfit,
    reopen=reopen,
    compensation=Compensation(
        "nothing by itself: billing.void_invoice before it is paid, and a refund of it after that"
    ),
    afterwards={
        InvoiceState.PAID: Afterwards("nothing: it is paid"),
        InvoiceState.VOIDED: Afterwards("nothing: it cannot be paid any more"),
        InvoiceState.UNCOLLECTIBLE: Afterwards("nothing here: what is paid after all, is observed"),
        InvoiceState.UNPAID: Afterwards(
            "charges it again, once; or the customer pays it on Stripe's page, which is observed",
            "billing invoice pay {id} --request-id REQUEST",
        ),
        InvoiceState.REFUSED: Afterwards(
            "once what the reason names is corrected: a new draft is made under a new key",
            "billing invoice reopen {id} --reason WHY",
        ),
    },
)
