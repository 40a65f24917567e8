"""Why an operation stands where it stands: its situation, and the one cause that follows from it.

Neither reads a clock or a table, so a test goes through every situation there is. What an operator is told of a cause
is `billing.next_action`.
"""

from dataclasses import dataclass
from enum import StrEnum

from billing.answers import Kind
from billing.states import WorkState


class Calls(StrEnum):
    """How its calls stand, by their records: the first of these that is true of one."""

    CONTRADICTED = "contradicted"
    """A call that was concluded, until a late answer showed something else."""
    CONFLICT = "conflict"
    UNSETTLED = "unsettled"
    UNDECIDED = "undecided"
    IN_FLIGHT = "in_flight"
    SILENT = "silent"
    """Its lease is over, and nothing was reported."""
    UNREAD = "unread"
    """In doubt, its key is never sent again, and the last look got no answer."""
    LOOKED_AT = "looked_at"
    """In doubt, its key is never sent again, and a look is due."""
    IN_DOUBT = "in_doubt"
    """In doubt, and sent again under its key."""
    PLANNED = "planned"
    """Nothing that may have had an effect was sent with its key."""
    NONE = "none"


class Stop(StrEnum):
    """What stops new calls in its scopes: the strongest."""

    RESTORED = "restored"
    CREDENTIALS = "credentials"
    """The service pulled the switch, because Stripe refuses our key."""
    SWITCH = "switch"
    NONE = "none"


class Cause(StrEnum):
    """Why it stands where it stands. `billing.next_action.ADVICE` has a row for each."""

    ENDED = "ended"
    STANDS = "stands"
    DIFFERS = "differs"
    LATE_SUCCESS = "late_success"
    CONFLICT = "conflict"
    UNSETTLED = "unsettled"
    RESTORED = "restored"
    UNDECIDED = "undecided"
    QUARANTINED = "quarantined"
    UNKNOWN_CONTRACT = "unknown_contract"
    CREDENTIALS = "credentials"
    HELD = "held"
    RELEASED = "released"
    SET_ASIDE = "set_aside"
    IN_FLIGHT = "in_flight"
    WORKER_SILENT = "worker_silent"
    NOT_PLANNED = "not_planned"
    NOT_CLAIMED = "not_claimed"
    NOT_RESUMED = "not_resumed"
    NOT_LOOKED_AT = "not_looked_at"
    THROTTLED = "throttled"
    NOT_SENT = "not_sent"
    LOOK_UNANSWERED = "look_unanswered"
    LOOKED_AT = "looked_at"
    IN_DOUBT = "in_doubt"
    PLANNING = "planning"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    STRAY = "stray"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the next action depends on.

    `last`: how the last answer to a send counted. `late`: what should have happened by itself is overdue
    (`billing.situations.LATE`). `differs`: a comparison with Stripe's own records found a difference that is open.
    `starts_work`: some fact of it starts work, or may still.
    """

    final: bool
    calls: Calls
    work: WorkState | None
    stop: Stop
    last: Kind | None
    late: bool = False
    set_aside: bool = False
    starts_work: bool = True
    differs: bool = False


def diagnose(situation: Situation) -> Cause:
    """The cause of this situation. The first match wins: the gravest comes first."""
    match situation:
        case Situation(calls=Calls.CONTRADICTED):
            return Cause.LATE_SUCCESS
        case Situation(calls=Calls.CONFLICT):
            return Cause.CONFLICT
        case Situation(calls=Calls.UNSETTLED):
            return Cause.UNSETTLED
        case Situation(final=True, differs=True):
            return Cause.DIFFERS
        case Situation(final=True):
            return Cause.ENDED
        case Situation(stop=Stop.RESTORED):
            return Cause.RESTORED
        case Situation(work=WorkState.QUARANTINED):
            return Cause.QUARANTINED
        case Situation(calls=Calls.UNDECIDED):
            return Cause.UNDECIDED
        case Situation(work=WorkState.PARKED):
            return Cause.UNKNOWN_CONTRACT
        case Situation(work=WorkState.DONE):
            return Cause.STRAY
        case Situation(work=None, set_aside=True):
            return Cause.SET_ASIDE
        case Situation(work=None, starts_work=False):
            return Cause.STANDS
        case Situation(calls=Calls.IN_FLIGHT):
            return Cause.IN_FLIGHT
        case Situation(stop=Stop.CREDENTIALS):
            return Cause.CREDENTIALS
        case Situation(stop=Stop.SWITCH):
            return Cause.HELD
        case Situation(work=WorkState.HELD):
            return Cause.RELEASED
        case Situation(calls=Calls.SILENT, late=False):
            return Cause.WORKER_SILENT
        case Situation(late=True):
            return _overdue(situation)
        case Situation(calls=Calls.UNREAD):
            return Cause.LOOK_UNANSWERED
        case Situation(calls=Calls.LOOKED_AT):
            return Cause.LOOKED_AT
        case Situation(work=WorkState.WAITING | WorkState.READY, last=Kind.THROTTLED):
            return Cause.THROTTLED
        case Situation(work=WorkState.WAITING | WorkState.READY, calls=Calls.IN_DOUBT):
            return Cause.IN_DOUBT
        case Situation(work=WorkState.WAITING | WorkState.READY, last=Kind.NOT_SENT):
            return Cause.NOT_SENT
        case Situation(work=None):
            return Cause.PLANNING
        case Situation(work=WorkState.READY):
            return Cause.READY
        case Situation(work=WorkState.RUNNING):
            return Cause.RUNNING
    return Cause.WAITING


def _overdue(situation: Situation) -> Cause:
    match situation:
        case Situation(work=None):
            return Cause.NOT_PLANNED
        case Situation(work=WorkState.READY):
            return Cause.NOT_CLAIMED
        case Situation(calls=Calls.LOOKED_AT | Calls.UNREAD):
            return Cause.NOT_LOOKED_AT
    return Cause.NOT_RESUMED
