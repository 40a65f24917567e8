"""Makes the books of a month: reads the verified archive, compares it with Postgres, and asks every part."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from archive.closing import at_stripe
from archive.closing.books import Books
from archive.closing.parts import answered
from archive.closing.periods import Period
from archive.closing.reconciliation import Reconciliation, reconcile
from archive.copies.cache import Cache
from archive.format.manifests import Source
from billing import database
from billing.database import Transact
from billing.tables.closed_periods import ClosedPeriod

MOST_IN_QUARANTINE = 1_000
"""So much work is listed with its owner; a month with more has another problem."""


def draft(
    cache: Cache, ask: Transact, month: Period, source: Source, actor: str, progress: Callable[[int, int], None]
) -> Books:
    """The books as they would be if the month were closed now. `progress`: see `reconcile`.

    Raises what `Cache.bring` and `queries.ask` raise.
    """
    last_day = month.next_first_day - timedelta(days=1)
    evidence = {part.retention_class: part for part in cache.bring(since=month.first_day, until=last_day)}
    compared = reconcile(ask, month, {name: part.manifests for name, part in evidence.items()}, progress)
    would_be = ClosedPeriod(
        period=month.name,
        until=month.until,
        closed_at=ask(database.now),
        actor=actor,
        heads={name: [part.last, part.head] for name, part in sorted(evidence.items())},
        observed=_observed(compared) | {"quarantine": ask(_in_quarantine), "stripe": at_stripe.observed(ask, month)},
    )
    return _books(cache, month, source, would_be, is_draft=True)


def of_closed(cache: Cache, closed: ClosedPeriod, month: Period, source: Source) -> Books:
    """The books of a month that is closed: always the same. Raises what `queries.ask` raises."""
    return _books(cache, month, source, closed, is_draft=False)


def _books(cache: Cache, month: Period, source: Source, closed: ClosedPeriod, *, is_draft: bool) -> Books:
    newest = {name: number for name, (number, _) in closed.heads.items()}
    parts = tuple(answered(cache, month, newest))
    return Books(month, source.environment, source.installation, closed, parts, is_draft)


def _observed(compared: Reconciliation) -> dict[str, Any]:
    sides = {"postgres": compared.postgres, "archive": compared.archive}
    return {name: {"facts": dict(side.facts), "captured": dict(side.captured)} for name, side in sides.items()} | {
        "differences": compared.differences
    }


def _in_quarantine(session: Session) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in session.execute(_QUARANTINE, {"most": MOST_IN_QUARANTINE})]


_QUARANTINE = text(
    """
    SELECT w.entity_id AS id, w.contract, w.reason, t.assignee AS owner,
           to_char(w.state_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS since
      FROM billing.work AS w
      LEFT JOIN billing.quarantine_touches AS t ON t.work_id = w.id AND t.since = w.state_since
     WHERE w.state = 'quarantined' ORDER BY w.state_since, w.id LIMIT :most
    """
)
