"""The inbox: Stripe's events, each once, until it is known which operation they are about."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import CheckConstraint, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.states import Life
from billing.tables.schema import Table, known_state

EVENT_ID = r"^evt_[A-Za-z0-9_]{1,200}$"
EVENT_TYPE = r"^[a-z][a-z0-9_]{0,39}([.][a-z0-9_]{1,40}){1,5}$"


class ReceivedEvent(Table):
    """One event of Stripe's: which objects it names, and never what it says of them, because Stripe is asked anyway."""

    life: ClassVar[Life] = states.EVENT
    __tablename__ = "received_events"
    __table_args__ = (
        Index("received_events_to_match", "match_at", postgresql_where=text("state = 'received'")),
        # Found by an id of Stripe's, and forgotten by age.
        Index("received_events_object", "object_id"),
        Index("received_events_received_at", "received_at"),
        # What was heard about an operation (`billing.stripes_side`).
        Index("received_events_matched", "matched_with", postgresql_where=text("matched_with IS NOT NULL")),
        # Those that name an operation of ours which is not known here: an alarm.
        Index(
            "received_events_strange",
            "received_at",
            postgresql_where=text("state = 'unknown' AND (operation_id IS NOT NULL OR caused_by IS NOT NULL)"),
        ),
        CheckConstraint(f"id ~ '{EVENT_ID}'", name="id_shape"),
        CheckConstraint(f"type ~ '{EVENT_TYPE}'", name="type_shape"),
        known_state(states.EVENT),
    )

    # Stripe's own, so a second delivery of the same event changes nothing.
    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    type: Mapped[str] = mapped_column(String(255))
    # A thin event (v2) names its object, and says nothing else about it.
    thin: Mapped[bool] = mapped_column(server_default=text("false"))
    # The connected account, as in the rows of operations; null for our own.
    account: Mapped[str | None] = mapped_column(String(255))
    livemode: Mapped[bool]
    api_version: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime]
    object_id: Mapped[str | None] = mapped_column(String(255))
    payment_intent: Mapped[str | None] = mapped_column(String(255))
    charge: Mapped[str | None] = mapped_column(String(255))
    invoice: Mapped[str | None] = mapped_column(String(255))
    # The operation that the object's metadata names, and the one whose key caused the event, if it was a call of ours.
    operation_id: Mapped[str | None] = mapped_column(String(40))
    caused_by: Mapped[str | None] = mapped_column(String(40))
    # How it came: by a webhook, or by a sweep of what webhooks missed.
    source: Mapped[str] = mapped_column(String(20))
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    state: Mapped[str] = mapped_column(String(20), server_default=states.EVENT.first)
    # When a relay looks for its operation next; null once it has stopped.
    match_at: Mapped[datetime | None] = mapped_column(server_default=func.clock_timestamp())
    matched_with: Mapped[str | None] = mapped_column(String(40))
