"""Runs of scheduled functions: one row for each time at which a schedule was due, or was run by hand."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.tables.entities import Entity
from billing.tables.schema import known_state, own_id_shape


class ScheduledRun(Entity):
    """One run. It has no account: nothing is changed at Stripe by it."""

    life = states.RUN
    __tablename__ = "scheduled_runs"
    __table_args__ = (
        # Any number of relays make a tick once. The newest tick of a schedule says which have come since.
        UniqueConstraint("schedule", "at"),
        CheckConstraint("schedule ~ '^[a-z_]+$'", name="schedule_shape"),
        own_id_shape("run"),
        known_state(states.RUN),
    )

    state: Mapped[str] = mapped_column(String(20), server_default=states.RUN.first)
    schedule: Mapped[str] = mapped_column(String(60))
    at: Mapped[datetime]
    # How many ticks before it came while no relay ran or the schedule was paused, and got no run.
    missed: Mapped[int] = mapped_column(server_default=text("0"))
    # How far it has come, if it reads page by page: the last id that it has read.
    position: Mapped[str | None] = mapped_column(String(255))
    # The operator who had it run by hand. Null: its time had come.
    asked_by: Mapped[str | None] = mapped_column(String(255))
