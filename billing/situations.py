"""How one operation stands now, by its rows: the situation from which the next safe action follows, and its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from billing import database
from billing.answers import Kind
from billing.causes import Calls, Situation, Stop
from billing.idempotency import Resend, Rules, Send, lease_alive, next_move
from billing.learned import Learned
from billing.lineage import SIGNS
from billing.next_action import Advice, advise
from billing.operations import rules_of
from billing.registration import Operation
from billing.states import RecordState, SwitchState, WorkState
from billing.steps import METADATA_KEY, LoadedOperation
from billing.stripes_side import Differs
from billing.tables.entities import Entity, Switch
from billing.tables.idempotency_records import Record
from billing.tables.lineage import Lineage
from billing.tables.work import Work
from billing.timing import PRODUCTION

LATE = timedelta(seconds=60)
"""What relays and workers do by themselves takes seconds, and at most two leases. After a minute something is missing;
on a busy queue that may be capacity."""


@dataclass(frozen=True, slots=True)
class PulledSwitch:
    """A pulled switch in whose scope the work stands. `probes`: the service pulled it, because Stripe refused our key,
    and a probe releases it."""

    id: str
    scope: str
    actor: str
    reason: str | None
    pulled_at: datetime
    expires_at: datetime | None
    probes: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows of one operation, as one transaction sees them. `told`: the payload of its newest fact about an answer
    or a look. `unplanned`: a relay has still to plan one of its facts. `reason`: that of its status.
    `difference`: the oldest that is open."""

    operation: Operation
    row: Entity
    records: Sequence[Record]
    work: Work | None
    told: Mapping[str, Any]
    set_aside: bool
    unplanned: bool
    reason: str | None
    difference: Differs | None

    @property
    def record(self) -> Record | None:
        """Its call that matters: one in conflict, else the open one."""
        conflict = next((each for each in self.records if each.state == RecordState.CONFLICT), None)
        return conflict or next((each for each in reversed(self.records) if each.concluded_at is None), None)


def pulled(session: Session, work: Work | None) -> list[PulledSwitch]:
    """The pulled switches that stop this work. One whose time is over counts as released."""
    if work is None or work.state == WorkState.DONE:
        return []
    lasts = or_(Switch.expires_at.is_(None), Switch.expires_at > func.clock_timestamp())
    stops = (Switch.state == SwitchState.PULLED, lasts, Switch.scope.in_(work.scopes))
    rows = session.scalars(select(Switch).where(*stops).order_by(Switch.id))
    return [
        PulledSwitch(each.id, each.scope, each.actor, each.reason, each.pulled_at, each.expires_at, each.probes)
        for each in rows
    ]


def advice(session: Session, seen: Seen, switches: Sequence[PulledSwitch]) -> Advice:
    """The next safe action of this operation."""
    now = database.now(session)
    restored = session.scalar(select(Lineage.why).where(Lineage.restored_at.is_not(None)))
    situation = situation_of(seen, switches, now, restored=restored is not None)
    words = _words(seen, switches, situation.calls)
    if restored is not None:
        words["restored"] = f": {SIGNS.get(restored, restored)}"
    rules = rules_of(seen.record) if seen.record is not None else Rules()
    afterwards = seen.operation.afterwards.get(seen.row.state)
    return advise(situation, words, afterwards, mailed=rules.once, needs_a_person=rules.needs_a_person)


def situation_of(seen: Seen, switches: Sequence[PulledSwitch], now: datetime, *, restored: bool) -> Situation:
    """What `causes.diagnose` decides from."""
    work, calls = seen.work, calls_of(seen, now)
    stop = Stop.NONE
    if switches:
        stop = Stop.CREDENTIALS if any(switch.probes for switch in switches) else Stop.SWITCH
    expected = _expected_at(seen, calls)
    return Situation(
        final=seen.row.life.is_final(seen.row.state),
        calls=calls,
        work=WorkState(work.state) if work is not None else None,
        stop=Stop.RESTORED if restored else stop,
        last=_last(seen),
        late=expected is not None and expected + LATE < now,
        set_aside=seen.set_aside,
        starts_work=work is not None or seen.unplanned,
        differs=seen.difference is not None,
    )


def calls_of(seen: Seen, now: datetime) -> Calls:
    """How the calls stand. What is sent next is decided by the rule for keys itself, with production's times."""
    record = seen.record
    if record is None:
        return Calls.NONE
    match record.state:
        case RecordState.CONFLICT:
            return Calls.CONFLICT if record.concluded_at is None else Calls.CONTRADICTED
        case RecordState.UNSETTLED:
            return Calls.UNSETTLED
        case RecordState.PLANNED:
            return Calls.PLANNED
        case _ if record.parked_at is not None:
            return Calls.UNDECIDED
        # A step that only looks stays as it was sent, without a lease, when it could not be read.
        case RecordState.SENT if record.lease_until is not None:
            return Calls.IN_FLIGHT if lease_alive(record, now) else Calls.SILENT
    loaded = LoadedOperation(seen.row, list(seen.records), record.work_id, record.queue)
    move = next_move(record, now, PRODUCTION, rules_of(record), loaded.rotations(record.step))
    if record.look_at is None and isinstance(move, Send | Resend):
        return Calls.IN_DOUBT
    return Calls.UNREAD if record.learned == Learned.LOOK_UNANSWERED else Calls.LOOKED_AT


def _last(seen: Seen) -> Kind | None:
    """How the last answer to a send of the open call counted. Another program may have written the fact."""
    record, told = seen.record, seen.told
    if record is None or told.get("generation") != record.generation or told.get("outcome") not in list(Kind):
        return None
    return Kind(told["outcome"])


def _expected_at(seen: Seen, calls: Calls) -> datetime | None:
    """When a process of ours should have gone on by itself. None: it has nothing to do."""
    work, record = seen.work, seen.record
    if work is None:
        return seen.row.state_since if seen.unplanned else None
    match work.state:
        case WorkState.READY:
            return work.state_since
        case WorkState.RUNNING:
            return record.lease_until if record is not None and calls is Calls.SILENT else None
        case WorkState.WAITING:
            return work.due_at or (record.look_at if record is not None else None)
    return None


def _words(seen: Seen, switches: Sequence[PulledSwitch], calls: Calls) -> dict[str, str]:
    """The words for the texts of `next_action.ADVICE`. One that is missing is not known."""
    row, work, record = seen.row, seen.work, seen.record
    given_up = work.reason if work is not None and work.state == WorkState.QUARANTINED else None
    said = seen.reason if calls is Calls.CONFLICT else given_up
    said = said or seen.told.get("why") or (work.reason if work is not None else "") or ""
    words = {
        "id": row.id,
        "state": row.state,
        "scope": getattr(row, "scope", None),
        "meaning": row.life.states.get(row.state),
        "reason": f": {row.reason}" if row.reason else "",
        "said": str(said) or "no reason was kept",
        "said_too": f" ({said})" if said else "",
        "object": _object(seen),
        "since": _clock(work.state_since if work is not None else row.state_since),
        "in_doubt": "",
        "restored": "",
    }
    if seen.difference is not None:
        words |= {"difference": seen.difference.told, "difference_id": seen.difference.id}
    if work is not None:
        words |= {"work": work.id, "queue": work.queue, "contract": work.contract, "version": str(work.version)}
        words |= {"due": _clock(_expected_at(seen, calls))}
    if record is not None:
        looks = f"{record.looks} look{'' if record.looks == 1 else 's'}"
        words |= {"step": f"{record.step} g{record.generation}", "looks": looks, "at": _clock(record.look_at)}
        done = "it may have been sent" if rules_of(record).once else "Stripe may have done it"
        words |= {"lease": _clock(record.lease_until), "perhaps": f"; {done}" if record.unanswered else ""}
        words["seen"] = _SEEN if rules_of(record).seen_as is Learned.DECLINED else ""
    if switches:
        first = next((switch for switch in switches if switch.probes), switches[0])
        others = f", and {len(switches) - 1} more" if len(switches) > 1 else ""
        words |= {"scope": first.scope, "by": first.actor}
        words |= {"stopped_by": f"{first.scope}, pulled by {first.actor}: {first.reason or 'no reason'}{others}"}
    if calls in (Calls.IN_DOUBT, Calls.LOOKED_AT, Calls.UNREAD, Calls.SILENT, Calls.UNDECIDED):
        mailed = record is not None and rules_of(record).once
        meanwhile = "and nobody can be asked about it" if mailed else "and Stripe is asked about it meanwhile"
        words["in_doubt"] = f"; its call is in doubt, {meanwhile}"
    return {name: word for name, word in words.items() if word is not None}


_SEEN = "; docs/moves/invoices.md says how to conclude that it was tried, and declined"


def _object(seen: Seen) -> str:
    """What to look for in Stripe's dashboard."""
    named = seen.record.provider_object if seen.record is not None else None
    its = [getattr(seen.row, column.key) for column in seen.operation.found_by.values()]
    return named or next((str(each) for each in its if each), f"the object with {METADATA_KEY} {seen.row.id}")


def _clock(moment: datetime | None) -> str | None:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment is not None else None
