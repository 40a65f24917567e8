"""Work that needs a decision: an operator lists it, and puts it back with a reason.

Before work that was put back sends anything, it looks at what may have happened at Stripe. The protocol's table then
decides what comes next. If the look finds the same as before, the work is quarantined again.

* Attempts used up: they start again at 0. The records stay as they are, and the protocol goes on from them.
* An answer that could not be applied (`unsettled`), or a conflict in a call that is not concluded: the record
  becomes in doubt, may only be looked at, and its key is never sent again.
* A conflict in a call that was concluded (for example a late success of a disproved key): its conclusion is valid
  again, as history. If a later call of this operation is open, that call is looked at before it is sent again, and
  the look finds what the late one did. If no call is open and the operation failed here (the money may have moved
  after all), the concluded call is opened again for a look, and the capture is `requested` until then. That is
  refused if another capture has taken the authorization meanwhile: then an operator must settle both at Stripe.
  An invoice that failed stays refused; see `reopen_invoice`.

A refused invoice is not in quarantine: its work is done. `reopen_invoice` has it made again, under a new generation.
That is another decision than to try once more.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import database, effects, row_io, store
from billing.errors import InvalidRequest, UnknownEntity
from billing.explain import Explanation, explain_one
from billing.facts import new_fact
from billing.idempotency import lease_alive
from billing.learned import Learned
from billing.operations import by_id, operation_of
from billing.records import ABSENT, DISCARDED, RULED_OUT
from billing.states import RecordState, WorkState, set_state
from billing.steps import LoadedOperation
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.texts import plain_text
from jobs.road import work_queue
from jobs.road.evidence import Failed, failures_of
from jobs.road.quarantine_list import Quarantined, described, in_quarantine, touched


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is known about one piece of work that needs a decision. `explanation` is None if no application asked
    for its operation, or its row is gone."""

    work: Quarantined
    failures: list[Failed]
    explanation: Explanation | None


@dataclass(frozen=True, slots=True)
class Undecided:
    """One call that looks could not decide so far (`parked_at` of its record). Its work is waiting, not parked: Stripe
    is asked again at `look_at`."""

    id: str
    entity_id: str
    step: str
    generation: int
    since: datetime
    sent: datetime | None
    looks: int
    look_at: datetime | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was put back, and what was done to its calls, each in one sentence."""

    work_id: str
    entity_id: str
    done: list[str]


def show(session: Session, work_id: str) -> Shown:
    """Everything about one piece of work, in quarantine or not any more. Raises UnknownEntity."""
    work = session.get(Work, work_id)
    if work is None:
        raise UnknownEntity(work_id)
    try:
        explanation = explain_one(session, work.entity_id)
    except UnknownEntity:
        explanation = None
    return Shown(described(session, work), failures_of(session, work_id), explanation)


def undecided(session: Session, most: int = 100) -> list[Undecided]:
    """Undecided calls, the longest undecided first. They need no decision, but an operator should know of them."""
    rows = session.scalars(
        select(Record)
        .where(Record.concluded_at.is_(None), Record.parked_at.is_not(None))
        .order_by(Record.parked_at, Record.id)
        .limit(most)
    )
    return [
        Undecided(r.id, r.operation_id, r.step, r.generation, r.parked_at, r.first_sent_at, r.looks, r.look_at)
        for r in rows
        if r.parked_at is not None
    ]


def replay(session: Session, work_id: str, *, actor: str, reason: str) -> Replayed:
    """Put quarantined work back, under the locks of work, operation and records. The fact names actor and reason.

    Raises UnknownEntity, and InvalidRequest when it is not in quarantine or a call of it may be in flight.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    work = in_quarantine(session, work_id)
    loaded = operation_under_lock(session, work)
    now = database.now(session)
    if any(lease_alive(record, now) for record in loaded.records):
        raise InvalidRequest(work.entity_id, "may have a call in flight; try again in a minute")
    contradicted = loaded.in_conflict
    touched(session, work, by=actor)
    done = [_put_right(session, loaded, record) for record in loaded.records if record.state in _NEEDS_DECISION]
    work.attempts = 0
    work_queue.move(work, WorkState.READY, now, reason=f"replayed by {actor}")
    facts = [new_fact(loaded.row, "replayed", actor=actor, reason=reason, work_id=work.id, done=done)]
    if contradicted and loaded.open_record is None:
        # Every other decision is followed by a fact when the operation ends. Here it has ended already.
        facts.append(new_fact(loaded.row, "upheld", actor=actor))
    row_io.save(session, [work, loaded.row, *loaded.records], facts)
    return Replayed(work.id, work.entity_id, done or ["its attempts start again"])


def reopen_invoice(session: Session, invoice_id: str, *, actor: str, reason: str) -> Replayed:
    """As `reopen`, of an invoice."""
    return reopen(session, invoice_id, actor=actor, reason=reason, told="a new draft is made under a new key")


def reopen(
    session: Session, operation_id: str, *, actor: str, reason: str, told: str = "it is tried again under a new key"
) -> Replayed:
    """Have a refused operation tried again: its next call has a new generation. The fact names actor and reason.

    Raises UnknownEntity, and InvalidRequest when it is not refused or was never planned.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    # Its own work is the oldest; what observes it came later.
    work_id = session.scalar(select(Work.id).where(Work.entity_id == operation_id).order_by(Work.id).limit(1))
    operation = by_id(operation_id)
    if work_id is None or operation is None or operation.reopen is None:
        raise UnknownEntity(operation_id)
    work = work_queue.locked(session, [work_id])[work_id]
    loaded = operation_under_lock(session, work)
    if loaded.open_record is not None or loaded.in_conflict:
        raise InvalidRequest(operation_id, f"has a call that is not concluded; see `billing explain {operation_id}`")
    reopened = operation.reopen(loaded.row, actor=actor, reason=reason)
    work.attempts = 0
    work_queue.move(work, WorkState.READY, database.now(session), reason=f"reopened by {actor}")
    row_io.save(session, [work, loaded.row, *loaded.records], reopened)
    return Replayed(work.id, operation_id, [told])


_NEEDS_DECISION = (RecordState.UNSETTLED, RecordState.CONFLICT)


def operation_under_lock(session: Session, work: Work) -> LoadedOperation:
    """The operation of this locked work, with its records. Raises UnknownEntity, and InvalidRequest for a row that
    breaks our rules: the database would take no change of it."""
    operation = operation_of(work.entity_id)
    loaded = store.load(session, operation, {work.entity_id: (work.id, work.queue)}).get(work.entity_id)
    if loaded is None:
        raise UnknownEntity(work.entity_id)
    if (why := effects.unfit(operation, loaded)) is not None:
        raise InvalidRequest(work.entity_id, f"cannot be carried out as it is: {why}; correct its row first")
    return loaded


def _put_right(session: Session, loaded: LoadedOperation, record: Record) -> str:
    name = f"{record.step} g{record.generation}"
    if record.concluded_at is None:
        _only_look(record)
        if operation_of(loaded.row.id).local:
            return f"{name} is run again"
        return f"{name} is in doubt: Stripe is looked at, and this key is never sent again"
    # The call was concluded, and contradicted later.
    disproved = record.conclusion in (ABSENT, DISCARDED, RULED_OUT)
    later = loaded.open_record
    if later is not None:
        _restore(record, disproved=disproved)
        _only_look(later)
        return f"{name} is history; {later.step} g{later.generation} is looked at before anything is sent"
    operation = operation_of(loaded.row.id)
    if operation.reconsider(session, loaded.row):
        record.concluded_at = record.conclusion = None
        _only_look(record)
        return f"{name} is open again: Stripe is looked at to see whether the money moved after all"
    _restore(record, disproved=disproved)
    return f"{name} is history: the {operation.kind} stays {loaded.row.state}"


def _only_look(record: Record) -> None:
    set_state(record, RecordState.IN_DOUBT)
    record.learned, record.look_only = Learned.ASK, True
    record.look_at = record.parked_at = None
    record.looks = 0


def _restore(record: Record, *, disproved: bool) -> None:
    set_state(record, RecordState.DISPROVED if disproved else RecordState.ANSWERED)
