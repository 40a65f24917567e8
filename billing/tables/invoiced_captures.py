"""Which invoice a captured payment is on, and the periods by which captures are collected on invoices."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from billing.periods import LENGTHS
from billing.provider_ids import IdKind
from billing.tables.entities import MAX_DESCRIPTION, MAX_LINES, Capture, Invoice
from billing.tables.schema import Table, amount_range, currency_shape, provider_id_shape, quoted

NOTHING_TAKEN, GIVEN_BACK, UNFIT = LEFT_OUT = ("nothing_taken", "given_back", "unfit")
"""Why a capture is on no invoice: it ended without the money; all of it was given back before it was invoiced; or no
line can be made of its row, which was written without `billing.invoice_capture`, or was erased."""

# A range of one number, because Postgres excludes equal texts only with an extension. Should two names have one hash
# (one pair in 2**64), the second account gets an error, and nothing is invoiced wrongly.
_ACCOUNT: Any = text("numrange(hashtextextended(account, 0), hashtextextended(account, 0), '[]')")


class InvoicePeriod(Table):
    """One period of an account: what is captured in it is collected. It never changes."""

    __tablename__ = "invoice_periods"
    __table_args__ = (
        CheckConstraint("period_start < period_end", name="not_empty"),
        CheckConstraint(f"length IN ({quoted(LENGTHS)})", name="length_known"),
        ExcludeConstraint(
            (_ACCOUNT, "&&"),
            (text("tstzrange(period_start, period_end)"), "&&"),
            name="invoice_periods_apart",
            using="gist",
        ),
    )

    # As facts name it: `own` is that of our own key.
    account: Mapped[str] = mapped_column(String(255), primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    period_end: Mapped[datetime]
    # What was set when it came into use.
    length: Mapped[str] = mapped_column(String(10))
    zone: Mapped[str] = mapped_column(String(128))


class InvoicedCapture(Table):
    """One capture that is to be on an invoice. Its key allows one invoice, and a trigger keeps the one that it has."""

    __tablename__ = "invoiced_captures"
    __table_args__ = (
        UniqueConstraint("invoice_id", "position"),
        provider_id_shape(IdKind.CUSTOMER),
        currency_shape("currency"),
        amount_range("billed_minor"),
        CheckConstraint("billed_minor > 0", name="billed_positive"),
        CheckConstraint(f"length(description) BETWEEN 1 AND {MAX_DESCRIPTION}", name="description_bounded"),
        CheckConstraint(f"position BETWEEN 0 AND {MAX_LINES - 1}", name="position_bounded"),
        CheckConstraint("part > 0", name="part_positive"),
        CheckConstraint(f"left_out IN ({quoted(LEFT_OUT)})", name="left_out_known"),
        CheckConstraint("num_nonnulls(invoice_id, position, billed_minor) IN (0, 3)", name="invoiced_as_a_whole"),
        CheckConstraint("num_nonnulls(period_start, period_end) IN (0, 2)", name="period_as_a_whole"),
        # What waits for its capture to end; and what waits for its period to end.
        Index(
            "invoiced_captures_under_way",
            "capture_id",
            postgresql_where=text("captured_at IS NULL AND left_out IS NULL"),
        ),
        Index(
            "invoiced_captures_to_invoice",
            "account",
            "period_start",
            "customer",
            "currency",
            postgresql_where=text("invoice_id IS NULL AND left_out IS NULL AND period_start IS NOT NULL"),
        ),
        Index(
            "invoiced_captures_by_period",
            "account",
            "customer",
            "currency",
            "period_start",
            postgresql_where=text("part IS NOT NULL"),
        ),
        # Whose texts an erasure removes.
        Index("invoiced_captures_by_customer", "customer"),
        Index("invoiced_captures_left_out", "capture_id", postgresql_where=text("left_out = 'nothing_taken'")),
    )

    capture_id: Mapped[str] = mapped_column(ForeignKey(Capture.id), primary_key=True)
    # As facts name it: `own` is that of our own key.
    account: Mapped[str] = mapped_column(String(255))
    customer: Mapped[str] = mapped_column(String(255))
    currency: Mapped[str] = mapped_column(String(3))
    # It may name a person, so it never leaves Postgres as a fact.
    description: Mapped[str] = mapped_column(Text)
    # On an invoice of its own, which was asked for with it; else it is collected with others of its period.
    at_once: Mapped[bool] = mapped_column(server_default=text("false"))
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # When the call that took the money was first sent. Null: the capture has not ended, as far as is known here.
    captured_at: Mapped[datetime | None]
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    # Which of the invoices of its customer, currency and period it is on: 1, and more if there are too many lines, or
    # it became known late.
    part: Mapped[int | None]
    invoice_id: Mapped[str | None] = mapped_column(ForeignKey(Invoice.id))
    position: Mapped[int | None]
    # What it took, less what was given back by then.
    billed_minor: Mapped[int | None]
    left_out: Mapped[str | None] = mapped_column(String(20))
