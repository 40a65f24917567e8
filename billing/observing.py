"""Observing: what may have changed at Stripe by itself is noticed by one fact, and then looked at.

An invoice is paid, a refund fails, an authorization lapses: nobody here has called. Whoever hears of it (a webhook, a
sweep, reconciliation, an operator) writes the fact `noticed`, and does nothing else. The fact starts the work of the
contract `observe_KIND`, and that work believes nothing but Stripe's present state:

    a call of the operation is open    its look is made due now, and nothing else is done
    none is open                       the step that `Operation.observe` names runs once for this work

So it does not matter how often something is noticed, in which order, or how late.
"""

from datetime import datetime

from billing.facts import NOTICED, new_fact
from billing.registration import Contract, Retry
from billing.states import RecordState
from billing.steps import LoadedOperation
from billing.tables.entities import Entity
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record

WEBHOOK, SWEEP, RECONCILIATION, OPERATOR = "webhook", "sweep", "reconciliation", "operator"
ACTION = "action"
"""Who noticed it: the field `source` of the fact. `action`: something else that was asked for about it."""

_OPEN = (RecordState.PLANNED, RecordState.SENT, RecordState.IN_DOUBT)


def notice(
    row: Entity, *, source: str, event: str | None = None, event_type: str | None = None, actor: str = "billing"
) -> Fact:
    """The fact that something about this operation may have changed at Stripe; the caller saves both. `event`: the id
    of Stripe's event that says so.

    The caller holds the row's lock.
    """
    return new_fact(row, "noticed", actor=actor, source=source, event=event, event_type=event_type, account=row.account)


def may_have_changed(row: Entity) -> bool:
    """Whether it is worth noticing: in some states nothing of a row can change any more."""
    return row.life.may_change(row.state)


def contract(kind: str, *, queue: str, owner: str, sheddable: bool = False) -> Contract:
    """The contract that a kind of operation which can change by itself has beside its own: on the same queue."""
    return Contract(
        name=f"observe_{kind}",
        topic=NOTICED,
        queue=queue,
        max_attempts=5,
        call_budget_s=30,
        retry=Retry.PATIENT,
        owner=owner,
        purpose=f"see at Stripe whether something changed about one {kind}",
        sheddable=sheddable,
        payload={
            "source": "text",
            "event": "text or null",
            "event_type": "text or null",
            "account": "text or null",
        },
    )


def is_its_own(record: Record, loaded: LoadedOperation) -> bool:
    """Whether this work has opened the record."""
    return record.work_id == loaded.work_id


def hurry(record: Record, now: datetime) -> str:
    """Make the look of a call due that other work has open. Returns what becomes of it. A call that needs a decision is
    not looked at before."""
    if record.state not in _OPEN:
        return f"{record.step} g{record.generation} needs a decision"
    record.look_at = now
    return f"{record.step} g{record.generation} is open, and is looked at now"
