"""One piece of work, from the claim to its conclusion; a batch shares one transaction.

    claim → guards → prepare → write → judge → save → COMMIT
    call, in the crew: no transaction is open
    guards → settle, and prepare the next call → write → judge → save → COMMIT

The captain of a shift runs `claim`, `start` and `finish`; `make_call` runs in its crew. `except Exception` is here
once: an exception of a call is a bug of ours, counts as an attempt, and does not end the shift.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

from billing import database, effects, row_io, store, switches
from billing.call_settings import CallSettings
from billing.calls import Call, Report
from billing.effects import Context
from billing.gateway import Budget, Gateway, NoAnswer
from billing.learned import Learned
from billing.operations import operation_of
from billing.registration import Operation
from billing.scopes import Place, scopes_of
from billing.states import WorkState
from billing.steps import LoadedOperation, LookResult
from billing.tables.work import Work
from billing.timing import may_be_real
from jobs import logs
from jobs.limits.pace import Pace, Unlimited
from jobs.logs import about
from jobs.road import evidence, work_log, work_queue
from jobs.road.contracts import contract_of, known, urgency_of
from jobs.road.guards import IN_OTHER_HANDS, STOPPED, UNAVAILABLE, Guards
from jobs.road.piece import Piece
from jobs.road.verdicts import LEFT_TO_GUARDS, VERDICTS, policy_of

log = structlog.get_logger()


@dataclass(slots=True)
class Outcome:
    """What one transaction of the captain leaves to do."""

    calls: list[Call] = field(default_factory=list)
    """To be handed to the crew once the transaction has committed."""
    refused_accounts: dict[str | None, int] = field(default_factory=dict)
    """Accounts where the provider refuses our credentials, with the HTTP status of the refusal."""


@dataclass(slots=True)
class Runner:
    """What all work of one worker process shares. Without a `pace` it calls as fast as it can: functions of ours, and
    in tests."""

    call_settings: CallSettings
    rng: random.Random
    pace: InitVar[Pace | None] = None
    guards: Guards = field(init=False)

    def __post_init__(self, pace: Pace | None) -> None:
        self.guards = Guards(pace or Unlimited(self.call_settings.timing.probe_s))

    def claim(self, session: Session, queue: str, free: int) -> list[Piece]:
        """Lock up to `free` pieces of work: first those whose look is due, then the most urgent."""
        looking = work_queue.claim_looks(session, queue, free)
        ready = work_queue.claim_ready(session, queue, known(), free - len(looking)) if len(looking) < free else []
        looks = {work.id for work in looking}
        # Work that is ready and also has a look due is claimed once.
        claimed = {work.id: work for work in (*ready, *looking)}.values()
        return [Piece(work, operation_of(work.entity_id), look=work.id in looks) for work in claimed]

    def start(self, session: Session, claimed: Sequence[Piece]) -> Outcome:
        """Prepare the calls of claimed work. The caller commits, then calls."""
        return self._carry_on(session, claimed) if claimed else Outcome()

    def finish(self, session: Session, reports: Sequence[Report]) -> Outcome:
        """Settle the reports together; the next steps are prepared in the same transaction."""
        works = work_queue.locked(session, {report.call.loaded.work_id for report in reports})
        in_order = sorted(reports, key=lambda report: report.call.record_id)
        pieces = [Piece(works[each.call.loaded.work_id], each.call.operation, each) for each in in_order]
        return self._carry_on(session, pieces)

    def _carry_on(self, session: Session, pieces: Sequence[Piece]) -> Outcome:
        """Take pieces of work through one transaction: the one before their calls, or the one after."""
        pulled = switches.lock_and_read_pulled(session, {scope for piece in pieces for scope in piece.work.scopes})
        _load(session, pieces)
        now = database.now(session)
        for piece in pieces:
            self._check_guards(piece, pulled)
            self._prepare_or_settle(session, piece, now)
        # Written before they are judged: the write shows whether a sibling has the object of a new record.
        unwritten = store.write(session, [piece.result for piece in pieces if piece.result is not None])
        for piece in pieces:
            self._judge(piece, now)
        store.save_all(session, unwritten, [piece.work for piece in pieces])
        _keep_failures(session, pieces, now)
        logs.once_committed(session, lambda: work_log.write(pieces, now))
        return _outcome(pieces)

    def _check_guards(self, piece: Piece, pulled: Mapping[str, str]) -> None:
        if piece.loaded is None:
            piece.refusal = IN_OTHER_HANDS if piece.in_other_hands else UNAVAILABLE
            return
        if piece.report is not None and piece.report.error is not None:
            piece.work.attempts += 1
        _name_scopes(piece.work, piece.operation, piece.loaded)
        account, follows = piece.loaded.row.account, piece.report is not None
        piece.refusal = self.guards.check(piece.work, pulled, account, follows=follows)

    def _prepare_or_settle(self, session: Session, piece: Piece, now: datetime) -> None:
        loaded, refusal = piece.loaded, piece.refusal
        if piece.look_is_refused:
            store.look_later(session, piece.work.id, now + timedelta(seconds=self.call_settings.timing.retry_first_s))
        if loaded is None or (refusal is not None and refusal.untouched):
            return
        contract = contract_of(piece.work)
        budget_s, observes = (contract.call_budget_s, contract.observes) if contract is not None else (None, False)
        context = Context(piece.operation, loaded, now, self.call_settings, refusal is None, budget_s, observes)
        state = loaded.row.state
        if piece.report is None:
            piece.result = effects.prepare(context, look=piece.look)
        else:
            report = _conflict_if_claimed(session, piece.report) if piece.report.call.looking else piece.report
            piece.result = effects.settle(context, report)
        if piece.work.traceparent is not None:
            for fact in loaded.facts:
                fact.traceparent = piece.work.traceparent
        if piece.result.call is not None:
            self.guards.pace.spend(loaded.row.account)
        piece.ended = loaded.row.state != state and loaded.row.life.is_final(loaded.row.state)
        if piece.ended and piece.operation.when_ended is not None:
            piece.operation.when_ended(session, loaded)

    def _judge(self, piece: Piece, now: datetime) -> None:
        """Change the state of the work by the standing of its operation. Only this function does that."""
        work, result, refusal = piece.work, piece.result, piece.refusal
        if piece.look_is_refused:
            return  # it was put off, and nothing else waits for it
        if refusal is not None and (result is None or result.standing in LEFT_TO_GUARDS):
            verdict, why = refusal.verdict, refusal.reason
        else:
            assert result is not None, "only a guard leaves an operation as it is"
            verdict, why = VERDICTS[result.standing], result.why
        if result is not None and work.urgency < work.created_at:
            self._set_urgency(work, result.loaded)
        state, after = verdict.state, None
        if state is None or (work.state in STOPPED and state not in (WorkState.DONE, WorkState.QUARANTINED)):
            return
        if state is WorkState.RUNNING and result is not None and result.call is not None:
            if result.call.looking and not result.call.step.only_looks:
                return  # a look that was due leaves the work as it is: nothing is being sent
            if any(each.id == work.record_id and each.step != result.call.step.name for each in result.loaded.records):
                work.attempts = 0  # they are counted per step: one step after the other is no crash loop
            work.record_id = result.call.record_id
        if state is WorkState.QUARANTINED and result is not None:
            why = f"{result.standing}: {why}"
            if (work.state, work.reason) == (state, why):
                return  # nothing changed, so `state_since` stays
        policy = policy_of(verdict, work)
        if policy is not None and policy.pause is not None:
            # Work whose operation was not touched was not tried.
            work.tries += 1 if result is not None else 0
            after = policy.pause(work.tries, self.call_settings.timing, self.rng)
        work_queue.move(work, state, now, reason=why or None, after=after)

    def _set_urgency(self, work: Work, loaded: LoadedOperation) -> None:
        """The work was planned before its authorization was read. From now on its deadline decides its urgency."""
        deadline = operation_of(loaded.row.id).deadline_of(loaded.row)
        if deadline is not None and may_be_real(deadline):
            work.urgency = urgency_of(deadline, work.created_at, self.call_settings.timing)

    def set_aside(self, session: Session, claimed: Sequence[Piece], error: Exception) -> None:
        """Quarantine work that could not be prepared. A look that is due is postponed, or it would be claimed again."""
        now, why = database.now(session), f"could not be prepared: {type(error).__name__}"
        for work in work_queue.locked(session, [piece.work.id for piece in claimed]).values():
            work_queue.move(work, WorkState.QUARANTINED, now, reason=why)
            logs.once_committed(session, partial(log.error, "work.quarantined", **about(work), why=why))
            failure = evidence.failure(session, work, quarantined=True, errors=evidence.errors_of(error))
            row_io.save(session, [work], [failure])
            store.look_later(session, work.id, now + timedelta(seconds=self.call_settings.timing.look_max_s))


def make_call(gateway: Gateway, call: Call, budget: Budget) -> Report:
    """One call in the crew. An exception is reported, not raised: an answer may have been on its way."""
    try:
        return effects.call(gateway, call, budget)
    except Exception as error:
        log.error("call.crashed", step=call.step.name, **about(call.loaded.row), exc_info=True)
        name = logs.class_of(error)
        unknown = LookResult(Learned.LOOK_UNANSWERED, why=name) if call.looking else NoAnswer(name)
        return Report(call, unknown, 0, error=name, raised=evidence.errors_of(error))


def _load(session: Session, pieces: Sequence[Piece]) -> None:
    """Lock and load their operations. Before their calls, one that another transaction has locked is left to it."""
    before_calls = all(piece.report is None for piece in pieces)
    wanted: dict[Operation, dict[str, tuple[str, str]]] = defaultdict(dict)
    for piece in pieces:
        wanted[piece.operation].setdefault(piece.work.entity_id, (piece.work.id, piece.work.queue))
    operations: dict[str, LoadedOperation] = {}
    taken: set[str] = set()
    for operation, ids in wanted.items():
        found = store.load(session, operation, ids, wait=not before_calls)
        operations |= found
        if missing := ids.keys() - found.keys():
            taken |= store.existing(session, operation, missing)
    for piece in pieces:
        if piece.report is not None:
            piece.loaded = operations[piece.work.entity_id]
            continue
        # Two pieces of work for one operation are never prepared together.
        loaded = operations.get(piece.work.entity_id)
        piece.in_other_hands = piece.work.entity_id in taken or (loaded is not None and loaded.work_id != piece.work.id)
        piece.loaded = None if piece.in_other_hands else loaded


def _name_scopes(work: Work, operation: Operation, loaded: LoadedOperation) -> None:
    """An older relay named fewer scopes on the work that it planned. What is missing is added, for the guards here and
    for the relay, which holds and releases by what is named."""
    currency: str | None = getattr(loaded.row, "currency", None)
    stands_in = scopes_of(Place(operation, work.contract, work.queue, loaded.row.account, currency))
    if not set(stands_in) <= set(work.scopes):
        work.scopes = sorted({*work.scopes, *stands_in})


def _conflict_if_claimed(session: Session, report: Report) -> Report:
    """If a look found an effect that another operation has claimed, it is a conflict; else the report as it is."""
    found = report.came_back
    if not isinstance(found, LookResult) or (other := store.claimed_elsewhere(session, report)) is None:
        return report
    claimed = replace(found, learned=Learned.FOUND_CLAIMED, why=f"claimed_by_another: {other}")
    return replace(report, came_back=claimed)


def _keep_failures(session: Session, pieces: Sequence[Piece], now: datetime) -> None:
    """Keep why work was quarantined in this transaction, and which calls ended with an error of ours."""
    for piece in pieces:
        quarantined = piece.quarantined_at(now)
        raised = piece.report.raised if piece.report is not None else ()
        if quarantined or raised:
            row_io.save(session, (), [evidence.failure(session, piece.work, quarantined=quarantined, errors=raised)])


def _outcome(pieces: Sequence[Piece]) -> Outcome:
    outcome = Outcome()
    for result in (piece.result for piece in pieces if piece.result is not None):
        if result.call is not None:
            outcome.calls.append(result.call)
        elif result.misconfigured and operation_of(result.loaded.row.id).scope is not None:
            outcome.refused_accounts[result.loaded.row.account] = result.misconfigured
    return outcome
