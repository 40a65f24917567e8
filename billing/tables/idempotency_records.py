"""The protocol's records: one row for each provider call and each generation of its key."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import CheckConstraint, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.states import Life
from billing.tables.schema import Table, known_state


class Record(Table):
    """One generation of one provider call: its key, what is sent under it, and everything learned since.

    The state `sent` is committed before the request leaves, so it means "may have been sent".
    """

    life: ClassVar[Life] = states.RECORD
    __tablename__ = "idempotency_records"
    __table_args__ = (
        # One open record per step, and per object at Stripe. In doubt, undecided, in conflict and unsettled are open.
        Index(
            "idempotency_records_one_open_per_step",
            "operation_id",
            "step",
            unique=True,
            postgresql_where=text("concluded_at IS NULL"),
        ),
        Index(
            "idempotency_records_one_open_per_object",
            "account",
            "provider_object",
            unique=True,
            postgresql_where=text("concluded_at IS NULL AND provider_object IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        UniqueConstraint("operation_id", "generation"),
        Index(
            "idempotency_records_to_look_at",
            "queue",
            "look_at",
            postgresql_where=text("concluded_at IS NULL AND look_at IS NOT NULL"),
        ),
        CheckConstraint("key <> '' AND length(key) <= 255", name="key_usable"),
        known_state(states.RECORD),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    operation_id: Mapped[str] = mapped_column(String(40))
    step: Mapped[str] = mapped_column(String(80))
    generation: Mapped[int]
    work_id: Mapped[str] = mapped_column(String(40), index=True)
    queue: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(300), unique=True)
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(Text)
    # The encoded parameters exactly as they are sent, every time this generation is sent.
    body: Mapped[str] = mapped_column(Text)
    # Only versions before migration 0011 write it. A later migration drops it.
    fingerprint: Mapped[str | None] = mapped_column(String(64), deferred=True)
    account: Mapped[str | None] = mapped_column(String(255))
    livemode: Mapped[bool]
    api_version: Mapped[str] = mapped_column(String(40))
    provider_object: Mapped[str | None] = mapped_column(String(255))
    deadline: Mapped[datetime | None]

    state: Mapped[str] = mapped_column(String(20), server_default=states.RECORD.first)
    learned: Mapped[str] = mapped_column(String(40), server_default="nothing")
    sends: Mapped[int] = mapped_column(server_default=text("0"))
    # Sends that may have had an effect which no answer has shown. Raised at the prepare: it counts the call in flight.
    unanswered: Mapped[int] = mapped_column(server_default=text("0"))
    # Sends whose crew thread has not reported yet: its process may be dead, or asleep and about to send.
    unreported: Mapped[int] = mapped_column(server_default=text("0"))
    server_errors: Mapped[int] = mapped_column(server_default=text("0"))
    replayed: Mapped[bool] = mapped_column(server_default=text("false"))
    look_only: Mapped[bool] = mapped_column(server_default=text("false"))
    margin_looked: Mapped[bool] = mapped_column(server_default=text("false"))
    looks: Mapped[int] = mapped_column(server_default=text("0"))
    first_sent_at: Mapped[datetime | None]
    last_prepared_at: Mapped[datetime | None]
    last_reported_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    # When the last reported look began. It shows the state of that moment.
    looked_at: Mapped[datetime | None]
    # Since when it is undecided. Not the state `parked` of work, which means an unknown version of its contract.
    parked_at: Mapped[datetime | None]

    fence: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    lease_s: Mapped[float | None]

    answer_status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(deferred=True)
    request_ids: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    # The ids that a step which lists objects has found; null for every other step.
    found_objects: Mapped[list[str] | None]
    conclusion: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    concluded_at: Mapped[datetime | None]
