"""What the tables of operations have in common: an id, an account, a state, and a number for the newest fact."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.states import Life
from billing.tables.schema import Table


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
