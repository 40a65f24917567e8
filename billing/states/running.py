"""The lives of what runs beside the operations: switches, schedules, the inbox, the archive, reconciliation."""

from enum import StrEnum

from billing.schedules import SCHEDULES
from billing.states.lives import ARCHIVER, OPERATOR, RELAY, WORKER, Life, go


class SwitchState(StrEnum):
    PULLED = "pulled"
    RELEASED = "released"


class RunState(StrEnum):
    DUE = "due"
    DONE = "done"


class EventState(StrEnum):
    RECEIVED = "received"
    MATCHED = "matched"
    UNKNOWN = "unknown"
    IGNORED = "ignored"


class BatchState(StrEnum):
    CLAIMED = "claimed"
    ARCHIVED = "archived"


class DifferenceState(StrEnum):
    OPEN = "open"
    GONE = "gone"
    CLOSED = "closed"


SWITCH = Life(
    of="switch",
    states={
        SwitchState.PULLED: "nothing new is sent in this scope",
        SwitchState.RELEASED: "sends in this scope continue",
    },
    transitions=(
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=OPERATOR, when="`billing switch release`"),
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=WORKER, when="Stripe accepts our credentials again"),
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=RELAY, when="its time is over"),
    ),
)

RUN = Life(
    of="run",
    states={
        RunState.DUE: "a schedule's time has come, or an operator had it run",
        RunState.DONE: "its function has ended; the fact holds what it returned",
    },
    transitions=go(RunState.DUE, to=RunState.DONE, by=WORKER, when="its function has ended"),
    # Instead of one topic `due`, so that a relay leaves the facts of a schedule that it does not know to a newer one.
    topics={schedule.name: f"due, {schedule.when} {schedule.zone}: {schedule.purpose}" for schedule in SCHEDULES},
)

EVENT = Life(
    of="received event",
    states={
        EventState.RECEIVED: "it is in the inbox, once; which operation it is about is not known yet",
        EventState.MATCHED: "it is about an operation of ours, which was noticed if it could have changed",
        EventState.UNKNOWN: "it is about no operation of ours: somebody else's, or made in the dashboard",
        EventState.IGNORED: "it names no object of a kind that operations of ours have",
    },
    transitions=(
        *go(EventState.RECEIVED, to=EventState.MATCHED, by=RELAY, when="an operation of ours has its object"),
        *go(EventState.RECEIVED, to=EventState.UNKNOWN, by=RELAY, when="none had it for an hour"),
        *go(EventState.RECEIVED, to=EventState.IGNORED, by=RELAY, when="nothing of ours can have its object"),
    ),
)

BATCH = Life(
    of="archive batch",
    states={
        BatchState.CLAIMED: "its facts and numbers are fixed; any archiver writes it or finishes writing it",
        BatchState.ARCHIVED: "its object and manifest were read back from the bucket and are correct",
    },
    transitions=go(
        BatchState.CLAIMED, to=BatchState.ARCHIVED, by=ARCHIVER, when="what was written is read back and compared"
    ),
)

_D = DifferenceState
DIFFERENCE = Life(
    of="difference",
    states={
        _D.OPEN: "our rows and Stripe's records say different things; its owner looks at it",
        _D.GONE: "a later pass has not found it any more",
        _D.CLOSED: "a person has closed it, with a reason",
    },
    transitions=(
        *go(_D.OPEN, to=_D.GONE, by=WORKER, when="it is compared again, and both sides agree"),
        *go(_D.OPEN, to=_D.CLOSED, by=OPERATOR, when="`billing differences close`"),
        *go(_D.GONE, to=_D.OPEN, by=WORKER, when="it is compared again, and differs again"),
        *go(_D.CLOSED, to=_D.OPEN, by=WORKER, when="it is compared again, and the two sides are not what they were"),
    ),
)
