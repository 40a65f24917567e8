"""The status of a capture or an invoice: its state, since when, and what happens next."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session, load_only

from billing.asking import callers_session
from billing.errors import InvalidText, UnknownEntity
from billing.operations import by_id
from billing.states import RecordState, WorkState
from billing.tables.entities import Requested
from billing.tables.idempotency_records import Record
from billing.tables.work import Work


class Doubt(StrEnum):
    """States that a row does not store: they follow from the records of its calls."""

    IN_PROGRESS = "in_progress"
    IN_DOUBT = "in_doubt"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is one of its row's own (billing/states.py), or a Doubt; `final` when nothing will change it any more."""

    id: str
    state: str
    since: datetime
    next: str
    final: bool
    reason: str | None = None
    work: str | None = None


# The columns that an application's login may read: neither the keys nor what was sent.
_OF_A_RECORD = load_only(
    Record.step,
    Record.state,
    Record.learned,
    Record.unanswered,
    Record.first_sent_at,
    Record.last_prepared_at,
    Record.last_reported_at,
    Record.look_at,
    Record.parked_at,
    Record.conclusion,
    Record.created_at,
    Record.concluded_at,
)
_OF_WORK = load_only(Work.state, Work.due_at, Work.reason)


def status(session: Session, entity_id: str) -> Status:
    """The status of the capture or invoice with this id. Raises UnknownEntity, and InvalidRequest for wrong types."""
    session = callers_session(session)
    if not isinstance(entity_id, str):
        raise InvalidText(
            "entity_id", f"must be the id of a receipt, cap_... or inv_..., not {type(entity_id).__name__}"
        )
    # Postgres refuses half surrogates and NUL, so a text that cannot be an id is not sent to it.
    operation = by_id(entity_id) if entity_id.isascii() and entity_id.isprintable() else None
    row = session.get(operation.table, entity_id) if operation else None
    if not isinstance(row, Requested):
        raise UnknownEntity(entity_id)
    records = session.scalars(
        select(Record).where(Record.operation_id == entity_id).order_by(Record.generation).options(_OF_A_RECORD)
    ).all()
    work = session.scalars(
        select(Work).where(Work.entity_id == entity_id).order_by(Work.id.desc()).limit(1).options(_OF_WORK)
    ).one_or_none()
    conflict = next((record for record in records if record.state == RecordState.CONFLICT), None)
    current = next((record for record in records if record.concluded_at is None), None)
    state: str
    if conflict is not None:
        state, since = Doubt.CONFLICT, conflict.last_reported_at or conflict.created_at
    elif row.life.is_final(row.state) or current is None or current.state == RecordState.PLANNED:
        state, since = row.state, row.state_since
    else:
        # `unanswered` counts the call in flight, too: more than 1 means that an earlier send is in doubt.
        sent = current.state == RecordState.SENT and current.unanswered <= 1
        state = Doubt.IN_PROGRESS if sent else Doubt.IN_DOUBT
        # In doubt since its first send, however often it was sent or looked at since.
        since = (current.last_prepared_at if sent else current.first_sent_at) or current.created_at
    final = state == row.state and row.life.is_final(row.state)
    return Status(
        id=entity_id,
        state=str(state),
        since=since,
        next="nothing, this is final" if final else what_next(current, work, state),
        final=final,
        reason=row.reason or (_why_in_conflict(conflict, work) if conflict else None),
        work=work.state if work else None,
    )


def _why_in_conflict(record: Record, work: Work | None) -> str:
    """If a late answer contradicts a concluded record, the record keeps its old conclusion, and the work has the
    reason."""
    if record.concluded_at is not None and work is not None and work.reason:
        return work.reason
    return record.conclusion or record.learned


def what_next(current: Record | None, work: Work | None, state: str) -> str:
    """What happens next, in one sentence."""
    if state == Doubt.CONFLICT:
        return "needs a decision: Stripe holds something other than was asked"
    if current is not None and current.state == RecordState.UNSETTLED:
        return "needs a decision: an answer came that could not be applied; it is kept"
    if current is not None and current.look_at is not None:
        parked = " (undecided so far)" if current.parked_at else ""
        return f"Stripe is asked what happened, at {current.look_at:%Y-%m-%d %H:%M:%S} UTC{parked}"
    if work is None:
        return "a relay plans the work"
    match work.state:
        case WorkState.READY:
            return "a worker will claim it"
        case WorkState.RUNNING:
            return f"the call '{current.step}' is in flight" if current else "a worker has it"
        case WorkState.WAITING if work.due_at is not None:
            return f"a worker will claim it again at {work.due_at:%Y-%m-%d %H:%M:%S} UTC ({work.reason or 'retry'})"
        case WorkState.HELD:
            return f"nothing until the switch is released ({work.reason})"
        case WorkState.QUARANTINED:
            return f"needs a decision ({work.reason}): `billing quarantine show {work.id}`"
        case WorkState.PARKED:
            return "nothing until a worker knows this version of the contract"
        case _:
            return "nothing is planned"
