"""An operator concludes that an undecided call did nothing, where no look can prove that: its operation is refused.

Only calls of steps that say so (`Rules.needs_a_person`): that nothing is found at Stripe proves nothing for them, so no
machine ends them. A person may, a day after the last send: Stripe forgets its key by then, and a look of after that day
has found nothing either. If a success comes to light later, it is a conflict, as after every conclusion.

An e-mail has no key and nothing to look at: a minute after its send nobody holds it any more, and a person who has read
the mail server's log may also conclude that it was taken. Of a charge of an invoice a person may conclude that it was
made: then it was declined, because an invoice that is paid is found by the next look (`Rules.seen_as`). An invoice
whose own charge is concluded is unpaid, whether it was made or not.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import database, row_io
from billing.errors import InvalidRequest, UnknownEntity
from billing.facts import new_fact
from billing.idempotency import lease_alive
from billing.learned import Learned
from billing.operations import by_id, operation_of
from billing.records import RULED_OUT
from billing.records import conclude as conclude_record
from billing.states import RecordState, WorkState, set_state
from billing.steps import LoadedOperation, Step
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.texts import plain_text
from billing.timing import PRODUCTION
from jobs.road import work_queue
from jobs.road.discarding import REFUSED, what_it_was
from jobs.road.quarantine import Replayed, operation_under_lock

SEEN = "seen_by_an_operator"
"""How a call was concluded, and the reason of its operation, that an operator says was carried out."""
WAIT = timedelta(hours=24)
"""Stripe keeps a key for at least so long. Source: docs.stripe.com/api/idempotent_requests."""


@dataclass(frozen=True, slots=True)
class Concluded(Replayed):
    """What was concluded, and the state in which its operation ends."""

    state: str


def conclude(session: Session, operation_id: str, *, actor: str, reason: str, it_happened: bool = False) -> Concluded:
    """End this operation, whose open call is undecided, under the locks of both and of its work: as refused, or as its
    step says (`Step.ruled_out`). The fact names actor and reason. `it_happened`: the call was carried out, which no
    look can find (`Rules.seen_as`).

    Raises UnknownEntity, and InvalidRequest that says what is missing.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    work_id = session.scalar(select(Work.id).where(Work.entity_id == operation_id).order_by(Work.id).limit(1))
    if work_id is None or by_id(operation_id) is None:
        raise UnknownEntity(operation_id)
    work = work_queue.locked(session, [work_id])[work_id]
    loaded, now = operation_under_lock(session, work), database.now(session)
    row, record = loaded.row, loaded.open_record
    if record is None or record.state != RecordState.IN_DOUBT or record.parked_at is None:
        raise InvalidRequest(operation_id, "has no undecided call: see `billing quarantine list --undecided`")
    step = operation_of(operation_id).steps(record.step)
    if not step.rules.needs_a_person:
        raise InvalidRequest(operation_id, "is decided by looks at Stripe, once they find or disprove its call")
    if it_happened and step.rules.seen_as is None:
        raise InvalidRequest(operation_id, "is found by a look if it happened; put its metadata on it at Stripe")
    if lease_alive(record, now):
        raise InvalidRequest(operation_id, "is looked at just now; try again in a minute")
    ripe_at = (record.last_prepared_at or now) + (PRODUCTION.abandoned if step.rules.once else WAIT)
    if now < ripe_at:
        when = f"{ripe_at:%Y-%m-%d %H:%M} UTC"
        raise InvalidRequest(operation_id, f"was sent so lately that it may still be carried out; not before {when}")
    if record.learned != Learned.UNPROVABLE or record.looked_at is None or record.looked_at < ripe_at:
        raise InvalidRequest(operation_id, "was not looked at since; the next look comes within an hour")
    seen_as = step.rules.seen_as if it_happened else None
    fact = _ruled_out(loaded, record, step, now) if seen_as is None else _happened(loaded, record, step, seen_as, now)
    fact.actor, fact.payload = actor, {**fact.payload, "reason": reason, "work_id": work.id}
    work_queue.move(work, WorkState.DONE, now, reason=f"concluded by {actor}")
    row_io.save(session, [work, row, record], [fact])
    done = _SAID[seen_as]
    return Concluded(
        work.id, operation_id, [f"{record.step} g{record.generation} is concluded to have {done}"], row.state
    )


_SAID = {None: "done nothing", Learned.SUCCEEDED: "had its effect", Learned.DECLINED: "been declined"}


def _happened(loaded: LoadedOperation, record: Record, step: Step, seen_as: Learned, now: datetime) -> Fact:
    conclude_record(loaded, record, step, seen_as, {}, SEEN, now)
    (fact,) = loaded.facts
    return fact


def _ruled_out(loaded: LoadedOperation, record: Record, step: Step, now: datetime) -> Fact:
    row = loaded.row
    set_state(record, RecordState.DISPROVED)
    record.concluded_at, record.look_at, record.conclusion = now, None, RULED_OUT
    row.state_since = now
    if step.ruled_out is not None:
        (fact,) = step.ruled_out(loaded, RULED_OUT)
        return fact
    set_state(row, REFUSED)
    row.reason = RULED_OUT
    return new_fact(row, REFUSED, why=RULED_OUT, **what_it_was(row))
