"""The document of an invoice, kept as long as the law asks: once an invoice is finalized, its PDF is fetched from
Stripe, checked, and stored under a lock. docs/moves/documents.md says what for, and how a person gets at it.

Nobody asks for it: its row is written in the transaction that learns that the invoice is finalized (`begin_with`), or
by a schedule that finds invoices without one (`request_missing`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io, shapes
from billing.document_steps import STORE, document_of
from billing.errors import InvalidRequest, UnknownEntity
from billing.facts import new_fact
from billing.records import CallSettings
from billing.registration import Afterwards, BusinessMetric, Contract, Operation, Retry
from billing.states import DocumentState, InvoiceState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.documents import Document
from billing.tables.entities import Entity, Invoice
from billing.tables.facts import Fact

INVOICE_PDF = "invoice_pdf"
_stripe_object = shapes.like(r"(?:in|cn)_[A-Za-z0-9_]{1,250}")
_HAS_NONE_YET = (InvoiceState.REQUESTED, InvoiceState.DRAFTED, InvoiceState.LINES_ADDED, InvoiceState.LINES_DIFFER)
"""Before it is finalized an invoice has no document."""


@dataclass(frozen=True, slots=True)
class DocumentStatus:
    """How the document of an invoice stands. What describes the stored object is None until it is stored."""

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
    """The document with this id (doc_...), or that of this invoice (inv_...). Raises UnknownEntity."""
    row = session.scalars(_found_by(of)).first()
    if row is None:
        raise UnknownEntity(of)
    return shown(row)


def _found_by(of: str) -> Any:
    wanted = Document.id == of if of.startswith("doc_") else Document.invoice_id == of
    return select(Document).where(wanted).order_by(Document.kind != INVOICE_PDF, Document.id).limit(1)


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


def begin_with(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
    """As `Operation.begins`, of an invoice: its document, once it is finalized."""
    row = loaded.row
    assert isinstance(row, Invoice), "the operation's own table"
    finalized = any(fact.topic == "invoice.finalized" for fact in new)
    if not call_settings.keeps_documents or not finalized or row.stripe_invoice is None:
        return []
    started, fact = _of(row.id, row.stripe_invoice, row.account, row.correlation_id)
    loaded.facts.append(fact)
    return [started]


def _of(invoice: str, stripe_invoice: str, account: str | None, correlation_id: str | None) -> tuple[Document, Fact]:
    row = Document(
        id=ids.new("doc"),
        account=account,
        correlation_id=correlation_id,
        version=0,
        request_id=f"{invoice}:{INVOICE_PDF}",
        invoice_id=invoice,
        kind=INVOICE_PDF,
        stripe_object=stripe_invoice,
    )
    fact = new_fact(
        row,
        "requested",
        invoice=invoice,
        kind=row.kind,
        stripe_object=stripe_invoice,
        account=account,
        request_digest=request_ids.digest_of(row.request_id),
    )
    return row, fact


def request_missing(session: Session, *, after: str = "", most: int = 500, only: str | None = None) -> tuple[int, str]:
    """Ask for the document of finalized invoices that have none, in the order of their ids. Returns how many were asked
    for, and the last invoice that was looked at; an empty text if there is no further one. `only`: this invoice."""
    columns = select(Invoice.id, Invoice.stripe_invoice, Invoice.account, Invoice.correlation_id)
    wanted = columns.where(
        Invoice.number.is_not(None),
        Invoice.stripe_invoice.is_not(None),
        Invoice.state.not_in(_HAS_NONE_YET),
        ~exists().where(Document.invoice_id == Invoice.id, Document.kind == INVOICE_PDF),
    )
    if only is not None:
        wanted = wanted.where(Invoice.id == only)
    found = session.execute(wanted.where(Invoice.id > after).order_by(Invoice.id).limit(most)).all()
    started = [_of(each.id, each.stripe_invoice, each.account, each.correlation_id) for each in found]
    return insert(session, started), found[-1].id if len(found) == most else ""


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
            purpose="fetch the document of an invoice, check it, and store it under a lock",
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
    scope="documents",
    business=(
        BusinessMetric("documents_stored", DocumentState.STORED, "documents that are in the bucket, under a lock"),
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
