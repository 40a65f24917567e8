"""One piece of work, from the claim to its conclusion; a batch shares one transaction.

    claim → guards → prepare → (commit) → call → (commit) settle → judge → conclude

The captain of a shift runs `start` and `finish`; `make_call` runs in its crew. `except Exception` stands here
once: what escapes a call is a bug of ours, is counted as an attempt, and never ends a shift.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from billing import database, effects, row_io, store, switches
from billing.effects import Call, Context, Report, Result, Standing
from billing.gateway import Budget, Gateway, NoAnswer
from billing.idempotency import Learned
from billing.operations import operation_of
from billing.records import Terms
from billing.steps import LoadedOperation, LookResult, Operation
from billing.tables import Capture, Work, WorkState
from billing.timing import may_be_real
from jobs import logs
from jobs.logs import about
from jobs.road import work_queue
from jobs.road.contracts import BY_NAME, KNOWN, urgency_of
from jobs.road.guards import STOPPED, Refusal, check_guards
from jobs.road.pace import Pace, Reach
from jobs.road.verdicts import VERDICTS, Verdict, pause

log = structlog.get_logger()


@dataclass(slots=True)
class Outcome:
    """What one transaction of the captain brought."""

    calls: list[Call] = field(default_factory=list)
    """To be handed to the crew once the transaction has committed."""
    refused_accounts: dict[str | None, int] = field(default_factory=dict)
    """Accounts where the provider refuses our credentials, with the status it says so by."""
    claimed: int = 0


@dataclass(slots=True)
class Runner:
    """What every piece of work of one worker process shares."""

    terms: Terms
    pace: Pace
    rng: random.Random
    reach: Reach = field(init=False)
    claimed: tuple[Work, ...] = ()
    """What the last `start` claimed, whether it went well or not."""

    def __post_init__(self) -> None:
        self.reach = Reach(self.terms.timing.probe_s)

    def start(self, session: Session, queue: str, free: int, in_flight: Counter[str | None]) -> Outcome:
        """Claim up to `free` work_queue, looks first, and prepare their calls. The caller commits, then calls."""
        self.claimed = ()
        looking = work_queue.claim_looks(session, queue, free)
        ready = work_queue.claim_ready(session, queue, KNOWN, free - len(looking)) if len(looking) < free else []
        claimed = {work.id: work for work in (*ready, *looking)}
        self.claimed = tuple(claimed.values())
        if not claimed:
            return Outcome()
        looks, in_flight = {work.id for work in looking}, in_flight.copy()
        pulled = switches.pulled(session, {scope for work in claimed.values() for scope in work.scopes})
        operations = _load(session, claimed.values())
        now = database.now(session)
        results: list[tuple[Work, Result, Refusal | None]] = []
        aside: list[Work] = []
        for work in claimed.values():
            # Popped, so that two pieces of work for one operation never share a turn.
            loaded = operations.pop(work.entity_id, None)
            if loaded is None or loaded.work_id != work.id:
                work_queue.move(
                    work, WorkState.QUARANTINED, now, reason="its operation is unknown, or in hand elsewhere"
                )
                aside.append(work)
                _quarantined(session, work)
                continue
            look = work.id in looks
            refusal = check_guards(work, BY_NAME.get((work.contract, work.version)), pulled)
            if (
                refusal is None
                and not look
                and not self.pace.has_room(loaded.row.account, in_flight[loaded.row.account])
            ):
                after = pause(Verdict.SOON, 0, self.terms.timing, self.rng)
                work_queue.move(work, WorkState.WAITING, now, reason="the provider throttles this account", after=after)
                aside.append(work)
                continue
            turn = Context(operation_of(work.entity_id), loaded, now, self.terms, may_send=refusal is None)
            result = effects.prepare(turn, look=look)
            in_flight[loaded.row.account] += result.call is not None
            results.append((work, result, refusal))
        row_io.save(session, aside)
        return self._conclude(session, results, now, claimed=len(claimed))

    def set_aside(self, session: Session, why: str) -> None:
        """Quarantine what the last `start` claimed; its record is looked at later, so that it is not claimed again."""
        now = database.now(session)
        for work in work_queue.locked(session, [work.id for work in self.claimed]).values():
            work_queue.move(work, WorkState.QUARANTINED, now, reason=why)
            _quarantined(session, work)
            row_io.save(session, [work])
            store.look_later(session, work.id, now, self.terms.timing)

    def finish(self, session: Session, reports: Sequence[Report]) -> Outcome:
        """Settle what the crew brought back, together; next steps are prepared in the same transaction."""
        works = work_queue.locked(session, {report.call.loaded.work_id for report in reports})
        pulled = switches.pulled(session, {scope for work in works.values() for scope in work.scopes})
        operations = _load(session, works.values())
        now = database.now(session)
        results: list[tuple[Work, Result, Refusal | None]] = []
        for told in sorted(reports, key=lambda report: report.call.record_id):
            report = _checked(session, told)
            work = works[report.call.loaded.work_id]
            work.attempts += report.error is not None
            loaded = operations[work.entity_id]
            refusal = check_guards(work, BY_NAME.get((work.contract, work.version)), pulled)
            turn = Context(report.call.operation, loaded, now, self.terms, may_send=refusal is None)
            result = effects.settle(turn, report)
            self.pace.learn(loaded.row.account, throttled=result.throttled)
            results.append((work, result, refusal))
        return self._conclude(session, results, now, reports=reports)

    def _conclude(
        self,
        session: Session,
        results: Sequence[tuple[Work, Result, Refusal | None]],
        now: datetime,
        *,
        claimed: int = 0,
        reports: Sequence[Report] = (),
    ) -> Outcome:
        unwritten = store.write(session, [result for _, result, _ in results])
        outcome = Outcome(claimed=claimed)
        for work, result, refusal in results:
            self._judge(work, result, refusal, now)
            if result.call is not None:
                outcome.calls.append(result.call)
            elif result.misconfigured and result.loaded.row.id.startswith(("cap_", "inv_")):
                outcome.refused_accounts[result.loaded.row.account] = result.misconfigured
        store.save_all(session, unwritten, [work for work, _, _ in results])
        logs.once_committed(session, lambda: _tell(results, reports, now))
        return outcome

    def _judge(self, work: Work, result: Result, refusal: Refusal | None, now: datetime) -> None:
        """The one place where a piece of work changes its state because of how its operation stands."""
        verdict, why = VERDICTS[result.standing], result.why
        row = result.loaded.row
        deadline = row.capture_before if isinstance(row, Capture) else None
        if deadline is not None and may_be_real(deadline) and work.urgency < work.created_at:
            # Planned before its authorization was known; from now on its deadline counts.
            work.urgency = urgency_of(deadline, work.created_at, self.terms.timing)
        if refusal is not None and verdict in (Verdict.HOLD, Verdict.LOOK, Verdict.AT_ONCE):
            # A guard's no replaces only a verdict that could send now or waits for the guard. RETRY and SOON
            # come back through the claim, where it is asked again; a look has the record's own clock.
            verdict, why = refusal.verdict, refusal.reason
        stopped = work.state in STOPPED and verdict not in (Verdict.DONE, Verdict.QUARANTINE)
        if stopped or verdict is Verdict.LEAVE:
            return
        match verdict:
            case Verdict.RUN:
                # A look by the record's own clock leaves the work as it is: nothing is being sent.
                if result.call is not None and (not result.call.looking or result.call.step.only_looks):
                    work.record_id = result.call.record_id
                    work_queue.move(work, WorkState.RUNNING, now)
            case Verdict.DONE:
                work_queue.move(work, WorkState.DONE, now, reason=why or None)
            case Verdict.AT_ONCE:
                work_queue.move(work, WorkState.READY, now, reason=why or None)
            case Verdict.SOON | Verdict.RETRY:
                work.tries += 1
                after = pause(verdict, work.tries, self.terms.timing, self.rng)
                work_queue.move(work, WorkState.WAITING, now, reason=why or None, after=after)
            case Verdict.LOOK:
                work_queue.move(work, WorkState.WAITING, now, reason=why or None)
            case Verdict.HOLD:
                work_queue.move(work, WorkState.HELD, now, reason=why or "switched off")
            case Verdict.PARK:
                work_queue.move(work, WorkState.PARKED, now, reason=why)
            case Verdict.QUARANTINE:
                reason = f"{result.standing}: {why}"
                if (work.state, work.reason) != (WorkState.QUARANTINED, reason):
                    work_queue.move(work, WorkState.QUARANTINED, now, reason=reason)


def make_call(gateway: Gateway, in_hand: Call, budget: Budget) -> Report:
    """One call in the crew. Whatever escapes it is reported, never raised: an answer may have been on its way."""
    try:
        return effects.call(gateway, in_hand, budget)
    except Exception as error:
        log.error("call.crashed", step=in_hand.step.name, **about(in_hand.loaded.row), exc_info=True)
        name = type(error).__name__
        unknown = LookResult(Learned.LOOK_UNANSWERED, why=name) if in_hand.looking else NoAnswer(name)
        return Report(in_hand, unknown, 0, error=name)


def _load(session: Session, works: Iterable[Work]) -> dict[str, LoadedOperation]:
    by_operation: dict[Operation, dict[str, tuple[str, str]]] = defaultdict(dict)
    for work in works:
        by_operation[operation_of(work.entity_id)][work.entity_id] = (work.id, work.queue)
    operations: dict[str, LoadedOperation] = {}
    for operation, wanted in by_operation.items():
        operations |= store.load(session, operation, wanted)
    return operations


def _checked(session: Session, report: Report) -> Report:
    """An effect that is not provably ours may be another operation's: then it is a conflict."""
    other = store.claimed_elsewhere(session, report)
    if other is None:
        return report
    assert isinstance(report.came_back, LookResult)
    claimed = replace(report.came_back, learned=Learned.FOUND_CLAIMED, why=f"claimed_by_another: {other}")
    return replace(report, came_back=claimed)


def _tell(results: Sequence[tuple[Work, Result, Refusal | None]], reports: Sequence[Report], now: datetime) -> None:
    """One line for each: a call is in hand, or how its operation stands without one. What a person must know is an
    error once, and not again at each look."""
    took_ms = {report.call.loaded.row.id: report.took_ms for report in reports}
    for work, result, _ in results:
        row, call, took = result.loaded.row, result.call, took_ms.get(result.loaded.row.id)
        if call is not None:
            step, looking = call.step.name, call.looking
            log.info("operation.prepared", **about(row), state=row.state, step=step, looking=looking, took_ms=took)
            continue
        stuck = work.state == WorkState.QUARANTINED and work.state_since == now
        for_a_person = stuck or result.newly_undecided or result.standing in _FOR_A_PERSON
        level = log.error if for_a_person else log.info
        level(
            "operation.settled",
            **about(row),
            state=row.state,
            standing=str(result.standing),
            work=str(work.state),
            took_ms=took,
            why=result.why or None,
        )


_FOR_A_PERSON = (Standing.CONFLICT, Standing.MISCONFIGURED)


def _quarantined(session: Session, work: Work) -> None:
    logs.once_committed(session, lambda: log.error("work.quarantined", **about(work), why=work.reason))
