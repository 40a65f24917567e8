"""Months whose books are closed: no new fact can be dated into one."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, String, func
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class ClosedPeriod(Table):
    """One row for each month that was closed, written by `billing.close_period` and never changed.

    With it the function puts a constraint on the facts: one that is not archived yet cannot have happened in a closed
    month (`facts_period_open`).
    """

    __tablename__ = "closed_periods"
    __table_args__ = (CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name="period_shape"),)

    # 2026-10: a month in UTC.
    period: Mapped[str] = mapped_column(String(7), primary_key=True)
    until: Mapped[datetime]
    closed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str] = mapped_column(String(255))
    # How far the archive was: for each class the number and the digest of its newest manifest. The report of the month
    # is made of what lies before, so it always has the same bytes.
    heads: Mapped[dict[str, Any]]
    # What only Postgres knew at that moment, and the report shows: counts that were compared, who looks after what.
    observed: Mapped[dict[str, Any]]
