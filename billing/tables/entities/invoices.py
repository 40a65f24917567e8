"""Invoices and their lines."""

from typing import Any

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.provider_ids import IdKind
from billing.tables.entities.entity import Requested
from billing.tables.schema import Table, amount_range, currency_shape, known_state, own_id_shape, provider_id_shape

MAX_LINES = 250
"""Lines of an invoice. Source: docs.stripe.com/changelog/2016-02-22/no-more-than-250-invoice-items."""
MAX_DESCRIPTION = 500
"""Characters of a line's description."""
MAX_DAYS = 365
"""Days until an invoice is due."""
ERASED = "(erased)"
"""The description of a line whose customer was erased (`billing.erasure`)."""


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

    @hybrid_property
    def final_minor(self) -> int:
        """What the customer owes, as far as it is known."""
        return self.total_minor if self.reckoned_minor is None else self.reckoned_minor

    @final_minor.inplace.expression
    @classmethod
    def _final_minor_in_sql(cls) -> ColumnElement[int]:
        return func.coalesce(cls.reckoned_minor, cls.total_minor)


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
