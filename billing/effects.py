"""Prepare, call, settle: the one door to the provider. Nothing is locked while Stripe is asked.

    prepare   the record is written as sent, with its key and a lease; COMMIT
    call      no transaction is open
    settle    answer, state and facts together, and the next call prepared; COMMIT

`prepare` and `settle` work on loaded rows and touch no connection; `billing.store` loads and writes them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from billing.answers import Kind, Reading, learn, learn_from_look, read_answer
from billing.differences import because
from billing.facts import new_fact
from billing.gateway import Answer, Budget, Gateway, NotSent, Request, Response, boot_clock
from billing.idempotency import (
    Conflict,
    Done,
    Learned,
    Look,
    Park,
    Resend,
    Rotate,
    Send,
    Wait,
    lease_alive,
    look_backoff,
    next_move,
)
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.records import Terms, conclude, mark_sent, plan, remember, request_of, rotate
from billing.steps import Json, LoadedOperation, LookResult, Operation, Reader, Step
from billing.tables import Fact, Record, RecordState


class Standing(StrEnum):
    """How an operation stands after a prepare or a settle. `jobs.road.verdicts` says what becomes of its work."""

    CALLING = "calling"
    """A call is in hand: `Result.call`."""
    CONCLUDED = "concluded"
    AGAIN = "again"
    """It may be sent (again) as soon as the guards allow."""
    IN_DOUBT = "in_doubt"
    """Unanswered; the same key again after a pause."""
    THROTTLED = "throttled"
    """Not executed; the same key again after a pause."""
    NOT_SENT = "not_sent"
    """Never left us; again soon."""
    WAITING = "waiting"
    """Somebody else may be calling."""
    LOOKING = "looking"
    """The record's own clock (`look_at`) brings it back."""
    PARKED = "parked"
    """As LOOKING, and a person should know."""
    CONFLICT = "conflict"
    MISCONFIGURED = "misconfigured"
    """Our credentials are refused."""
    UNFIT = "unfit"
    """No request can be made of what its row holds; nothing of it was sent just now."""
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


def call(gateway: Gateway, in_hand: Call, budget: Budget) -> Report:
    """Send it or look, once, within the budget. Holds no connection and no lock."""
    began = boot_clock()
    came_back: Answer | LookResult
    if in_hand.looking:
        account = in_hand.request.account
        whose = account or in_hand.own_account
        # A look that starts late harms nobody; only its whole length is bounded.
        whole = Budget(not_after=budget.over_at, over_at=budget.over_at)
        read = Reader(lambda path: gateway.send(Request("GET", path, account=account), whole), whose)
        came_back = in_hand.step.look(in_hand.loaded, read, gateway.livemode)
    else:
        came_back = gateway.send(in_hand.request, budget)
    return Report(in_hand, came_back, int((boot_clock() - began) * 1000))


@dataclass(frozen=True, slots=True)
class Turn:
    """One operation's turn inside one transaction.

    `may_send` is the guards' word: without it nothing is sent, and what is unanswered is looked at.
    """

    operation: Operation
    loaded: LoadedOperation
    now: datetime
    terms: Terms
    may_send: bool


def prepare(turn: Turn, *, look: bool = False) -> Result:
    """The next call of this operation, its record marked as sent and leased; or why there is none.

    `look` when the record's own clock asked for it.
    """
    loaded = turn.loaded
    if loaded.in_conflict:
        return Result(loaded, Standing.CONFLICT)
    record = loaded.open
    if (why := unfit(turn.operation, loaded)) is not None:
        if record is not None and record.unanswered:
            # A look cannot be made either, and is not tried at once again: only a person can put it right.
            record.look_at = turn.now + timedelta(seconds=turn.terms.timing.look_max_s)
        return Result(loaded, Standing.UNFIT, why=why)
    if record is None:
        return _next(turn)
    if record.state == RecordState.SENT and not lease_alive(record, turn.now):
        # Its crew is dead or asleep: the lease ran out and no report ever came.
        record.state = RecordState.IN_DOUBT
        loaded.facts.append(new_fact(loaded.row, "attempt_lapsed", step=record.step, generation=record.generation))
    step = turn.operation.steps(record.step)
    if look and not lease_alive(record, turn.now):
        return _begin(turn, record, step, looking=True)
    return _act(turn, record, step, begin=True)


def unfit(operation: Operation, loaded: LoadedOperation) -> str | None:
    """What no request can be made of, in its row or in the call that is open; see `Operation.unfit`."""
    if loaded.row.account is not None and not is_id(IdKind.ACCOUNT, loaded.row.account):
        return str(NoSuchShape(IdKind.ACCOUNT))
    if (why := operation.unfit(loaded)) is not None:
        return why
    part = request_of(loaded.open).unfit if loaded.open is not None else None
    return f"the {part} of its open call is not one that we write" if part is not None else None


def settle(turn: Turn, report: Report) -> Result:
    """Apply what came back to freshly loaded rows, and prepare the next call where there is one.

    A report whose fence is no longer the record's is kept as a fact, and changes nothing but that it may
    show a contradiction.
    """
    loaded, step = turn.loaded, report.call.step
    record = next(record for record in loaded.records if record.id == report.call.record_id)
    if record.fence != report.call.fence:
        return _late(report, loaded, record)
    if record.lease_until is None:
        return Result(loaded, Standing.LATE, why="settled already")
    record.lease_until = record.lease_s = None
    if record.state == RecordState.CONFLICT:
        # A late answer has shown a contradiction while this call was in flight: it stays one.
        if not isinstance(report.came_back, LookResult):
            loaded.facts.append(_attempted(loaded, record, report, read_answer(step, loaded, record, report.came_back)))
            remember(record, report.came_back)
            record.unreported -= 1
        return Result(loaded, Standing.CONFLICT, why="a late answer contradicts it")
    if isinstance(report.came_back, LookResult):
        return _settle_look(turn, report, report.came_back, record)
    reading = read_answer(step, loaded, record, report.came_back)
    remember(record, report.came_back)
    record.unreported -= 1
    record.last_reported_at = turn.now
    learn(record, reading)
    record.state = RecordState.IN_DOUBT if record.unanswered else RecordState.PLANNED
    loaded.facts.append(_attempted(loaded, record, report, reading))
    match reading.kind:
        case Kind.NOT_SENT:
            return Result(loaded, Standing.NOT_SENT, why=reading.why)
        case Kind.THROTTLED:
            return Result(loaded, Standing.THROTTLED, why=reading.why, throttled=True)
        case Kind.MISCONFIGURED:
            return Result(loaded, Standing.MISCONFIGURED, why=reading.why, misconfigured=reading.status)
        case Kind.LEARNED:
            return _act(turn, record, step, data=reading.data, why=reading.why)
        case Kind.NO_ANSWER:
            result = _act(turn, record, step, why=reading.why)
            if result.standing is Standing.AGAIN:
                result.standing = Standing.IN_DOUBT
            return result


def _settle_look(turn: Turn, report: Report, finding: LookResult, record: Record) -> Result:
    loaded, step = turn.loaded, report.call.step
    learn_from_look(record, finding)
    record.looked_at = report.call.prepared_at
    loaded.facts.append(
        new_fact(
            loaded.row,
            "looked",
            step=record.step,
            generation=record.generation,
            learned=finding.learned,
            took_ms=report.took_ms,
            **because(finding.why),
        )
    )
    result = _act(turn, record, step, data=finding.data, why=finding.why)
    status = finding.answer.status if isinstance(finding.answer, Response) else None
    result.misconfigured = status if status in (401, 403) else 0
    result.throttled = status == 429
    return result


def _act(
    turn: Turn,
    record: Record,
    step: Step,
    *,
    begin: bool = False,
    opened: Record | None = None,
    data: Json | None = None,
    why: str = "",
) -> Result:
    """Do what `next_move` says, in a prepare, for the next step, or after an answer.

    `begin`: the call may start in this very transaction; a settle leaves it to the queue and its guards. `opened`:
    the record was made in this transaction and is inserted last. `data` and `why` are of the answer in hand.
    """
    loaded, now = turn.loaded, turn.now
    rotations = sum(r.state == RecordState.DISPROVED for r in loaded.generations(record.step))
    move = next_move(record, now, turn.terms.timing, step.rules, rotations)
    match move:
        case Send() | Resend():
            if turn.may_send and begin:
                return _begin(turn, record, step, looking=step.only_looks, opened=opened)
            if record.unanswered and not turn.may_send:
                record.look_at = now + look_backoff(record, turn.terms.timing) if record.looks else now
                return Result(loaded, Standing.LOOKING, opened=opened)
            record.look_at = None
            return Result(loaded, Standing.AGAIN if turn.may_send else Standing.BLOCKED, opened=opened)
        case Wait(_):
            return Result(loaded, Standing.WAITING)
        case Look(at, for_margin):
            record.look_at = at
            record.margin_looked = record.margin_looked or for_margin
            return Result(loaded, Standing.LOOKING, opened=opened, why=why)
        case Park(look_at):
            record.look_at = look_at
            first = record.parked_at is None
            if first:
                record.parked_at = now
                loaded.facts.append(new_fact(loaded.row, "undecided", step=record.step, generation=record.generation))
            return Result(loaded, Standing.PARKED, opened=opened, why=why, newly_undecided=first)
        case Conflict():
            return _conflict(loaded, record, f"{record.learned}: {why}" if why else record.learned)
        case Rotate():
            successor = rotate(loaded, record, now, turn.terms)
            return _act(turn, successor, step, begin=begin, opened=successor)
        case Done(outcome, by_itself):
            conclude(loaded, record, step, outcome, data or {}, why or by_itself, now)
            return _next(turn)


def _next(turn: Turn) -> Result:
    """The row says what comes next; its record is written and, if the guards allow, its call begins."""
    if turn.loaded.in_conflict:
        return Result(turn.loaded, Standing.CONFLICT, why="an earlier call of it is in conflict")
    if ruled_out := turn.operation.rule_out(turn.loaded):
        turn.loaded.row.state_since = turn.now
        turn.loaded.facts.extend(ruled_out)
    step = turn.operation.next_step(turn.loaded)
    if step is None:
        return Result(turn.loaded, Standing.CONCLUDED, why=turn.loaded.row.reason or "")
    record = plan(turn.loaded, step, turn.terms)
    return _act(turn, record, step, begin=True, opened=record)


def _begin(turn: Turn, record: Record, step: Step, *, looking: bool, opened: Record | None = None) -> Result:
    timing = turn.terms.timing
    mark_sent(record, turn.now, timing, looking=looking, only_looks=step.only_looks)
    not_after_s = timing.not_after_s
    if record.first_sent_at is not None and not looking and step.rules.replays:
        age_s = (turn.now - record.first_sent_at).total_seconds()
        not_after_s = min(not_after_s, timing.horizon_s - age_s)
        if record.deadline is not None:
            not_after_s = min(not_after_s, (record.deadline - turn.now).total_seconds())
    request = request_of(record)
    own = turn.terms.own_account
    in_hand = Call(
        record.id, turn.operation, step, turn.loaded, record.fence, request, looking, not_after_s, turn.now, own
    )
    return Result(turn.loaded, Standing.CALLING, call=in_hand, opened=opened)


def _conflict(loaded: LoadedOperation, record: Record, why: str) -> Result:
    record.state, record.look_at = RecordState.CONFLICT, None
    if record.concluded_at is None:
        record.conclusion = why
    loaded.facts.append(
        new_fact(loaded.row, "conflict", step=record.step, generation=record.generation, **because(why))
    )
    return Result(loaded, Standing.CONFLICT, why=why)


def _late(report: Report, loaded: LoadedOperation, record: Record) -> Result:
    """Somebody else took this call over while we were away. Nothing is thrown away, and nothing is overwritten."""
    if isinstance(report.came_back, LookResult):
        return Result(loaded, Standing.LATE)
    reading = read_answer(report.call.step, loaded, record, report.came_back)
    # `unreported` stays: a report that is settled twice (its commit's answer was lost) must not count for another.
    remember(record, report.came_back, late=True)
    loaded.facts.append(_attempted(loaded, record, report, reading, topic="late_answer"))
    succeeded = record.state == RecordState.ANSWERED and record.learned in (
        Learned.SUCCEEDED,
        Learned.FOUND_OURS,
        Learned.FOUND_FREE,
    )
    contradicts = reading.learned is Learned.SUCCEEDED and record.concluded_at is not None and not succeeded
    if contradicts or reading.learned is Learned.MISMATCH:
        return _conflict(loaded, record, "late_success" if contradicts else f"late_mismatch: {reading.why}")
    return Result(loaded, Standing.LATE)


def _attempted(
    loaded: LoadedOperation, record: Record, report: Report, reading: Reading, *, topic: str = "attempted"
) -> Fact:
    response = report.came_back if isinstance(report.came_back, Response) else None
    return new_fact(
        loaded.row,
        topic,
        step=record.step,
        generation=record.generation,
        outcome=reading.kind,
        learned=reading.learned,
        status=response.status if response else None,
        request_id=response.request_id if response else None,
        replayed=bool(response and response.replayed),
        took_ms=report.took_ms,
        **because(reading.why),
    )
