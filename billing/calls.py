"""The values between prepare, call and settle: the call, its report, and how the operation stands afterwards."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from billing.gateway import Answer, NotSent, Request, Response
from billing.learned import Learned
from billing.registration import Operation
from billing.steps import LoadedOperation, LookResult, Step
from billing.tables.idempotency_records import Record


class Standing(StrEnum):
    """How an operation stands after a prepare or a settle; the field `standing` of the log. `jobs.road.verdicts` says
    to which state its work goes."""

    CALLING = "calling"
    """A call is prepared: `Result.call`."""
    CONCLUDED = "concluded"
    AGAIN = "again"
    """It may be sent, or sent again, as soon as the guards allow."""
    IN_DOUBT = "in_doubt"
    """Unanswered; the same key again after a pause."""
    THROTTLED = "throttled"
    """Not executed; the same key again after a pause."""
    NOT_SENT = "not_sent"
    """Nothing was sent; it is sent after a short pause."""
    WAITING = "waiting"
    """Another worker may be calling."""
    LOOKING = "looking"
    """A worker claims it again when its look is due (`look_at`)."""
    PARKED = "parked"
    """As LOOKING, and undecided: looks could not decide it so far, which is logged once as an error. Its work is
    `waiting`: the state `parked` of work means something else, an unknown version of its contract."""
    CONFLICT = "conflict"
    MISCONFIGURED = "misconfigured"
    """Our credentials are refused."""
    UNFIT = "unfit"
    """No valid request can be built from its row, so nothing was sent."""
    SIBLING = "sibling"
    """Another operation has an open call for the same object at the provider."""
    IN_TURN = "in_turn"
    """It comes after another operation, which is not over (`Operation.comes_after`)."""
    BLOCKED = "blocked"
    """The guards forbid sending, and no send is unanswered."""
    LATE = "late"
    """The report was of a call that another worker has taken over, or that is settled already."""


@dataclass(frozen=True, slots=True)
class Call:
    """A prepared call with everything that a crew thread needs, which has no database connection."""

    record_id: str
    operation: Operation
    step: Step
    loaded: LoadedOperation
    fence: int
    request: Request
    looking: bool
    not_after_s: float
    """Seconds after the beginning of its prepare until which it may start; never past the key's horizon."""
    prepared_at: datetime
    """By the database's clock."""
    call_budget_s: float
    """Seconds after it was handed over in which it must be over."""
    own_account: str | None = None
    """The provider's id of the account that our own key belongs to, if it is known."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a crew thread reports of a call, and how long the call took."""

    call: Call
    came_back: Answer | LookResult
    took_ms: int
    error: str | None = None
    """The class of an exception that escaped a call: a bug of ours, counted as an attempt."""
    raised: tuple[dict[str, Any], ...] = ()
    """That exception and its causes, without messages."""
    began_ns: int = 0
    """When the call began, by this machine's clock, in nanoseconds since 1970; 0 if it was not noted."""
    requests: int = 1
    """How many requests it made: a look may read several objects."""

    @property
    def reached(self) -> bool | None:
        """Whether the provider answered with a whole body and a status below 500. None: the provider was not called.

        A look makes a further request only after a whole answer. So one that ran out of its time in a long list has
        reached the provider: otherwise a few such looks would make it count as silent, and stop all other calls.
        """
        if isinstance(self.came_back, LookResult) and self.requests > 1:
            return True
        if isinstance(self.came_back, LookResult) and self.came_back.answer is None:
            return True if self.came_back.learned is not Learned.LOOK_UNANSWERED else None
        match self.came_back.answer if isinstance(self.came_back, LookResult) else self.came_back:
            case Response(status=status, data=data):
                return status < 500 and data is not None
            case NotSent(unreached=False):
                return None
            case _:
                return None if self.error else False

    @property
    def throttled(self) -> str | None:
        """Stripe's code if it refused the call only for its rate: a 429 that is not replayed. None: it did not."""
        answer = self.came_back.answer if isinstance(self.came_back, LookResult) else self.came_back
        if isinstance(answer, Response) and answer.status == 429 and not answer.replayed:
            return answer.error_code or "rate_limit"
        return None

    @property
    def answer(self) -> str:
        """For the log: Stripe's status, `no_answer`, `not_sent`, or `seen` where a look saw what it looked for."""
        match self.came_back:
            case Response(status=status) | LookResult(answer=Response(status=status)):
                return str(status)
            case NotSent() | LookResult(answer=NotSent()):
                return "not_sent"
            case LookResult(answer=None, learned=learned) if learned is not Learned.LOOK_UNANSWERED:
                return "seen"
            case _:
                return "no_answer"


@dataclass(slots=True)
class Result:
    loaded: LoadedOperation
    standing: Standing
    call: Call | None = None
    opened: Record | None = None
    """A new record; `billing.store` inserts it after all updates."""
    why: str = ""
    """For the log, and for the reason of the work."""
    misconfigured: int = 0
    """The status with which our credentials were refused."""
    newly_undecided: bool = False
    """PARKED for the first time since it was last sent. Only then an error is logged, however often it is looked at."""
