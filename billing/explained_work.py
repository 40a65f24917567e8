"""The work and the calls of one operation, as `billing.explain` shows them, and what failed of its work."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.tables.work_failures import WorkFailure

FAILURES_MOST = 20


@dataclass(frozen=True, slots=True)
class ExplainedWork:
    """One row of `work`."""

    id: str
    contract: str
    version: int
    queue: str
    state: str
    state_since: datetime
    planned_at: datetime
    attempts: int
    due_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExplainedCall:
    """One generation of one step. `request_ids` are Stripe's: what its support asks for."""

    id: str
    step: str
    generation: int
    key: str
    method: str
    path: str
    state: str
    learned: str
    sends: int
    looks: int
    first_sent_at: datetime | None
    last_prepared_at: datetime | None
    last_reported_at: datetime | None
    look_at: datetime | None
    answer_status: int | None
    request_ids: list[str]
    conclusion: str | None
    concluded_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExplainedFailure:
    """One failure of its work. `billing quarantine show` has the places of its errors."""

    at: datetime
    work_id: str
    quarantined: bool
    reason: str | None
    errors: list[str]


def shown_work(work: Work) -> ExplainedWork:
    return ExplainedWork(
        id=work.id,
        contract=work.contract,
        version=work.version,
        queue=work.queue,
        state=work.state,
        state_since=work.state_since,
        planned_at=work.created_at,
        attempts=work.attempts,
        due_at=work.due_at,
        reason=work.reason,
    )


def shown_call(record: Record) -> ExplainedCall:
    return ExplainedCall(
        id=record.id,
        step=record.step,
        generation=record.generation,
        key=record.key,
        method=record.method,
        path=record.path,
        state=record.state,
        learned=record.learned,
        sends=record.sends,
        looks=record.looks,
        first_sent_at=record.first_sent_at,
        last_prepared_at=record.last_prepared_at,
        last_reported_at=record.last_reported_at,
        look_at=record.look_at,
        answer_status=record.answer_status,
        request_ids=record.request_ids,
        conclusion=record.conclusion,
        concluded_at=record.concluded_at,
    )


def failures_of(session: Session, works: Sequence[Work]) -> list[ExplainedFailure]:
    """The newest of them, in order."""
    newest = select(WorkFailure).where(WorkFailure.work_id.in_([work.id for work in works]))
    found = session.scalars(newest.order_by(WorkFailure.id.desc()).limit(FAILURES_MOST)).all() if works else []
    return [
        ExplainedFailure(
            each.happened_at, each.work_id, each.quarantined, each.reason, [str(error["kind"]) for error in each.errors]
        )
        for each in reversed(found)
    ]
