"""Find the facts for the next batch of a class, page by page: a long backlog costs no more than a short one.

A batch holds facts of one class and one UTC day. A day without facts gets a batch without facts, so that each class
has a manifest for every day, and a class whose archiver stopped is told apart from a quiet one.

Within a class, the facts of one entity are numbered in the order of their ids, which is the order in which they were
written, because a writer holds the entity's lock. So a fact waits while an earlier fact of its entity is not planned
yet or belongs to another day. (A relay may stamp the later fact first, and a clock may step back over midnight.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from archive.policy.retention import CLASSES
from archive.writing import set_aside
from billing.tables.facts import RETENTION_CLASS

Entity: TypeAlias = tuple[str, str]

ENOUGH = 1_000
"""So many facts of a class are worth an object soon."""
SOONER = 10
"""They wait for a tenth of the time. So a busy class is archived within a minute, with the default of ten, and a quiet
one makes 144 objects a day and not 1,440: how many objects there are decides how long queries take."""

PAGES = 3
"""After this many pages, a batch is made of what was found, even if it could be larger."""


@dataclass(frozen=True, slots=True)
class Due:
    """A class whose oldest fact has waited long enough, and the number of its newest batch when that was seen."""

    retention_class: str
    newest_batch: int


@dataclass(slots=True)
class Found:
    """The facts of one class and one UTC day that may be archived now, in the order of their ids."""

    due: Due
    day: date | None = None
    facts: list[int] = field(default_factory=list)
    troubled: list[tuple[int, str]] = field(default_factory=list)
    """Facts met during the search that cannot be archived, each with its code of `set_aside.REASONS`."""
    pages: int = 0


def due(session: Session, wait_s: float) -> list[Due]:
    """Classes without a claimed batch, whose oldest fact has waited for `wait_s`, or for a tenth of it if `ENOUGH`
    facts wait; the oldest fact's class first."""
    values = {"classes": list(CLASSES), "wait_s": wait_s, "soon_s": wait_s / SOONER, "enough": ENOUGH}
    return [Due(*row) for row in session.execute(_DUE, values)]


@dataclass(frozen=True, slots=True)
class Quiet:
    """A class of which no planned fact waits and that has no batch for yesterday, or a later day."""

    retention_class: str
    yesterday: date


def quiet(session: Session, classes: Iterable[str] = tuple(CLASSES)) -> list[Quiet]:
    """Those of these classes, without a claimed batch, that need a batch without facts for yesterday (UTC)."""
    return [Quiet(*row) for row in session.execute(_QUIET, {"classes": list(classes)})]


def search(session: Session, rows: int, *, due: Due, wait_s: float) -> Found:
    """The oldest facts of this class, about `rows` of them; none if the oldest has not waited for a tenth of `wait_s`.

    Run it in one snapshot. Otherwise an earlier fact of an entity, planned or committed while a later one is found,
    would be passed over.
    """
    found, held, after = Found(due), dict[Entity, int](), 0
    values: dict[str, Any] = {"retention_class": due.retention_class, "soon_s": wait_s / SOONER}
    while page := _page(session, rows, _WAITING, after=after, **values):
        for early in _unplanned(session, rows, after, page[-1].id):
            held.setdefault((early.entity_type, early.entity_id), early.id)
        for row in page:
            entity_of = (row.entity_type, row.entity_id)
            if row.trouble is not None:
                found.troubled.append((row.id, row.trouble))
            elif held.get(entity_of, row.id) < row.id:
                pass  # an earlier fact of its entity is not archived yet
            elif found.day is None and row.young:
                return found
            elif found.day in (None, row.day):
                found.day = row.day
                found.facts.append(row.id)
            else:
                held.setdefault(entity_of, row.id)
        after = page[-1].id
        found.pages += 1
        if len(found.facts) >= rows or (found.facts and found.pages >= PAGES):
            break
    return found


def _unplanned(session: Session, rows: int, after: int, before: int) -> Iterator[Row[Any]]:
    """The facts between these two ids that no relay has planned, of every class."""
    while page := _page(session, rows, _UNPLANNED, after=after, before=before):
        yield from page
        after = page[-1].id


def _page(session: Session, rows: int, statement: TextClause, **values: Any) -> Sequence[Row[Any]]:
    return session.execute(statement, {"rows": rows, **values}).all()


# A time ahead of the clock is not young: the clock may have been set back, and could need long to reach it.
_YOUNG = "happened_at BETWEEN clock_timestamp() - make_interval(secs => {}) AND clock_timestamp()"
_SOON = _YOUNG.format(":soon_s")
_IN_THE_BACKLOG = "batch_no IS NULL AND planned_version IS NOT NULL"
_DUE = text(
    f"""
    SELECT c.class, coalesce(newest.number, 0)
      FROM unnest(CAST(:classes AS text[])) AS c (class)
      LEFT JOIN LATERAL (SELECT number, state FROM billing.archive_batches AS b WHERE b.class = c.class
                          ORDER BY number DESC LIMIT 1) AS newest ON true
      JOIN LATERAL (SELECT id, {_SOON} AS very_young, {_YOUNG.format(":wait_s")} AS young
                      FROM billing.facts WHERE {_IN_THE_BACKLOG}
                       AND {RETENTION_CLASS} = c.class ORDER BY id LIMIT 1) AS oldest ON true
     WHERE newest.state IS DISTINCT FROM 'claimed' AND NOT oldest.very_young
       AND (NOT oldest.young OR :enough <= (SELECT count(*) FROM (SELECT FROM billing.facts WHERE {_IN_THE_BACKLOG}
                                               AND {RETENTION_CLASS} = c.class LIMIT :enough) AS waiting))
     ORDER BY oldest.id
    """
)
_QUIET = text(
    f"""
    SELECT c.class, day.yesterday
      FROM unnest(CAST(:classes AS text[])) AS c (class)
      CROSS JOIN (SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) - 1 AS yesterday) AS day
      LEFT JOIN LATERAL (SELECT event_date, state FROM billing.archive_batches AS b WHERE b.class = c.class
                          ORDER BY number DESC LIMIT 1) AS newest ON true
     WHERE newest.state IS DISTINCT FROM 'claimed' AND (newest.event_date < day.yesterday) IS NOT FALSE
       AND NOT EXISTS (SELECT FROM billing.facts WHERE {_IN_THE_BACKLOG} AND {RETENTION_CLASS} = c.class)
    """
)
# The day is computed only for facts without trouble: a time may be infinite, or before the year 1.
_WAITING = text(
    f"""
    SELECT id, entity_type, entity_id, trouble, young,
           CASE WHEN trouble IS NULL THEN CAST(happened_at AT TIME ZONE 'UTC' AS date) END AS day
      FROM (SELECT id, entity_type, entity_id, happened_at, {_SOON} AS young, {set_aside.TROUBLE} AS trouble
              FROM billing.facts
             WHERE {_IN_THE_BACKLOG} AND {RETENTION_CLASS} = :retention_class AND id > :after
             ORDER BY id LIMIT :rows) AS page
     ORDER BY id
    """
)
_UNPLANNED = text(
    "SELECT id, entity_type, entity_id FROM billing.facts"
    " WHERE planned_version IS NULL AND id > :after AND id < :before ORDER BY id LIMIT :rows"
)
