"""The document of an invoice or a credit note, kept as long as the law asks: once it is finalized or issued, its PDF is
fetched from Stripe, checked, and stored under a lock. docs/moves/documents.md says what for, and how a person gets at
it.

Nobody asks for it: its row is written in the transaction that learns that there is one (`begin_with`), or by a schedule
that finds invoices and notes without one (`request_missing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, exists, literal, select
from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io, shapes
from billing.call_settings import CallSettings
from billing.document_steps import STORE, document_of
from billing.errors import InvalidRequest, UnknownEntity
from billing.facts import new_fact
from billing.registration import Afterwards, BusinessMetric, Contract, Operation, Retry
from billing.states import DocumentState, InvoiceState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.credit_notes import CreditNote
from billing.tables.documents import CREDIT_NOTE_PDF, INVOICE_PDF, Document
from billing.tables.entities import Entity, Invoice
from billing.tables.facts import Fact

_COMES_WITH = ("invoice.finalized", "credit_note.issued")
_stripe_object = shapes.like(r"(?:in|cn)_[A-Za-z0-9_]{1,250}")
_HAS_NONE_YET = (InvoiceState.REQUESTED, InvoiceState.DRAFTED, InvoiceState.LINES_ADDED, InvoiceState.LINES_DIFFER)
"""Before it is finalized an invoice has no document."""


@dataclass(frozen=True, slots=True)
class DocumentStatus:
    """How the document of an invoice, or of a credit note about it, stands. What describes the stored object is None
    until it is stored."""

    document_id: str
    invoice_id: str
    kind: str
    state: str
    reason: str | None
    since: datetime
    sha256: str | None
    size_bytes: int | None
    object_key: str | None
    object_version: str | None
    lock_mode: str | None
    locked_until: datetime | None


def document(session: Session, of: str) -> DocumentStatus:
    """The document with this id (doc_...), or that of this invoice (inv_...) or credit note (crn_...). Raises
    UnknownEntity."""
    row = session.scalars(_found_by(of)).first()
    if row is None:
        raise UnknownEntity(of)
    return shown(row)


def _found_by(of: str) -> Select[Document]:
    if of.startswith("doc_"):
        return select(Document).where(Document.id == of)
    if of.startswith("crn_"):
        return (
            select(Document)
            .join(CreditNote, Document.stripe_object == CreditNote.stripe_credit_note)
            .where(CreditNote.id == of)
        )
    return select(Document).where(Document.invoice_id == of, Document.kind == INVOICE_PDF)


def number_of(session: Session, document_id: str) -> str | None:
    """The number that stands on this document: the invoice's, or the note's."""
    row = session.get_one(Document, document_id)
    if row.kind == INVOICE_PDF:
        return session.get_one(Invoice, row.invoice_id).number
    return session.scalar(select(CreditNote.number).where(CreditNote.stripe_credit_note == row.stripe_object))


def shown(row: Document) -> DocumentStatus:
    return DocumentStatus(
        row.id,
        row.invoice_id,
        row.kind,
        row.state,
        row.reason,
        row.state_since,
        row.sha256,
        row.size_bytes,
        row.object_key,
        row.object_version,
        row.lock_mode,
        row.locked_until,
    )


class _Of(NamedTuple):
    """What there is a document of, and where."""

    id: str
    kind: str
    invoice: str
    stripe_object: str
    account: str | None
    correlation_id: str | None


def begin_with(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
    """As `Operation.begins`, of an invoice or a credit note: its document, once it is finalized or issued."""
    if not call_settings.keeps_documents or not any(fact.topic in _COMES_WITH for fact in new):
        return []
    match loaded.row:
        case Invoice(stripe_invoice=str(there)) as row:
            of = _Of(row.id, INVOICE_PDF, row.id, there, row.account, row.correlation_id)
        case CreditNote(stripe_credit_note=str(there)) as row:
            of = _Of(row.id, CREDIT_NOTE_PDF, row.invoice_id, there, row.account, row.correlation_id)
        case _:
            return []
    started, fact = _document(of)
    loaded.facts.append(fact)
    return [started]


def _document(of: _Of) -> tuple[Document, Fact]:
    row = Document(
        id=ids.new("doc"),
        account=of.account,
        correlation_id=of.correlation_id,
        version=0,
        request_id=f"{of.id}:{of.kind}",
        invoice_id=of.invoice,
        kind=of.kind,
        stripe_object=of.stripe_object,
    )
    fact = new_fact(
        row,
        "requested",
        invoice=of.invoice,
        kind=of.kind,
        stripe_object=of.stripe_object,
        account=of.account,
        request_digest=request_ids.digest_of(row.request_id),
    )
    return row, fact


def request_missing(session: Session, *, after: str = "", most: int = 500, only: str | None = None) -> tuple[int, str]:
    """Ask for the documents of credit notes and finalized invoices that have none, in the order of their ids. Returns
    how many were asked for, and the last that was looked at; an empty text if there is no further one. `only`: of this
    invoice or note."""
    found: list[_Of] = []
    # In this order, because the ids of notes come before those of invoices.
    for owner, missing in ((CreditNote.id, _NOTES), (Invoice.id, _INVOICES)):
        wanted = missing.where(owner > after) if only is None else missing.where(owner == only)
        rows = session.execute(wanted.order_by(owner).limit(most - len(found)))
        found += [_Of._make(row) for row in rows]
    started = [_document(each) for each in found]
    return insert(session, started), found[-1].id if len(found) == most else ""


_INVOICES = select(
    Invoice.id, literal(INVOICE_PDF), Invoice.id, Invoice.stripe_invoice, Invoice.account, Invoice.correlation_id
).where(
    Invoice.number.is_not(None),
    Invoice.stripe_invoice.is_not(None),
    Invoice.state.not_in(_HAS_NONE_YET),
    ~exists().where(Document.invoice_id == Invoice.id, Document.kind == INVOICE_PDF),
)
_NOTES = select(
    *(CreditNote.id, literal(CREDIT_NOTE_PDF), CreditNote.invoice_id, CreditNote.stripe_credit_note),
    *(CreditNote.account, CreditNote.correlation_id),
).where(
    CreditNote.stripe_credit_note.is_not(None),
    ~exists().where(Document.stripe_object == CreditNote.stripe_credit_note),
)


def insert(session: Session, started: Sequence[tuple[Document, Fact]]) -> int:
    """Write these rows with their facts, but those whose document somebody else has asked for meanwhile."""
    if not started:
        return 0
    written = row_io.insert_where_free(session, [row for row, _ in started])
    row_io.save(session, (), [fact for row, fact in started if row.id in written])
    return len(written)


def next_step(loaded: LoadedOperation) -> Step | None:
    return STORE if loaded.row.state == DocumentState.REQUESTED else None


def unfit(loaded: LoadedOperation) -> str | None:
    """As `Operation.unfit`."""
    row = document_of(loaded)
    return None if _stripe_object(row.stripe_object) else "stripe_object does not have its shape"


def reconsider(_session: Session, row: Document) -> bool:
    """As `Operation.reconsider`: it is fetched again, and finds what was stored."""
    if row.state != DocumentState.REFUSED:
        return False
    set_state(row, DocumentState.REQUESTED)
    row.reason = None
    return True


def reopen(row: Document, *, actor: str, reason: str) -> list[Fact]:
    """Have a refused document fetched again. Raises InvalidRequest when it is not refused."""
    if row.state != DocumentState.REFUSED:
        raise InvalidRequest(f"document {row.id}", f"is {row.state}, not refused")
    set_state(row, DocumentState.REQUESTED)
    row.reason = None
    return [new_fact(row, "reopened", actor=actor, reason=reason, invoice=row.invoice_id)]


def _shown(_session: Session, row: Document) -> dict[str, Any]:
    return {
        "invoice": row.invoice_id,
        "kind": row.kind,
        "stripe_object": row.stripe_object,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "object_key": row.object_key,
        "locked_until": row.locked_until,
    }


OPERATION = Operation(
    table=Document,
    prefix="doc",
    contracts=(
        Contract(
            name="store_document",
            topic="requested",
            queue="documents",
            max_attempts=5,
            call_budget_s=30,
            retry=Retry.PATIENT,
            owner="billing",
            purpose="fetch the document of an invoice or a credit note, check it, and store it under a lock",
            sheddable=True,
            payload={
                "invoice": "text",
                "kind": "text",
                "stripe_object": "text",
                "account": "text or null",
                "request_digest": "optional text",
            },
        ),
    ),
    next_step=next_step,
    steps={STORE.name: STORE}.__getitem__,
    belongs_to=((Document.invoice_id, Invoice.id),),
    scope="documents",
    size="size_bytes",
    business=(
        BusinessMetric("documents_stored", DocumentState.STORED, "documents that are in the bucket, under a lock"),
        BusinessMetric("documents_stored_bytes", DocumentState.STORED, "the bytes of these documents", size=True),
        BusinessMetric(
            "documents_refused", DocumentState.REFUSED, "documents that are not kept; each is a task for a person"
        ),
    ),
    shown=_shown,
    unfit=unfit,
    reconsider=reconsider,
    reopen=reopen,
    afterwards={
        DocumentState.STORED: Afterwards("nothing: it is kept, and cannot be deleted before its lock ends"),
        DocumentState.REFUSED: Afterwards(
            "it must be kept by law: see its reason (docs/operate/documents.md), and have it fetched again",
            "billing document request {id} --reason WHY",
        ),
    },
)
