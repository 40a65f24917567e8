"""Work: what a relay has planned and a worker still has to do."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.states import Life
from billing.tables.schema import Table, known_state
from billing.traceparent import LENGTH


class Work(Table):
    """One piece of work: a contract to be carried out once, when it is due, by any free worker.

    The state `parked` means that no process here knows this version of its contract. A call that stays undecided is
    called parked, too, but its work is `waiting`.
    """

    life: ClassVar[Life] = states.WORK
    __tablename__ = "work"
    __table_args__ = (
        Index("work_ready", "queue", "urgency", "id", postgresql_where=text("state = 'ready'")),
        Index("work_due", "due_at", postgresql_where=text("state = 'waiting' AND due_at IS NOT NULL")),
        Index("work_running", "id", postgresql_where=text("state = 'running'")),
        Index("work_stopped", "state", "id", postgresql_where=text("state IN ('held', 'parked', 'quarantined')")),
        Index("work_held", "urgency", "id", postgresql_where=text("state = 'held'")),
        known_state(states.WORK),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    contract: Mapped[str] = mapped_column(String(60))
    version: Mapped[int]
    # Written by versions before migration 0013, which also select it; read by none. A later migration drops it.
    arguments: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), deferred=True)
    queue: Mapped[str] = mapped_column(String(40))
    entity_id: Mapped[str] = mapped_column(String(40), index=True)
    scopes: Mapped[list[str]]
    state: Mapped[str] = mapped_column(String(20))
    due_at: Mapped[datetime | None]
    urgency: Mapped[datetime]
    # Crashes and unknown errors of its present step; an outage is limited by time, not by a number of attempts.
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    # The record of its current call, which has the lease.
    record_id: Mapped[str | None] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(Text)
    dedupe_key: Mapped[str] = mapped_column(String(200), unique=True)
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    # As in the fact that it was planned from.
    traceparent: Mapped[str | None] = mapped_column(String(LENGTH))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())
