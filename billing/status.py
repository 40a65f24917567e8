"""The status of a capture, a void or an invoice: its state, since when, and what happens next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, load_only

from billing.asking import callers_session
from billing.errors import InvalidText, UnknownEntity
from billing.operations import by_id, rules_of
from billing.shown_states import Doubt
from billing.states import RecordState, WorkState
from billing.tables.entities import Entity, Requested
from billing.tables.idempotency_records import Record
from billing.tables.work import Work


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is one of its row's own or a `Doubt`; what may follow what: docs/application.md.

    `final` when only an operator, or an answer that contradicts it, could still change it. `needs_decision` when
    nothing goes on before an operator has decided.
    """

    id: str
    state: str
    since: datetime
    next: str
    final: bool
    reason: str | None = None
    work: str | None = None
    needs_decision: bool = False
    refunds_minor: int | None = None
    """Of a capture: what was asked to be given back of it, in minor units, without refunds that gave nothing back."""


# The columns that an application's login may read: neither the keys nor what was sent.
_OF_A_RECORD = load_only(
    Record.operation_id,
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
    """The status of the operation with this id. Raises UnknownEntity, and InvalidRequest for wrong types."""
    session = callers_session(session)
    if not isinstance(entity_id, str):
        raise InvalidText("entity_id", f"must be the id of a receipt, as cap_..., not {type(entity_id).__name__}")
    # Postgres refuses half surrogates and NUL, so a text that cannot be an id is not sent to it.
    operation = by_id(entity_id) if entity_id.isascii() and entity_id.isprintable() else None
    # Rows that the caller's session loaded before are read again: an application may poll in one session.
    row = session.get(operation.table, entity_id, populate_existing=True) if operation else None
    if not isinstance(row, Requested):
        raise UnknownEntity(entity_id)
    records = session.scalars(
        select(Record).where(Record.operation_id == entity_id).order_by(Record.generation).options(_OF_A_RECORD),
        execution_options={"populate_existing": True},
    ).all()
    work = session.scalars(
        # Its own work is the oldest; what observes it came later (`billing.observing`).
        select(Work).where(Work.entity_id == entity_id).order_by(Work.id).limit(1).options(_OF_WORK),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return status_by(row, records, work)


def status_by(row: Entity, records: Sequence[Record], work: Work | None) -> Status:
    """The status of this row, by its records in the order of their generations and its newest work."""
    conflict = next((record for record in records if record.state == RecordState.CONFLICT), None)
    current = next((record for record in records if record.concluded_at is None), None)
    state, since = _state(row, records, current, conflict)
    final = state == row.state and row.life.is_final(row.state)
    return Status(
        id=row.id,
        state=state,
        since=since,
        next="nothing, this is final" if final else what_next(current, work, state),
        final=final,
        reason=row.reason or (_why_in_conflict(conflict, work) if conflict else None),
        work=work.state if work else None,
        needs_decision=not final and _needs_decision(current, work, state),
        refunds_minor=getattr(row, "refunds_minor", None),
    )


def _state(
    row: Entity, records: Sequence[Record], current: Record | None, conflict: Record | None
) -> tuple[str, datetime]:
    """The state that is shown, and since when. `shown_states.as_shown` says what may follow what."""
    if conflict is not None:
        return str(Doubt.CONFLICT), conflict.last_reported_at or conflict.created_at
    if row.life.is_final(row.state):
        return row.state, row.state_since
    if current is not None and _in_doubt(current):
        # In doubt since its first send, however often it was sent or looked at since.
        return str(Doubt.IN_DOUBT), current.first_sent_at or current.created_at
    # The first state means that no call was made yet. After the first call it is never shown again: not between two
    # calls, not while the work is held, and not if a call had no effect. Every later state says what is done at Stripe.
    if row.state == row.life.first and any(record.first_sent_at is not None for record in records):
        since = current.first_sent_at or current.created_at if current is not None else records[-1].concluded_at
        return str(Doubt.IN_PROGRESS), since or row.state_since
    return row.state, row.state_since


def _in_doubt(record: Record) -> bool:
    """A first send that is still in flight is no doubt. `unanswered` counts the call in flight, too."""
    in_the_air = record.state == RecordState.SENT and record.unanswered <= 1
    return record.state != RecordState.PLANNED and not in_the_air


def _needs_decision(current: Record | None, work: Work | None, state: str) -> bool:
    unsettled = current is not None and current.state == RecordState.UNSETTLED
    return state == Doubt.CONFLICT or unsettled or (work is not None and work.state == WorkState.QUARANTINED)


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
    if current is not None and current.look_at is not None and rules_of(current).once:
        if current.parked_at is None:
            return f"what the mail server answered too late is read, at {current.look_at:%Y-%m-%d %H:%M:%S} UTC"
        return (
            "needs a person: the mail server cannot be asked whether it took the message; its log shows it, then "
            f"`billing quarantine conclude {current.operation_id}`"
        )
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
