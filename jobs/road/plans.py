"""What a dry run found that a replay would do, as a value with an id: the same plan has the same id."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

from billing.calls import Call, Report
from billing.errors import BillingError
from billing.gateway import Request
from billing.shown_states import Doubt
from billing.states import WorkState
from billing.status import what_next
from billing.steps import LoadedOperation, LookResult
from billing.tables.entities import Entity
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from jobs.road.quarantine import Replayed

DEPENDS = "it depends on Stripe's answer; a worker goes on from there"

Standing = Mapping[str, Mapping[str, Any]]
"""What a plan may change: the name of a row -> its columns with their values."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look of the dry run: what it read at Stripe, and what that shows about the call."""

    call: str
    learned: str
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """What would change in one row: column -> value. A row that does not exist yet was nothing `before`."""

    of: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """The request that would be sent. Its parameters may hold text about a person, such as an invoice's lines."""

    method: str
    path: str
    key: str | None
    account: str | None
    parameters_sha256: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay of one piece of work would do now, up to the first call whose answer nobody can know.

    `replay`: what is done to its calls, in sentences. `call`: None if nothing would be sent. `then`: what comes after.
    """

    id: str
    work_id: str
    entity_id: str
    replay: list[str]
    looks: list[Looked]
    changes: list[Change]
    call: PlannedCall | None
    then: str


class PlanChanged(BillingError):
    """What would be done now is not the plan that was approved: nothing was done. `now` is the plan of now."""

    def __init__(self, approved: str, now: str) -> None:
        super().__init__(
            f"nothing was done: {approved} was approved, and {now} is what would be done now; look at it with "
            "--dry-run, and approve that"
        )
        self.approved, self.now = approved, now


def made(
    replayed: Replayed, looks: list[Looked], stood: tuple[Standing, Standing], request: Request | None, then: str
) -> Plan:
    """The plan with its id, which names how everything stands afterwards and what is sent. `stood`: before and after.

    Not in the id: who asks, what was looked at on the way, and `then`, which may name a time. In quarantine looks go
    on, and must not make another plan of one that leads to the same.
    """
    before, after = stood
    call = _call(request) if request is not None else None
    plan_id = digest([replayed.work_id, replayed.entity_id, after, asdict(call) if call is not None else None])
    return Plan(plan_id, replayed.work_id, replayed.entity_id, replayed.done, looks, changes(before, after), call, then)


def digest(parts: Any) -> str:
    """`plan_` and 16 hexadecimal digits of the SHA-256 of these values."""
    whole = json.dumps(parts, sort_keys=True, default=str)
    return f"plan_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def looked(report: Report) -> Looked:
    found = report.came_back
    assert isinstance(found, LookResult), "a dry run makes no other call"
    return Looked(name_of(report.call), found.learned, found.why)


def name_of(call: Call) -> str:
    """`capture g2`."""
    record = next(record for record in call.loaded.records if record.id == call.record_id)
    return _name(record)


def standing(work: Work, loaded: LoadedOperation) -> Standing:
    """How work, operation and calls stand now; without times and counters, which differ from run to run."""
    # While it is ready, its reason says who put it back.
    reason = None if work.state == WorkState.READY else work.reason
    return {
        f"work {work.id}": {"state": work.state, "reason": reason, "attempts": work.attempts},
        f"{loaded.row.life.of} {loaded.row.id}": _columns(loaded.row),
        **{f"call {_name(each)}": {name: getattr(each, name) for name in _OF_A_RECORD} for each in loaded.records},
    }


def what_then(work: Work, loaded: LoadedOperation) -> str:
    """What happens next, where no call is to be made now."""
    if loaded.row.life.is_final(loaded.row.state) and not loaded.in_conflict:
        return f"nothing: it is {loaded.row.state}"
    return what_next(loaded.open_record, work, Doubt.CONFLICT if loaded.in_conflict else loaded.row.state)


def changes(before: Standing, after: Standing) -> list[Change]:
    found = []
    for name, values in after.items():
        old = before.get(name, {})
        different = [column for column, value in values.items() if value != old.get(column)]
        if different:
            had = {each: old[each] for each in different if each in old}
            found.append(Change(name, had, {each: values[each] for each in different}))
    return found


_OF_A_RECORD = ("state", "learned", "key", "conclusion")
_NOT_COMPARED = {"version", "state_since"}


def _name(record: Record) -> str:
    return f"{record.step} g{record.generation}"


def _columns(row: Entity) -> dict[str, Any]:
    names = {attribute.key for attribute in row.__mapper__.column_attrs} - _NOT_COMPARED
    return {name: value for name, value in vars(row).items() if name in names}


def _call(request: Request) -> PlannedCall:
    return PlannedCall(
        method=request.method,
        path=request.path,
        key=request.key,
        account=request.account,
        parameters_sha256=hashlib.sha256(request.body.encode()).hexdigest(),
        parameters=dict(parse_qsl(request.body, keep_blank_values=True)),
    )
