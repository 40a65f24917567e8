"""What is asked for: captures, voids, refunds, invoices with their lines, e-mails, and switches. Each has a life, and
facts."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.states import Life
from billing.tables.schema import (
    Table,
    amount_range,
    currency_shape,
    known_state,
    own_id_shape,
    provider_id_shape,
    quoted,
)
from billing.timing import EARLIEST, LATEST

MAX_LINES = 250
"""Lines of an invoice. Source: docs.stripe.com/changelog/2016-02-22/no-more-than-250-invoice-items."""
MAX_DESCRIPTION = 500
"""Characters of a line's description."""
MAX_CAPTURES = 50
"""Captures of one authorization. Source: docs.stripe.com/payments/multicapture."""
MAX_DESCRIPTOR = 22
"""Characters of a text on a bank statement. Source: docs.stripe.com/get-started/account/statement-descriptors."""
ERASED = "(erased)"
"""The description of a line whose customer was erased (`billing.erasure`)."""
CANCELLATION_REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
"""Why an authorization is given back, in Stripe's words. Source: docs.stripe.com/api/payment_intents/cancel."""
MAX_DATA = 8_192
"""Characters of what an e-mail is about, as JSON."""
MAX_DAYS = 365
"""Days until an invoice is due."""

# A time zone moves a time by less than a day, so no time that a caller may pass is refused here.
_A_DAY = timedelta(days=1)


class Entity(Table):
    """What the tables of operations have in common: a row with a life, whose changes are recorded as facts."""

    __abstract__ = True
    life: ClassVar[Life]

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account: Mapped[str | None] = mapped_column(String(255))
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    # Each table declares it again, with its life's first state as the default.
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    # The number of the newest fact about this row, raised under the row's lock: a missing fact leaves a gap.
    version: Mapped[int] = mapped_column(server_default=text("0"))
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())


class Requested(Entity):
    """An operation that an application requested, under a request id that the application chose."""

    __abstract__ = True

    request_id: Mapped[str] = mapped_column(String(255))
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())


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


REFUND_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
"""Stripe's own. `fraudulent` also puts the card and the e-mail address on its block lists."""


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


class Invoice(Requested):
    """One invoice: drafted, filled, compared, finalized, and sent or charged by Stripe under our keys."""

    life = states.INVOICE
    __tablename__ = "invoices"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        Index(
            "invoices_by_stripe_invoice",
            "stripe_invoice",
            postgresql_using="hash",
            postgresql_where=text("stripe_invoice IS NOT NULL"),
        ),
        Index("invoices_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        CheckConstraint("total_minor >= 0", name="total_not_negative"),
        own_id_shape("inv"),
        provider_id_shape(IdKind.CUSTOMER),
        provider_id_shape(IdKind.ACCOUNT),
        provider_id_shape(IdKind.INVOICE),
        amount_range("total_minor"),
        currency_shape("currency"),
        CheckConstraint(f"days_until_due BETWEEN 1 AND {MAX_DAYS}", name="days_until_due_range"),
        known_state(states.INVOICE),
        CheckConstraint("jsonb_typeof(terms) = 'object' AND length(terms::text) <= 16384", name="terms_bounded"),
        CheckConstraint("reckoned_minor = subtotal_minor - discount_minor + tax_minor", name="reckoned_agrees"),
        CheckConstraint("reckoned_minor >= 0", name="reckoned_not_negative"),
        # Never more is given back than was paid, and never more is credited than was invoiced. Triggers on `refunds`
        # and `credit_notes` keep the sums; these refuse the request.
        CheckConstraint(
            "returned_minor + reduced_minor = 0 OR returned_minor >= 0 AND reduced_minor >= 0"
            " AND returned_minor + reduced_minor <= coalesce(reckoned_minor, total_minor)",
            name="returned_bounded",
        ),
        amount_range("paid_minor"),
        CheckConstraint(
            "credited_minor = 0 OR credited_minor BETWEEN 0 AND coalesce(reckoned_minor, total_minor)",
            name="credited_bounded",
        ),
    )

    customer: Mapped[str] = mapped_column(String(255))
    currency: Mapped[str] = mapped_column(String(3))
    # What the lines come to, as far as we know their amounts.
    total_minor: Mapped[int]
    # What Stripe reckons where prices, taxes or discounts are its own, with its parts; null of a plain invoice.
    reckoned_minor: Mapped[int | None]
    subtotal_minor: Mapped[int | None]
    discount_minor: Mapped[int | None]
    tax_minor: Mapped[int | None]
    # Null: it has a due date among its terms.
    days_until_due: Mapped[int | None]
    # What else is sent with the draft (`billing.invoice_terms`). Its texts may name a person, and are in no fact.
    terms: Mapped[dict[str, Any] | None]
    state: Mapped[str] = mapped_column(String(20), server_default=states.INVOICE.first)
    stripe_invoice: Mapped[str | None] = mapped_column(String(255))
    # Which generation of the create step made `stripe_invoice`; later steps belong to it.
    create_generation: Mapped[int | None]
    number: Mapped[str | None] = mapped_column(String(64))
    # Three sums that only triggers on `refunds` and `credit_notes` write. What was given back after it was paid: by
    # refunds, but for those that gave nothing back, and by credit notes for the balance or out of band.
    returned_minor: Mapped[int] = mapped_column(server_default=text("0"))
    # What was paid of it by now, and how often Stripe has counted an attempt, as far as it was seen: they only grow.
    paid_minor: Mapped[int | None]
    attempts: Mapped[int | None]
    # By how much credit notes have reduced what is due; and all that credit notes took off, before and after it was
    # paid, but for those that were refused or voided.
    reduced_minor: Mapped[int] = mapped_column(server_default=text("0"))
    credited_minor: Mapped[int] = mapped_column(server_default=text("0"))

    @property
    def final_minor(self) -> int:
        """What the customer owes, as far as it is known."""
        return self.total_minor if self.reckoned_minor is None else self.reckoned_minor


class InvoiceLine(Table):
    """One line of an invoice. The description may name a person, so it never leaves Postgres as a fact."""

    __tablename__ = "invoice_lines"
    __table_args__ = (
        CheckConstraint("coalesce(amount_minor, 0) > 0 OR details IS NOT NULL", name="amount_positive"),
        amount_range("amount_minor"),
        CheckConstraint(f"position BETWEEN 0 AND {MAX_LINES - 1}", name="position_bounded"),
        CheckConstraint(f"length(description) BETWEEN 1 AND {MAX_DESCRIPTION}", name="description_bounded"),
        CheckConstraint("jsonb_typeof(details) = 'object' AND length(details::text) <= 4096", name="details_bounded"),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    # Below zero: a credit. Null: only Stripe knows what its price comes to.
    amount_minor: Mapped[int | None]
    # Quantity, unit amount, price, tax rates, period (`billing.invoice_lines`): nobody is named. Null: only an amount.
    details: Mapped[dict[str, Any] | None]


class Email(Requested):
    """One e-mail to one recipient, who is named by an id: the address is in no row. It is read when it is sent."""

    life = states.EMAIL
    __tablename__ = "emails"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        Index("emails_correlated", "correlation_id", postgresql_where=text("correlation_id <> request_id")),
        # What an operator lists: those that were not sent.
        Index("emails_refused", "id", postgresql_where=text("state = 'refused'")),
        Index("emails_bounced", "id", postgresql_where=text("state IN ('bounced', 'complained')")),
        # A notice of Amazon SES names this.
        Index("emails_provider_message", "provider_message", postgresql_where=text("provider_message IS NOT NULL")),
        own_id_shape("eml"),
        provider_id_shape(IdKind.ACCOUNT),
        CheckConstraint("template ~ '^[a-z][a-z0-9_]{0,39}$'", name="template_shape"),
        CheckConstraint("recipient ~ '^[A-Za-z0-9_.:-]{1,128}$'", name="recipient_shape"),
        CheckConstraint("locale ~ '^[A-Za-z0-9_-]{2,35}$'", name="locale_shape"),
        CheckConstraint(f"jsonb_typeof(data) = 'object' AND length(data::text) <= {MAX_DATA}", name="data_bounded"),
        known_state(states.EMAIL),
    )

    template: Mapped[str] = mapped_column(String(40))
    # A customer's id at Stripe (cus_...), or one of the application's, which its own function resolves.
    recipient: Mapped[str] = mapped_column(String(255))
    # Null: the language that Stripe, or the application, has of the recipient.
    locale: Mapped[str | None] = mapped_column(String(35))
    data: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), server_default=states.EMAIL.first)
    # What the mail server called it when it accepted it.
    provider_message: Mapped[str | None] = mapped_column(String(100))


class Switch(Entity):
    """A switch: while it is pulled, nothing new is prepared in its scope."""

    life = states.SWITCH
    __tablename__ = "switches"
    __table_args__ = (
        Index("switches_one_pulled_per_scope", "scope", unique=True, postgresql_where=text("state = 'pulled'")),
        # A switch that was pulled before this constraint, for a name that is no account, can still be released.
        provider_id_shape(IdKind.ACCOUNT, unless="state = 'released' OR "),
        known_state(states.SWITCH),
        Index("switches_paced", "id", postgresql_where=text("release_per_hour IS NOT NULL")),
        CheckConstraint(
            "release_per_hour IS NULL OR release_per_hour > 0 AND release_next_at IS NOT NULL AND state = 'released'",
            name="paced_if_released",
        ),
    )

    state: Mapped[str] = mapped_column(String(20), server_default=states.SWITCH.first)
    scope: Mapped[str] = mapped_column(String(300))
    actor: Mapped[str] = mapped_column(String(255))
    # The system pulled it for this account, and a successful probe releases it.
    probes: Mapped[bool] = mapped_column(server_default=text("false"))
    pulled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # From then on it counts as released, and a relay records that. Null: until somebody releases it.
    expires_at: Mapped[datetime | None]
    # It was released at a rate: so many pieces of held work continue in an hour, and when the next may. Null: all at
    # once, or none is left.
    release_per_hour: Mapped[int | None]
    release_next_at: Mapped[datetime | None]
