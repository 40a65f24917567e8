"""A period is a month in UTC. Closing it makes Postgres refuse every new fact that is dated into it or before it.

`standing` says what a person must know before, `close` does it, and the function `billing.close_period` looks at
everything again under a lock, with the owner's rights.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from archive.errors import BadQuestion, NotClosable
from billing import database
from billing.tables.closed_periods import ClosedPeriod

_SHAPE = re.compile(r"(20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])")
_NOT_NOW = "55000"
"""object_not_in_prerequisite_state: the function's own refusals. Source: postgresql.org/docs/16/errcodes-appendix."""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One month, by its first day."""

    first_day: date

    @property
    def name(self) -> str:
        return f"{self.first_day:%Y-%m}"

    @property
    def since(self) -> datetime:
        return datetime(self.first_day.year, self.first_day.month, 1, tzinfo=UTC)

    @property
    def until(self) -> datetime:
        """The first moment after it."""
        return datetime.combine(self.next_first_day, datetime.min.time(), UTC)

    @property
    def next_first_day(self) -> date:
        return (self.first_day.replace(day=28) + timedelta(days=4)).replace(day=1)

    @property
    def next(self) -> "Period":
        return Period(self.next_first_day)


def period(name: str) -> Period:
    """Raises BadQuestion if it is not the name of a month."""
    if _SHAPE.fullmatch(name) is None:
        raise BadQuestion(f"{name!r} is no month; write it as 2026-10")
    return Period(date.fromisoformat(f"{name}-01"))


def closed(session: Session, *, month: Period) -> ClosedPeriod | None:
    """Its row if this month was closed."""
    return session.scalars(select(ClosedPeriod).where(ClosedPeriod.period == month.name)).one_or_none()


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands in the way of closing a month. Counts end at 1,000."""

    over: bool
    closed_later: str | None
    unplanned: int
    unarchived: int
    set_aside: int
    unfinished_batches: int

    @property
    def obstacles(self) -> list[str]:
        """One line for each, with what to do; none if the month can be closed."""
        return [
            line
            for stands, line in (
                (not self.over, "the month is not over"),
                (self.closed_later, f"{self.closed_later} is closed already, and with it everything before"),
                (self.unplanned, f"{_some(self.unplanned)} of it wait for a relay: billing relay"),
                (self.unarchived, f"{_some(self.unarchived)} of it are not archived: billing archive run --once"),
                (
                    self.set_aside,
                    f"{_some(self.set_aside)} of it cannot be archived: billing archive status",
                ),
                (self.unfinished_batches, "an archiver is writing a batch of it: wait, or billing archive run --once"),
            )
            if stands
        ]


def standing(session: Session, *, month: Period) -> Standing:
    """How it is with this month now. Nothing is locked, so it may be otherwise a moment later."""
    row = session.execute(_STANDING, {"until": month.until, "day": month.next_first_day, "name": month.name}).one()
    return Standing(**row._mapping)


def close(session: Session, *, closing: ClosedPeriod) -> None:
    """Close the month of this row in this transaction; Postgres writes the row. It holds the table of facts for a
    moment, so end the transaction soon.

    Raises NotClosable if something stands in the way, also what came since `standing` was asked.
    """
    values = {"name": closing.period, "actor": closing.actor}
    values |= {"heads": json.dumps(closing.heads), "observed": json.dumps(closing.observed)}
    try:
        session.execute(_CLOSE, values)
    except DBAPIError as error:
        if database.sqlstate(error) != _NOT_NOW:
            raise
        raise NotClosable(closing.period, str(error.orig).splitlines()[0]) from None


def _some(count: int) -> str:
    return f"{count} fact" if count == 1 else f"{count}{' or more' if count >= 1000 else ''} facts"


# Each count reads a small index: of facts that no relay has planned, that are not archived, and that are set aside.
_STANDING = text(
    """
    SELECT clock_timestamp() >= :until AS over,
           (SELECT min(period) FROM billing.closed_periods WHERE until >= :until AND period <> :name) AS closed_later,
           (SELECT count(*) FROM (SELECT FROM billing.facts WHERE planned_version IS NULL AND happened_at < :until
                                   LIMIT 1000) AS f) AS unplanned,
           (SELECT count(*) FROM (SELECT FROM billing.facts WHERE batch_no IS NULL AND planned_version IS NOT NULL
                                     AND happened_at < :until LIMIT 1000) AS f) AS unarchived,
           (SELECT count(*) FROM (SELECT FROM billing.facts WHERE batch_no = 0 AND happened_at < :until
                                   LIMIT 1000) AS f) AS set_aside,
           (SELECT count(*) FROM billing.archive_batches WHERE state = 'claimed' AND event_date < :day)
               AS unfinished_batches
    """
)
_CLOSE = text("SELECT billing.close_period(:name, :actor, CAST(:heads AS jsonb), CAST(:observed AS jsonb))")
