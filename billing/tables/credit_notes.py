"""What is taken off invoices that were issued: credit notes."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities import Invoice, Refund, Requested
from billing.tables.schema import (
    amount_range,
    currency_shape,
    known_state,
    own_id_shape,
    provider_id_shape,
    quoted,
)

CREDIT_REASONS = ("duplicate", "fraudulent", "order_change", "product_unsatisfactory")
"""Stripe's own. Source: docs.stripe.com/api/credit_notes/create, `reason`."""
SETTLEMENTS = ("reduce", "balance", "out_of_band", "refund")
"""What becomes of the amount: less is due; or, of a paid invoice, it is the customer's credit, or was or will be given
back outside of Stripe, or is refunded."""


class CreditNote(Requested):
    """One request to take an amount off an invoice that was issued.

    What it takes counts in the invoice's row as long as it is not refused or voided: a trigger keeps the sums there,
    and constraints bound them.
    """

    life = states.CREDIT_NOTE
    __tablename__ = "credit_notes"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # What Stripe did once belongs to one credit note of ours, and so does a refund.
        Index("credit_notes_one_per_stripe_credit_note", "stripe_credit_note", unique=True),
        Index("credit_notes_one_per_refund", "refund_id", unique=True),
        Index("credit_notes_by_invoice", "invoice_id"),
        Index("credit_notes_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        own_id_shape("crn"),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.INVOICE),
        provider_id_shape(IdKind.CREDIT_NOTE),
        CheckConstraint("amount_minor > 0", name="amount_positive"),
        amount_range("amount_minor"),
        currency_shape("currency"),
        CheckConstraint(f"credit_reason IN ({quoted(CREDIT_REASONS)})", name="credit_reason_known"),
        CheckConstraint(f"settle IN ({quoted(SETTLEMENTS)})", name="settle_known"),
        CheckConstraint("(settle = 'refund') = (refund_id IS NOT NULL)", name="refund_if_refunded"),
        CheckConstraint("jsonb_typeof(lines) = 'object' AND length(lines::text) <= 32768", name="lines_bounded"),
        known_state(states.CREDIT_NOTE),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id))
    # As the invoice has it.
    stripe_invoice: Mapped[str] = mapped_column(String(255))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # Position -> what is taken off that line: {"minor": 500}, and a quantity if it was named. Null: none was named.
    lines: Mapped[dict[str, Any] | None]
    # Stripe's ids of these lines, in the order of their positions, once they were read.
    stripe_lines: Mapped[list[str] | None]
    credit_reason: Mapped[str | None] = mapped_column(String(40))
    # A text for the customer. It may name a person, and is null once that was erased.
    memo: Mapped[str | None] = mapped_column(String(1500))
    settle: Mapped[str] = mapped_column(String(20))
    # The refund that gives the amount back: it comes first, and the note names it.
    refund_id: Mapped[str | None] = mapped_column(ForeignKey(Refund.id))
    state: Mapped[str] = mapped_column(String(20), server_default=states.CREDIT_NOTE.first)
    stripe_credit_note: Mapped[str | None] = mapped_column(String(255))
    number: Mapped[str | None] = mapped_column(String(64))
