"""Failures of work, kept for those who have to judge it; and who has begun to look at work in quarantine."""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, String, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class WorkFailure(Table):
    """One failure: an attempt that ended with an error of ours, or the moment at which work went into quarantine.

    Written in the transaction that stores the failure. It holds what later transactions overwrite; what they keep is
    not repeated here: the fact that asked for the work, and the keys, parameters and answers of its calls.
    """

    __tablename__ = "work_failures"
    __table_args__ = (Index("work_failures_by_work", "work_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    work_id: Mapped[str] = mapped_column(String(40))
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Whether the work went into quarantine by it. Otherwise it was tried again.
    quarantined: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int]
    tries: Mapped[int]
    # The exception and its causes: classes and places, without messages and values. Empty if nothing was raised.
    errors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    # The calls of the work as they stood then, the newest last: states, counts, Stripe's request ids.
    calls: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    code_version: Mapped[str] = mapped_column(String(80))
    contracts_version: Mapped[int]


class QuarantineTouch(Table):
    """The first time that a person touched a piece of work in this stay in quarantine, by a command; and whose it is.

    A stay is named by its beginning, `state_since` of the work. Only commands of operators write it.
    """

    __tablename__ = "quarantine_touches"

    work_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    since: Mapped[datetime] = mapped_column(primary_key=True)
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
    touched_by: Mapped[str] = mapped_column(String(255))
    # Who looks at it; null if it was put back without being assigned.
    assignee: Mapped[str | None] = mapped_column(String(255))
