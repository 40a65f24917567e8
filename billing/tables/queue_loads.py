"""How loaded each queue is. A relay measures it; workers hold back what may wait, and bulk requests ask for room."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class QueueLoad(Table):
    """One row for each queue, overwritten by each measurement (`jobs.road.load`)."""

    __tablename__ = "queue_loads"

    queue: Mapped[str] = mapped_column(String(40), primary_key=True)
    measured_at: Mapped[datetime]
    # Requests that no call was made for yet, counted up to what has room (`billing.admission`).
    waiting: Mapped[int]
    # For how long the oldest of those that come next has waited.
    lag_s: Mapped[float]
    # Operations whose first call was prepared in the last `load.WINDOW_S` seconds.
    started: Mapped[int]
    # How many are started in a second while enough wait: the last known capacity.
    starts_per_s: Mapped[float]
    # Since when its lag is over its SLO although work is started; null if it is not.
    behind_since: Mapped[datetime | None]
