"""What an application asks to be done with an invoice that has its number."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
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
ACTIONS = (PAY, MARK_PAID, VOID, MARK_UNCOLLECTIBLE)


class InvoiceAction(Requested):
    """One request to charge an invoice, to void it, or to say that it was paid out of band or is given up."""

    life = states.INVOICE_ACTION
    __tablename__ = "invoice_actions"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # An invoice's other actions, and those that an event is about.
        Index("invoice_actions_by_stripe_invoice", "stripe_invoice"),
        Index("invoice_actions_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        CheckConstraint(f"action IN ({quoted(ACTIONS)})", name="action_known"),
        CheckConstraint(f"payment_method IS NULL OR action = '{PAY}'", name="method_if_paid"),
        CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
        own_id_shape("iac"),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.INVOICE),
        provider_id_shape(IdKind.PAYMENT_METHOD),
        amount_range("amount_minor"),
        currency_shape("currency"),
        known_state(states.INVOICE_ACTION),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id))
    action: Mapped[str] = mapped_column(String(20))
    # As the invoice has them: its id at Stripe, and its total.
    stripe_invoice: Mapped[str] = mapped_column(String(255))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # Of `pay`: what is charged. Null: the invoice's own, or the customer's default one.
    payment_method: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(20), server_default=states.INVOICE_ACTION.first)
