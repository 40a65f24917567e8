"""What an application asks to be done with an invoice that has its number."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, Requested
from billing.tables.schema import (
    amount_range,
    currency_shape,
    known_state,
    own_id_shape,
    provider_id_shape,
    quoted,
)

PAY, MARK_PAID, VOID, MARK_UNCOLLECTIBLE = "pay", "mark_paid", "void", "mark_uncollectible"
VOID_CREDIT_NOTE = "void_credit_note"
ACTIONS = (PAY, MARK_PAID, VOID, MARK_UNCOLLECTIBLE, VOID_CREDIT_NOTE)


class InvoiceAction(Requested):
    """One request to charge an invoice, to void it or a credit note of it, or to say that it was paid out of band or is
    given up."""

    life = states.INVOICE_ACTION
    __tablename__ = "invoice_actions"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # An invoice's other actions, and those that an event is about.
        Index("invoice_actions_by_stripe_invoice", "stripe_invoice"),
        Index(
            "invoice_actions_by_stripe_credit_note",
            "stripe_credit_note",
            postgresql_where=text("stripe_credit_note IS NOT NULL"),
        ),
        Index("invoice_actions_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        CheckConstraint(f"action IN ({quoted(ACTIONS)})", name="action_known"),
        CheckConstraint(f"payment_method IS NULL OR action = '{PAY}'", name="method_if_paid"),
        CheckConstraint(
            "num_nonnulls(credit_note_id, stripe_credit_note)"
            f" = CASE WHEN action = '{VOID_CREDIT_NOTE}' THEN 2 ELSE 0 END",
            name="note_if_voided",
        ),
        CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
        own_id_shape("iac"),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.INVOICE),
        provider_id_shape(IdKind.PAYMENT_METHOD),
        provider_id_shape(IdKind.CREDIT_NOTE),
        amount_range("amount_minor"),
        currency_shape("currency"),
        known_state(states.INVOICE_ACTION),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id))
    action: Mapped[str] = mapped_column(String(20))
    # As the invoice has them: its id at Stripe, and its total; or the amount of the note.
    stripe_invoice: Mapped[str] = mapped_column(String(255))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # Of `pay`: what is charged. Null: the invoice's own, or the customer's default one.
    payment_method: Mapped[str | None] = mapped_column(String(255))
    # Of `void_credit_note`: which one.
    credit_note_id: Mapped[str | None] = mapped_column(ForeignKey(CreditNote.id))
    stripe_credit_note: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(20), server_default=states.INVOICE_ACTION.first)
