"""What goes from a prepare to the crew and back to a settle: the call, its report, and where the operation stands."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from billing.gateway import Answer, NotSent, Request, Response
from billing.learned import Learned
from billing.registration import Operation
from billing.steps import LoadedOperation, LookResult, Step
from billing.tables.idempotency_records import Record


class Standing(StrEnum):
    """The outcome of a prepare or a settle for its operation. `jobs.road.verdicts` says what becomes of its work."""

    CALLING = "calling"
    """A call is prepared: `Result.call`."""
    CONCLUDED = "concluded"
    AGAIN = "again"
    """It may be sent (again) as soon as the guards allow."""
    IN_DOUBT = "in_doubt"
    """Unanswered; the same key again after a pause."""
    THROTTLED = "throttled"
    """Not executed; the same key again after a pause."""
    NOT_SENT = "not_sent"
    """Nothing was sent; again soon."""
    WAITING = "waiting"
    """Another worker may be calling."""
    LOOKING = "looking"
    """It is claimed again when its look is due (`look_at`)."""
    PARKED = "parked"
    """As LOOKING, and undecided: a person is told once."""
    CONFLICT = "conflict"
    MISCONFIGURED = "misconfigured"
    """Our credentials are refused."""
    UNFIT = "unfit"
    """No request can be made from its row; nothing was sent now."""
    SIBLING = "sibling"
    """Another operation holds the provider object."""
    BLOCKED = "blocked"
    """A guard said no, and nothing is unanswered."""
    LATE = "late"
    """The report of a call that somebody else had taken over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call in hand, complete: a crew thread needs nothing else, and no connection."""

    record_id: str
    operation: Operation
    step: Step
    loaded: LoadedOperation
    fence: int
    request: Request
    looking: bool
    not_after_s: float
    """How long after its prepare began it may still start: never past the key's horizon."""
    prepared_at: datetime
    """By the database's clock."""
    own_account: str | None = None
    """The provider's id of the account that our own key belongs to, where it is known."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the crew brought back, and how long it took."""

    call: Call
    came_back: Answer | LookResult
    took_ms: int
    error: str | None = None
    """The class of an exception that escaped a call: a bug of ours, counted as an attempt."""

    @property
    def reached(self) -> bool | None:
        """Whether the provider answered: with a whole body of its own, and no failure of its own. None: not asked."""
        if isinstance(self.came_back, LookResult) and self.came_back.answer is None:
            return True if self.came_back.learned is not Learned.LOOK_UNANSWERED else None
        match self.came_back.answer if isinstance(self.came_back, LookResult) else self.came_back:
            case Response(status=status, data=data):
                return status < 500 and data is not None
            case NotSent(unreached=False):
                return None
            case _:
                return None if self.error else False


@dataclass(slots=True)
class Result:
    loaded: LoadedOperation
    standing: Standing
    call: Call | None = None
    opened: Record | None = None
    """A new record; `billing.store` inserts it after all updates."""
    why: str = ""
    misconfigured: int = 0
    """The status with which our credentials were refused."""
    throttled: bool = False
    newly_undecided: bool = False
    """Parked for the first time since it was last sent: a person is told once, however often it is looked at."""
