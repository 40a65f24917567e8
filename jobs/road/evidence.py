"""What is kept at the moment at which work fails, so that somebody can judge it later.

A replay changes the states of calls, and a new release changes the code. So the row that is written here names the
errors, the calls as they stood, and the version of the code, in the same transaction as the failure. Work that does
not fail has no such row, and costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.tables.work_failures import WorkFailure
from jobs.logs import chain_of
from jobs.road.contracts import CONTRACTS_VERSION

ERRORS_MOST = 8
"""An exception and so many of its causes; each has at most 30 places (`jobs.logs`)."""
CALLS_MOST = 50
"""The newest calls of the work. An invoice with three drafts that were left behind has about twenty."""
SHOWN_MOST = 100

Errors = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """One failure of a piece of work, as it was kept."""

    at: datetime
    quarantined: bool
    reason: str | None
    attempts: int
    tries: int
    errors: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    code_version: str
    contracts_version: int


@cache
def code_version() -> str:
    """The version of the installed distribution; a checkout that is not installed has none."""
    try:
        return version("billing-reference")
    except PackageNotFoundError:
        return "not installed"


def errors_of(error: BaseException) -> Errors:
    """The exception and its causes as they are logged: class, SQLSTATE, constraint and places, without messages."""
    return tuple(islice(chain_of(error), ERRORS_MOST))


def failure(session: Session, work: Work, *, quarantined: bool, errors: Errors = ()) -> WorkFailure:
    """The row to be saved with a failed piece of work. The caller has changed the work and written its records."""
    return WorkFailure(
        work_id=work.id,
        quarantined=quarantined,
        reason=work.reason,
        attempts=work.attempts,
        tries=work.tries,
        errors=list(errors),
        calls=_calls(session, work.id),
        code_version=code_version(),
        contracts_version=CONTRACTS_VERSION,
    )


def failures_of(session: Session, work_id: str) -> list[Failed]:
    """What was kept of this piece of work, the oldest first; the newest `SHOWN_MOST`."""
    newest = select(WorkFailure).where(WorkFailure.work_id == work_id).order_by(WorkFailure.id.desc()).limit(SHOWN_MOST)
    return [
        Failed(
            at=row.happened_at,
            quarantined=row.quarantined,
            reason=row.reason,
            attempts=row.attempts,
            tries=row.tries,
            errors=row.errors,
            calls=row.calls,
            code_version=row.code_version,
            contracts_version=row.contracts_version,
        )
        for row in reversed(session.scalars(newest).all())
    ]


_KEPT = (
    Record.step,
    Record.generation,
    Record.state,
    Record.learned,
    Record.sends,
    Record.unanswered,
    Record.looks,
    Record.answer_status,
    Record.request_ids,
    Record.first_sent_at,
    Record.last_reported_at,
    Record.conclusion,
)


def _calls(session: Session, work_id: str) -> list[dict[str, Any]]:
    newest = select(*_KEPT).where(Record.work_id == work_id).order_by(Record.generation.desc()).limit(CALLS_MOST)
    rows: Sequence[Any] = session.execute(newest).all()
    return [dict(row._mapping) for row in reversed(rows)]
