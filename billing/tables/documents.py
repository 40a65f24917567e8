"""The documents that a seller has to keep: of each invoice and credit note its PDF, which lies in the archive's bucket
under a lock."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities import Invoice, Requested
from billing.tables.schema import known_state, own_id_shape, provider_id_shape, quoted

INVOICE_PDF, CREDIT_NOTE_PDF = "invoice_pdf", "credit_note_pdf"
KINDS = (INVOICE_PDF, CREDIT_NOTE_PDF)


class Document(Requested):
    """One document: which, and once it is stored, where it lies and what it must be. It is in the bucket, not here."""

    life = states.DOCUMENT
    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # Each object of Stripe's has one document, whoever asked for it.
        Index("documents_one_per_stripe_object", "stripe_object", unique=True),
        Index("documents_by_invoice", "invoice_id"),
        Index("documents_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        # What an operator lists, and the doctor counts: those that are not stored.
        Index("documents_not_stored", "state", "id", postgresql_where=text("state <> 'stored'")),
        own_id_shape("doc"),
        provider_id_shape(IdKind.ACCOUNT),
        CheckConstraint(f"kind IN ({quoted(KINDS)})", name="kind_known"),
        CheckConstraint("stripe_object ~ '^(in|cn)_[A-Za-z0-9_]{1,250}$'", name="stripe_object_shape"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_shape"),
        CheckConstraint("size_bytes > 0", name="size_positive"),
        # What is stored can be found and checked.
        CheckConstraint(
            "state <> 'stored' OR num_nonnulls(sha256, size_bytes, object_key, object_version, lock_mode, locked_until)"
            " = 6",
            name="stored_is_known",
        ),
        known_state(states.DOCUMENT),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id))
    kind: Mapped[str] = mapped_column(String(40))
    # The object at Stripe whose document it is: the invoice, or a credit note of it.
    stripe_object: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(20), server_default=states.DOCUMENT.first)
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None]
    object_key: Mapped[str | None] = mapped_column(String(255))
    object_version: Mapped[str | None] = mapped_column(String(255))
    lock_mode: Mapped[str | None] = mapped_column(String(20))
    locked_until: Mapped[datetime | None]
