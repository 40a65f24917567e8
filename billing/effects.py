"""Prepare, call, settle: the three parts of every call to Stripe. Nothing is locked during the call.

    prepare   the record is written as sent, with its key and a lease; COMMIT
    call      no transaction is open
    settle    answer, state and facts together, and the next call prepared; COMMIT

`prepare` and `settle` work on loaded rows and touch no connection; `billing.store` loads and writes them.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from billing import observing
from billing.answers import Kind, Reading, read_answer
from billing.call_settings import CallSettings
from billing.calls import Call, Report, Result, Standing
from billing.gateway import Answer, Budget, Gateway, Request, Response, boot_clock
from billing.idempotency import (
    Conflict,
    Done,
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
from billing.learned import EFFECT_IS_OURS, Learned
from billing.provider_ids import IdKind, NoSuchShape, is_id
from billing.records import (
    conclude,
    learn_from_answer,
    learn_from_look,
    mark_conflict,
    mark_lapsed,
    mark_sent,
    mark_undecided,
    note_answer,
    plan,
    request_of,
    rotate,
)
from billing.registration import Operation
from billing.states import RecordState
from billing.steps import LoadedOperation, LookResult, Reader, Step
from billing.tables.idempotency_records import Record


def call(gateway: Gateway, prepared: Call, budget: Budget) -> Report:
    """Send the prepared call once, or look once, within the budget. Holds no database connection and no lock."""
    began, began_ns = boot_clock(), time.time_ns()
    came_back: Answer | LookResult
    requests = 1
    if prepared.looking:
        account = prepared.request.account
        owner = account or prepared.own_account
        # A look may start late; only its whole length is limited.
        whole = Budget(not_after=budget.over_at, over_at=budget.over_at)

        def get_in(of: str | None, path: str) -> Answer:
            return gateway.send(Request("GET", path, account=of), whole)

        read = Reader(partial(get_in, account), owner, get_in)
        came_back = prepared.step.look(prepared.loaded, read, gateway.livemode)
        requests = read.requests
    else:
        came_back = gateway.send(prepared.request, budget)
    took_ms = int((boot_clock() - began) * 1000)
    return Report(prepared, came_back, took_ms, began_ns=began_ns, requests=requests)


@dataclass(frozen=True, slots=True)
class Context:
    """What a prepare or a settle decides from: one operation, inside one transaction.

    `may_send`: whether the guards allow a send. If not, nothing is sent, and an unanswered call is looked at.
    `call_budget_s`: how long its contract lets a call take. None: the contract is not known, so the longest of all.
    `observes`: its work only looks at how the operation stands by now (`billing.observing`).
    """

    operation: Operation
    loaded: LoadedOperation
    now: datetime
    call_settings: CallSettings
    may_send: bool
    call_budget_s: float | None = None
    observes: bool = False

    @property
    def next_step(self) -> Step | None:
        """The operation's next step; of work that observes, its one look, once."""
        loaded = self.loaded
        if not self.observes:
            return self.operation.next_step(loaded)
        looked = any(observing.is_its_own(record, loaded) for record in loaded.records)
        return None if looked else self.operation.observe(loaded)


def prepare(context: Context, *, look: bool = False) -> Result:
    """The next call of this operation, or why there is none. The call's record is leased and marked as sent.

    `look`: the record's look is due, so it is looked at and not sent.
    """
    loaded, record = context.loaded, context.loaded.open_record
    if context.observes and (why := _needs_no_look(context, record)) is not None:
        return Result(loaded, Standing.CONCLUDED, why=why)
    if loaded.in_conflict:
        return Result(loaded, Standing.CONFLICT)
    if (why := unfit(context.operation, loaded)) is not None:
        if record is not None and record.unanswered:
            # A look cannot be made either. It is put off, because only a change of the row by an operator helps.
            record.look_at = context.now + timedelta(seconds=context.call_settings.timing.look_max_s)
        return Result(loaded, Standing.UNFIT, why=why)
    leased = record is not None and lease_alive(record, context.now)
    if record is not None and record.state == RecordState.SENT and not leased:
        mark_lapsed(loaded, record, context.operation.steps(record.step))
    if record is not None and look and not leased:
        return _begin(context, record, context.operation.steps(record.step), looking=True)
    return _advance(context, record)


def _needs_no_look(context: Context, record: Record | None) -> str | None:
    """Why work that observes makes no look of its own; None if it makes one. A call that other work has open is looked
    at instead, at once."""
    loaded = context.loaded
    if record is not None and observing.is_its_own(record, loaded):
        return None
    if loaded.in_conflict:
        return "it is in conflict, and needs a decision"
    if record is not None:
        return observing.hurry(record, context.now)
    return unfit(context.operation, loaded)


def unfit(operation: Operation, loaded: LoadedOperation) -> str | None:
    """Why no valid request can be built from its row, or from its open call; None if one can. See `Operation.unfit`."""
    if loaded.row.account is not None and not is_id(IdKind.ACCOUNT, loaded.row.account):
        return str(NoSuchShape(IdKind.ACCOUNT))
    if (why := operation.unfit(loaded)) is not None:
        return why
    part = request_of(loaded.open_record).unfit if loaded.open_record is not None else None
    return f"the {part} of its open call has characters that we never write" if part is not None else None


def settle(context: Context, report: Report) -> Result:
    """Apply what came back to freshly loaded rows, and prepare the next call where there is one.

    If another worker has taken the call over, so that the report's fence is old, the report is kept as a fact. It
    changes the record only if it contradicts what was concluded.
    """
    loaded, call, came_back = context.loaded, report.call, report.came_back
    record = next(record for record in loaded.records if record.id == call.record_id)
    if record.fence != call.fence:
        return _late(loaded, record, report)
    if record.lease_until is None:
        return Result(loaded, Standing.LATE, why="settled already")
    record.lease_until = record.lease_s = None
    if record.state == RecordState.CONFLICT:
        # A late answer has shown a contradiction while this call was in flight: it stays one.
        if not isinstance(came_back, LookResult):
            reading = read_answer(call.step, loaded, record, came_back)
            note_answer(loaded, record, came_back, reading, report.took_ms)
        return Result(loaded, Standing.CONFLICT, why="a late answer contradicts it")
    if isinstance(came_back, LookResult):
        learn_from_look(loaded, record, came_back, began_at=call.prepared_at, took_ms=report.took_ms)
        result = _advance(context, record, came_back)
        status = came_back.answer.status if isinstance(came_back.answer, Response) else None
        result.misconfigured = status if status in (401, 403) else 0
        return result
    reading = read_answer(call.step, loaded, record, came_back)
    note_answer(loaded, record, came_back, reading, report.took_ms)
    learn_from_answer(record, reading, context.now)
    match reading.kind:
        case Kind.NOT_SENT:
            return Result(loaded, Standing.NOT_SENT, why=reading.why)
        case Kind.THROTTLED:
            return Result(loaded, Standing.THROTTLED, why=reading.why)
        case Kind.MISCONFIGURED:
            return Result(loaded, Standing.MISCONFIGURED, why=reading.why, misconfigured=reading.status)
        case Kind.LEARNED:
            return _advance(context, record, reading)
        case Kind.NO_ANSWER:
            result = _advance(context, record, reading)
            if result.standing is Standing.AGAIN:
                result.standing, result.why = Standing.IN_DOUBT, reading.why
            return result


def _advance(context: Context, record: Record | None, seen: Reading | LookResult | None = None) -> Result:
    """Do what `next_move` says, until a call is prepared or nothing can be done now. Without a record, plan the next
    step.

    `seen` is what the open record has just learned from. The same call is not sent again in this transaction: first the
    work goes back to the queue, where the guards are asked. Only the call of a next step may begin at once.
    """
    loaded, now, timing = context.loaded, context.now, context.call_settings.timing
    opened: Record | None = None
    begin_now = seen is None
    while True:
        if record is None:
            if loaded.in_conflict:
                return Result(loaded, Standing.CONFLICT, why="one of its earlier calls is in conflict")
            if not context.observes and (earlier := context.operation.comes_after(loaded)) is not None:
                return Result(loaded, Standing.IN_TURN, why=f"{earlier} must be over first")
            if not context.observes and (ruled_out := context.operation.rule_out(loaded)):
                loaded.row.state_since = now
                loaded.facts.extend(ruled_out)
            if (following := context.next_step) is None:
                return Result(loaded, Standing.CONCLUDED, why=loaded.row.reason or "")
            record = opened = plan(loaded, following, context.call_settings)
            begin_now = True
        step, why = context.operation.steps(record.step), seen.why if seen else ""
        match next_move(record, now, timing, step.rules, loaded.rotations(record.step)):
            case Done(outcome, by_itself):
                told = len(loaded.facts)
                conclude(loaded, record, step, outcome, (seen and seen.data) or {}, why or by_itself, now)
                new = tuple(loaded.facts[told:])
                loaded.begun.extend(context.operation.begins(loaded, new, context.call_settings))
                record = seen = None
            case Rotate():
                record = opened = rotate(loaded, record, now, context.call_settings)
                seen = None
            case Send() | Resend():
                if begin_now and context.may_send:
                    return _begin(context, record, step, looking=step.only_looks, opened=opened)
                if record.unanswered and not context.may_send:
                    # It must not be sent again now, but what the earlier sends did can be looked at.
                    record.look_at = now + look_backoff(record, timing) if record.looks else now
                    return Result(loaded, Standing.LOOKING, opened=opened)
                record.look_at = None
                return Result(loaded, Standing.AGAIN if context.may_send else Standing.BLOCKED, opened=opened)
            case Wait():
                return Result(loaded, Standing.WAITING)
            case Look(at, for_margin):
                record.look_at = at
                record.margin_looked = record.margin_looked or for_margin
                return Result(loaded, Standing.LOOKING, opened=opened, why=why)
            case Park(look_at):
                first = mark_undecided(loaded, record, look_at, now)
                return Result(loaded, Standing.PARKED, opened=opened, why=why, newly_undecided=first)
            case Conflict():
                return _conflict(loaded, record, f"{record.learned}: {why}" if why else record.learned)


def _begin(context: Context, record: Record, step: Step, *, looking: bool, opened: Record | None = None) -> Result:
    timing = context.call_settings.timing
    mark_sent(record, context.now, timing, step, looking=looking)
    not_after_s = timing.not_after_s
    if record.first_sent_at is not None and not looking and step.rules.replays:
        age_s = (context.now - record.first_sent_at).total_seconds()
        not_after_s = min(not_after_s, timing.horizon_s - age_s)
        if record.deadline is not None:
            not_after_s = min(not_after_s, (record.deadline - context.now).total_seconds())
    budget_s = context.call_budget_s or timing.call_budget_s
    if not step.rules.local:  # a function of ours leaves no doubt, so nobody waits until its time is over
        budget_s = min(budget_s, timing.call_budget_s)
    call = Call(
        record_id=record.id,
        operation=context.operation,
        step=step,
        loaded=context.loaded,
        fence=record.fence,
        request=request_of(record),
        looking=looking,
        not_after_s=not_after_s,
        prepared_at=context.now,
        call_budget_s=budget_s,
        own_account=context.call_settings.own_account,
    )
    return Result(context.loaded, Standing.CALLING, call=call, opened=opened)


def _conflict(loaded: LoadedOperation, record: Record, why: str) -> Result:
    mark_conflict(loaded, record, why)
    return Result(loaded, Standing.CONFLICT, why=why)


def _late(loaded: LoadedOperation, record: Record, report: Report) -> Result:
    """Another worker took this call over before its report came. The report is kept as a fact, and overwrites
    nothing."""
    if isinstance(report.came_back, LookResult):
        return Result(loaded, Standing.LATE)
    reading = read_answer(report.call.step, loaded, record, report.came_back)
    note_answer(loaded, record, report.came_back, reading, report.took_ms, late=True)
    succeeded = record.state == RecordState.ANSWERED and record.learned in EFFECT_IS_OURS
    contradicts = reading.learned is Learned.SUCCEEDED and record.concluded_at is not None and not succeeded
    if contradicts or reading.learned is Learned.MISMATCH:
        return _conflict(loaded, record, "late_success" if contradicts else f"late_mismatch: {reading.why}")
    return Result(loaded, Standing.LATE)
