"""Captures, voids and refunds: money that a customer has authorized is taken, let go, or given back."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities.entity import Requested
from billing.tables.schema import amount_range, currency_shape, known_state, own_id_shape, provider_id_shape, quoted
from billing.timing import EARLIEST, LATEST

MAX_CAPTURES = 50
"""Captures of one authorization. Source: docs.stripe.com/payments/multicapture."""
MAX_DESCRIPTOR = 22
"""Characters of a text on a bank statement. Source: docs.stripe.com/get-started/account/statement-descriptors."""
CANCELLATION_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
"""Why an authorization is given back, in Stripe's words. Source: docs.stripe.com/api/payment_intents/cancel."""
REFUND_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
"""Stripe's own. `fraudulent` also puts the card and the e-mail address on its block lists."""

# A time zone moves a time by less than a day, so no time that a caller may pass is refused here.
_A_DAY = timedelta(days=1)


class Capture(Requested):
    """One request to take money that a customer has authorized."""

    life = states.CAPTURE
    __tablename__ = "captures"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # One capture per authorization and number: the last protection against a double charge. In every state but
        # these a capture occupies its place, whatever is known of its calls.
        Index(
            "captures_one_per_authorization",
            "account",
            "payment_intent",
            "capture_no",
            unique=True,
            postgresql_where=text(f"state NOT IN ({quoted(states.FREES_THE_AUTHORIZATION)})"),
            postgresql_nulls_not_distinct=True,
        ),
        # By these a person finds a capture (`billing.finding`). One that goes well has no row in the first and, with
        # the default, none in the last.
        Index(
            "captures_freed",
            "payment_intent",
            postgresql_where=text(f"state IN ({quoted(states.FREES_THE_AUTHORIZATION)})"),
        ),
        Index("captures_by_charge", "charge", postgresql_using="hash", postgresql_where=text("charge IS NOT NULL")),
        Index("captures_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        Index(
            "captures_to_warn_of",
            "capture_before",
            postgresql_where=text("state = 'requested' AND warned_at IS NULL AND capture_before IS NOT NULL"),
        ),
        CheckConstraint("amount_minor > 0", name="amount_positive"),
        # Never more is given back than was taken. A trigger on `refunds` keeps the sum; this refuses the refund.
        CheckConstraint("refunds_minor BETWEEN 0 AND amount_minor", name="refunds_bounded"),
        own_id_shape("cap"),
        provider_id_shape(IdKind.PAYMENT_INTENT),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.CHARGE),
        provider_id_shape(IdKind.CUSTOMER),
        amount_range("amount_minor"),
        currency_shape("currency"),
        amount_range("authorized_minor"),
        currency_shape("authorized_currency"),
        CheckConstraint(
            f"capture_before BETWEEN '{EARLIEST - _A_DAY}' AND '{LATEST + _A_DAY}'", name="capture_before_real"
        ),
        known_state(states.CAPTURE),
        CheckConstraint("application_fee_minor BETWEEN 1 AND amount_minor", name="application_fee_minor_range"),
        CheckConstraint("transfer_minor BETWEEN 1 AND amount_minor", name="transfer_minor_range"),
        CheckConstraint("num_nonnulls(application_fee_minor, transfer_minor) <= 1", name="fee_or_transfer"),
        CheckConstraint(
            "jsonb_typeof(callers_metadata) = 'object' AND length(callers_metadata::text) <= 16384",
            name="callers_metadata_bounded",
        ),
    )

    payment_intent: Mapped[str] = mapped_column(String(255))
    # Its place among the captures of this authorization: 1, and more only after those that keep the rest.
    capture_no: Mapped[int] = mapped_column(server_default=text("1"))
    keeps_remainder: Mapped[bool] = mapped_column(server_default=text("false"))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # What else is sent with it (`billing.capture_terms`). The texts are in no fact.
    application_fee_minor: Mapped[int | None]
    transfer_minor: Mapped[int | None]
    statement_descriptor: Mapped[str | None] = mapped_column(String(MAX_DESCRIPTOR))
    statement_descriptor_suffix: Mapped[str | None] = mapped_column(String(MAX_DESCRIPTOR))
    callers_metadata: Mapped[dict[str, Any] | None]
    # The authorization, as the caller knew it or as it was read from Stripe once.
    authorized_minor: Mapped[int | None]
    authorized_currency: Mapped[str | None] = mapped_column(String(3))
    capture_before: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(20), server_default=states.CAPTURE.first)
    charge: Mapped[str | None] = mapped_column(String(255))
    # Whose payment it is, as Stripe's answer to the capture says; no fact tells it (`billing.receipts`).
    customer: Mapped[str | None] = mapped_column(String(255))
    # When a fact warned that its authorization lapses soon (`jobs.schedules.deadlines`).
    warned_at: Mapped[datetime | None]
    # The sum of its refunds, but for those that gave nothing back. Only a trigger on `refunds` writes it.
    refunds_minor: Mapped[int] = mapped_column(server_default=text("0"))


class Void(Requested):
    """One request to give back what an authorization holds."""

    life = states.VOID
    __tablename__ = "voids"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        Index(
            "voids_one_per_authorization",
            "account",
            "payment_intent",
            unique=True,
            postgresql_where=text(f"state NOT IN ({quoted(states.FREES_FROM_THE_VOID)})"),
            postgresql_nulls_not_distinct=True,
        ),
        # A payment intent leads to it, whoever's it is (`Operation.found_by`).
        Index("voids_by_payment_intent", "payment_intent"),
        Index("voids_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        CheckConstraint(f"cancellation_reason IN ({quoted(CANCELLATION_REASONS)})", name="cancellation_reason_known"),
        CheckConstraint("held_minor >= 0", name="held_not_negative"),
        own_id_shape("void"),
        provider_id_shape(IdKind.PAYMENT_INTENT),
        provider_id_shape(IdKind.ACCOUNT),
        amount_range("held_minor"),
        currency_shape("currency"),
        known_state(states.VOID),
    )

    payment_intent: Mapped[str] = mapped_column(String(255))
    cancellation_reason: Mapped[str] = mapped_column(String(40))
    # What the authorization held, as it was read from Stripe just before the cancel. Null: not read yet.
    held_minor: Mapped[int | None]
    currency: Mapped[str | None] = mapped_column(String(3))
    state: Mapped[str] = mapped_column(String(20), server_default=states.VOID.first)


class Refund(Requested):
    """One request to give back money of one capture, or of what was paid for one invoice, in whole or in part."""

    life = states.REFUND
    __tablename__ = "refunds"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # What Stripe did once belongs to one refund of ours.
        Index("refunds_one_per_stripe_refund", "stripe_refund", unique=True),
        Index("refunds_by_capture", "capture_id"),
        Index("refunds_by_invoice", "invoice_id", postgresql_where=text("invoice_id IS NOT NULL")),
        Index("refunds_by_payment_intent", "payment_intent"),
        Index("refunds_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        CheckConstraint("amount_minor > 0", name="amount_positive"),
        CheckConstraint(f"refund_reason IN ({quoted(REFUND_REASONS)})", name="refund_reason_known"),
        own_id_shape("ref"),
        provider_id_shape(IdKind.PAYMENT_INTENT),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.REFUND),
        provider_id_shape(IdKind.INVOICE),
        amount_range("amount_minor"),
        currency_shape("currency"),
        known_state(states.REFUND),
        # Of a capture or of an invoice. Which payment an invoice was paid by, a worker reads first.
        CheckConstraint(
            "num_nonnulls(capture_id, invoice_id) = 1 AND num_nonnulls(capture_id, stripe_invoice) = 1"
            " AND (capture_id IS NULL OR payment_intent IS NOT NULL)",
            name="of_one",
        ),
    )

    capture_id: Mapped[str | None] = mapped_column(ForeignKey(Capture.id))
    invoice_id: Mapped[str | None] = mapped_column(ForeignKey("billing.invoices.id"))
    # As the invoice has it.
    stripe_invoice: Mapped[str | None] = mapped_column(String(255))
    # As the capture has it, or the payment of the invoice once it was read from Stripe.
    payment_intent: Mapped[str | None] = mapped_column(String(255))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # Whether all that was left was asked for, so that the amount is not the caller's own. Null: neither this nor the
    # reason is known, because the row was made again of what Stripe shows.
    all_left: Mapped[bool | None]
    # It undoes its capture: it waits until that is over, and ends without a call if nothing was taken.
    compensates: Mapped[bool] = mapped_column(server_default=text("false"))
    refund_reason: Mapped[str | None] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20), server_default=states.REFUND.first)
    stripe_refund: Mapped[str | None] = mapped_column(String(255))
