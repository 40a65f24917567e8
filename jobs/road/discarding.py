"""An operator ends work in quarantine for which nothing was done at Stripe: its operation is refused.

`refused` tells an application that it may ask again, so only what provably moved nothing may be discarded: the
operation is in its first state, none of its calls is in conflict or unsettled, and its open call, if there is one, has
sent nothing and has no worker. Every other call is first looked at, by a replay or by the looks that go on in
quarantine; afterwards a discard may be possible.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from billing import database, records, row_io
from billing.errors import InvalidRequest
from billing.facts import OWN, new_fact
from billing.operations import operation_of
from billing.states import OPERATOR, RecordState, WorkState, set_state
from billing.steps import LoadedOperation
from billing.tables.entities import Entity
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.texts import plain_text
from jobs.road import work_queue
from jobs.road.quarantine import operation_under_lock
from jobs.road.quarantine_list import Quarantined, described, in_quarantine, touched

REFUSED = "refused"
"""The state to which an operator may end an operation whose life has that transition."""


def discard(session: Session, work_id: str, *, actor: str, reason: str) -> Quarantined:
    """End this work and refuse its operation, under the locks of both and of the records. The fact names actor and
    reason.

    Raises UnknownEntity, and InvalidRequest if it is not in quarantine, or something was done or may have been done.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    work = in_quarantine(session, work_id)
    loaded = operation_under_lock(session, work)
    row = loaded.row
    if not _may_be_refused(row):
        raise InvalidRequest(row.id, f"is {row.state}, and only what nothing was done for is discarded")
    if (called := next((each for each in loaded.records if not _did_nothing(each)), None)) is not None:
        raise InvalidRequest(
            row.id,
            f"has a call that may have done something at Stripe ({called.step} g{called.generation} is "
            f"{called.state}): `billing quarantine replay {work_id}` looks at it",
        )
    now = database.now(session)
    refused = refuse(loaded, now, actor=actor, why=records.DISCARDED, reason=reason, work_id=work.id)
    touched(session, work, by=actor)
    work_queue.move(work, WorkState.DONE, now, reason=f"discarded by {actor}")
    row_io.save(session, [work, row, *loaded.records], [refused])
    return described(session, work)


def nothing_was_done(loaded: LoadedOperation) -> bool:
    """Whether this locked operation may be refused: it is in its first state, and none of its calls did anything."""
    return _may_be_refused(loaded.row) and all(map(_did_nothing, loaded.records))


def refuse(loaded: LoadedOperation, now: datetime, *, actor: str, why: str, **payload: Any) -> Fact:
    """Refuse an operation for which nothing was done. Returns the fact; the caller saves that, the row and the
    records."""
    row = loaded.row
    set_state(row, REFUSED)
    row.reason, row.state_since = why, now
    for record in loaded.records:
        if record.concluded_at is None:
            records.discard(record, now)
    return new_fact(row, REFUSED, actor=actor, why=why, **payload, **what_it_was(row))


def _may_be_refused(row: Entity) -> bool:
    """Whether its life lets an operator do that: from its first state only."""
    return any((each.start, each.end, each.who) == (row.state, REFUSED, OPERATOR) for each in row.life.transitions)


def _did_nothing(record: Record) -> bool:
    """What a concluded call did, the state of its row shows. An open one has done nothing if it has sent nothing."""
    if record.concluded_at is None:
        return records.sent_nothing(record)
    return record.state in (RecordState.ANSWERED, RecordState.DISPROVED)


def what_it_was(row: Entity) -> dict[str, Any]:
    """What a fact about the end of an operation says of the operation itself, so that reports need no other fact."""
    operation = operation_of(row.id)
    told = {name: getattr(row, name) for name in operation.told_at_its_end}
    if operation.amount:
        told |= {"minor": getattr(row, operation.amount), "currency": getattr(row, "currency", None)}
    return {**told, "account": row.account or OWN} if told else {}
