"""Where our rows and Stripe's records say different things: one row for each class and what it is about."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from billing import states
from billing.states import Life
from billing.tables.schema import Table, known_state, own_id_shape


class MoneyDifference(Table):
    """One difference. It is found again by its class and subject, so each pass writes it once, however often it runs.

    `subject` is the id of our operation, or Stripe's id of what no operation of ours is known for. `what` says both
    sides, with amounts in minor units. `closed_by` and `closed_because` are those of the last person who closed it.
    """

    life: ClassVar[Life] = states.DIFFERENCE
    __tablename__ = "differences"
    __table_args__ = (
        UniqueConstraint("class", "subject"),
        own_id_shape("dif"),
        known_state(states.DIFFERENCE),
        Index("differences_open", "class", "first_seen_at", postgresql_where=text("state = 'open'")),
        Index("differences_by_subject", "subject"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column("class", String(40))
    subject: Mapped[str] = mapped_column(String(255))
    stripe_id: Mapped[str | None] = mapped_column(String(255))
    account: Mapped[str] = mapped_column(String(255))
    amount_minor: Mapped[int | None]
    currency: Mapped[str | None] = mapped_column(String(3))
    what: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), server_default=states.DIFFERENCE.first)
    state_since: Mapped[datetime]
    # Since it is open without a pause; and by the last pass that found it.
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    closed_by: Mapped[str | None] = mapped_column(String(255))
    closed_because: Mapped[str | None] = mapped_column(Text)
