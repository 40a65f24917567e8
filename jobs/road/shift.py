"""One shift on one queue: the captain holds the one database connection, the crew only talks to the provider.

The captain claims a batch and commits, hands the calls to the crew, collects what comes back, settles it in
groups and commits. A shift ends when its queue is empty, when it is told to stop, or after its slice; always
with no call in flight.
"""

import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import database, row_io, store, switches
from billing.database import autocommit, now, transaction
from billing.effects import Call, Report
from billing.gateway import Budget, Gateway, Response, boot_clock
from billing.states import WorkState
from jobs.logs import about
from jobs.road import work_queue
from jobs.road.contracts import known
from jobs.road.runner import Outcome, Piece, Runner, make_call
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

LOOK_AGAIN_S = 0.002
"""With room in its crew the captain looks for new work this often: waiting for answers alone cost 120 ms at p50."""
GATHER_S = 0.04
"""After a first answer, while many calls are in flight: what comes within it is settled in the same transaction.
A wake-up and a transaction cost several times what one more row in it does."""
MANY = 8
ALL_BUSY_S = 0.1
LAST_WAIT_S = 1.0
"""So long a shift waits for calls far over their budget before it ends its process."""
GROUP = 64
"""So many answers are settled in one transaction, which keeps it well under 250 ms."""


class Control:
    """What the process around a shift tells it. This one never stops it: for one-off shifts and tests."""

    def stop_requested(self) -> bool:
        return False

    def keep_alive(self) -> None:
        """Called often, outside transactions."""


CallId = tuple[str, int]
"""A call in flight: its record and its fence."""


def _id_of(call: Call) -> CallId:
    return call.record_id, call.fence


@dataclass(frozen=True, slots=True)
class InFlight:
    call: Call
    over_at: float


class Crew:
    """Threads that take a call and bring back a report. They hold no connection and open no transaction."""

    def __init__(self, size: int, gateway: Gateway) -> None:
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[tuple[Call, Budget] | None] = queue.SimpleQueue()
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._work, name=f"crew-{n}", daemon=True) for n in range(size)]
        for thread in self._threads:
            thread.start()

    def hand(self, call: Call, budget: Budget) -> None:
        self._calls.put((call, budget))

    def dismiss(self) -> None:
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (handed := self._calls.get()) is not None:
            self.reports.put(make_call(self._gateway, *handed))


class Shift:
    """Runs one shift. Raises nothing that a server away for a while could cause: it waits for the server."""

    def __init__(
        self,
        engine: Engine,
        gateway: Gateway,
        runner: Runner,
        queue_name: str,
        *,
        crew: int,
        slice_s: float,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._engine, self._gateway, self._runner = engine, gateway, runner
        self._queue, self._crew, self._slice_s, self._leave = queue_name, crew, slice_s, leave
        # So many calls are prepared and wait for a free hand, that none is idle while the captain settles and claims.
        self._ahead = crew // 2
        self._timing = runner.call_settings.timing
        # By record and fence: a shift may take over from itself what it took too long to prolong.
        self._in_flight: dict[CallId, InFlight] = {}
        self._written_off: dict[CallId, Call] = {}
        self._renewed_at = boot_clock()
        # So many claims are of one piece each, after a claim of more has failed.
        self._one_by_one = 0
        self._control = Control()
        self._stragglers: set[CallId] = set()
        self._later: list[Report] = []
        self._later_at = 0.0
        self._found = True
        self.settled = 0

    def run(self, control: Control) -> int:
        """Drain the queue. Returns how many calls were settled."""
        self._control = control
        began = idle_since = boot_clock()
        crew = Crew(self._crew, self._gateway)
        while True:
            # With every hand busy there is nothing to look for: only to wait for the first answer.
            reports = self._collect(crew, LOOK_AGAIN_S if self._wants_more() else ALL_BUSY_S)
            reports += self._again()
            if reports:
                answers_again = [self._runner.guards.silence.learn(reached=report.reached) for report in reports]
                self._settle(reports, crew)
                self._after_a_silence(any(answers_again))
            ending = control.stop_requested() or bool(self._written_off) or boot_clock() > began + self._slice_s
            if not ending:
                claimed = self._claim(crew) if self._wants_more() else 0
                if claimed or self._in_flight:
                    idle_since = boot_clock()
                ending = not self._in_flight and boot_clock() > idle_since + self._timing.linger_s
            self._renew()
            control.keep_alive()
            if ending and not self._in_flight and not self._later:
                break
        self._await_the_written_off(crew)
        crew.dismiss()
        return self.settled

    def _await_the_written_off(self, crew: Crew) -> None:
        """Where the whole process slept, its calls come back now; where a thread hangs, only leaving helps."""
        while self._written_off and (reports := self._collect(crew, LAST_WAIT_S)):
            # What it prepares is not started: nobody would settle it. Its lease brings it back.
            self._settle(reports, None)
        if self._written_off:
            for (record_id, _), call in self._written_off.items():
                log.error("call.abandoned", **about(call.loaded.row), step=call.step.name, record_id=record_id)
            self._leave(1)

    def _again(self) -> list[Report]:
        """Answers whose row somebody held; tried again with the next group, and no sooner than after a pause."""
        if not self._later or boot_clock() < self._later_at:
            return []
        again, self._later = self._later, []
        self._later_at = boot_clock() + self._timing.retry_first_s
        return again

    def _collect(self, crew: Crew, wait_s: float) -> list[Report]:
        """What came back, waiting at most so long for the first of it."""
        reports: list[Report] = []
        try:
            reports.append(crew.reports.get(timeout=wait_s))
            together_until = boot_clock() + (GATHER_S if len(self._in_flight) >= MANY else 0.0)
            while len(reports) < GROUP:
                reports.append(crew.reports.get(timeout=max(0.0, together_until - boot_clock())))
        except queue.Empty:
            pass
        return reports

    def _free(self) -> int:
        return self._crew + self._ahead - len(self._in_flight)

    def _wants_more(self) -> bool:
        """Not for every single answer: a claim is dear, and for now there are calls ahead."""
        return self._runner.guards.silence.limit(self._free()) > 0 and self._free() > self._ahead // 2

    def _claim(self, crew: Crew) -> int:
        before = boot_clock()
        in_flight = Counter(each.call.loaded.row.account for each in self._in_flight.values())
        free = self._runner.guards.silence.limit(1 if self._one_by_one else self._free())
        claimed: list[Piece] = []
        try:
            if not self._found and not self._anything():
                return 0
            with transaction(self._engine) as session:
                claimed = self._runner.claim(session, self._queue, free)
                prepared = self._runner.start(session, claimed, in_flight)
        except Exception as error:  # noqa: BLE001 - judged by the one table; nothing is swallowed
            # Whether or not it committed: no call was started. What was prepared comes back by its lease.
            self._not_prepared(claimed, error)
            return 0
        self._hand_over(crew, prepared, before)
        if claimed:
            self._runner.guards.silence.prepared()
        self._found = bool(claimed)
        # What failed is among those that were claimed together, or another worker has it by now.
        self._one_by_one = max(0, self._one_by_one - 1) if claimed else 0
        return len(claimed)

    def _anything(self) -> bool:
        """Asked before a claim where the last one found nothing: most looks find nothing again."""
        with autocommit(self._engine) as session:
            return work_queue.claimable(session, known(), {self._queue: 1})[self._queue] > 0

    def _not_prepared(self, claimed: list[Piece], error: Exception) -> None:
        """One row that cannot be prepared must not stop its queue: found one by one, and set aside for a person.

        What took too long is claimed one by one as well, and nothing of it is set aside.
        """
        kind = classify(error)
        known_to_fail, self._one_by_one = self._one_by_one > 0, max(0, self._one_by_one - 1)
        if kind in (Failure.DATA, Failure.HALVE) and not known_to_fail:
            self._one_by_one = len(claimed)
        if kind is not Failure.DATA or not claimed:
            self._pause(error)
            return
        alone = about(claimed[0].work) if len(claimed) == 1 else {}
        log.error("claim.failed", error=type(error).__name__, claimed=len(claimed), **alone, exc_info=error)
        if known_to_fail:
            try:
                with transaction(self._engine) as session:
                    self._runner.set_aside(session, claimed, f"could not be prepared: {type(error).__name__}")
            except SQLAlchemyError as again:
                self._pause(again)

    def _hand_over(self, crew: Crew, outcome: Outcome, before: float) -> None:
        """Start what a committed transaction prepared. The clock was read before that transaction began."""
        for call in outcome.calls:
            over_at = boot_clock() + self._timing.call_budget_s
            self._in_flight[_id_of(call)] = InFlight(call, over_at)
            crew.hand(call, Budget(not_after=before + call.not_after_s, over_at=over_at))
        for account, status in outcome.refused_accounts.items():
            self._switch_off(account, status)

    def _settle(self, reports: list[Report], crew: Crew | None) -> None:
        """Settle a group, and start what it prepared at once: its not-after counts from before its transaction.

        No answer is ever thrown away: smaller groups, then row by row, then kept.
        """
        for report in reports:
            self._in_flight.pop(_id_of(report.call), None)
            self._written_off.pop(_id_of(report.call), None)
        groups = [reports]
        while groups:
            group = groups.pop()
            before = boot_clock()
            try:
                with transaction(self._engine) as session:
                    settled = self._runner.finish(session, group)
            except Exception as error:  # noqa: BLE001 - judged by the one table; nothing is swallowed
                groups.extend(self._after(error, group))
                continue
            self.settled += len(group)
            if crew is not None:
                self._hand_over(crew, settled, before)

    def _after(self, error: Exception, group: list[Report]) -> list[list[Report]]:
        """What is to be settled again after a failed transaction, and in which groups."""
        kind = classify(error)
        alone = about(group[0].call.loaded.row) if len(group) == 1 else {}
        log.warning("settle.failed", trouble=str(kind), error=type(error).__name__, calls=len(group), **alone)
        match kind:
            case Failure.RECONNECT:
                self._pause(error)
                return self._unsettled(group)
            case Failure.REPEAT | Failure.HALVE if len(group) > 1:
                self._pause(error)
                return _halves(group)
            case Failure.REPEAT | Failure.HALVE:
                # One row that somebody holds must not keep the others waiting: its answer is kept, and comes again.
                self._later += group
                return []
            case Failure.DATA if len(group) > 1:
                return [[report] for report in group]
            case Failure.DATA:
                self._keep(group[0], error)
                return []

    def _unsettled(self, group: list[Report]) -> list[list[Report]]:
        """After a commit whose answer was lost: read first what it wrote. Starts no call meanwhile."""
        while True:
            try:
                with transaction(self._engine) as session:
                    return [[r] for r in group if not store.settled_already(session, r)]
            except SQLAlchemyError as error:
                self._pause(error)

    def _keep(self, report: Report, error: Exception) -> None:
        """The answer cannot be applied: kept on its record, and its work is quarantined, in a commit of its own."""
        answer = report.came_back if isinstance(report.came_back, Response) else None
        why = f"could not be settled: {type(error).__name__}"
        log.error(
            "settle.kept", error=type(error).__name__, step=report.call.step.name, **about(report.call.loaded.row)
        )
        while True:
            try:
                with transaction(self._engine) as session:
                    work = work_queue.locked(session, [report.call.loaded.work_id])[report.call.loaded.work_id]
                    body, status = (answer.kept, answer.status) if answer else (None, None)
                    if store.keep_unsettled(session, report, body, status, why):
                        work_queue.move(work, WorkState.QUARANTINED, now(session), reason=why)
                        row_io.save(session, [work])
                return
            except SQLAlchemyError as again:
                if classify(again) is Failure.DATA:
                    raise
                self._pause(again)

    def _renew(self) -> None:
        """Prolong the leases of calls within their budget; what is over it is left to lapse and written off."""
        boot = boot_clock()
        for key in [key for key, each in self._in_flight.items() if boot > each.over_at + self._timing.margin_s]:
            self._written_off[key] = self._in_flight.pop(key).call
        if not self._in_flight or boot < self._renewed_at + self._timing.lease_s / 3:
            return
        ours = [key for key, each in self._in_flight.items() if boot <= each.over_at]
        try:
            with transaction(self._engine) as session:
                store.renew(session, ours, self._timing)
            self._renewed_at = boot
        except SQLAlchemyError as error:
            self._pause(error)

    def _switch_off(self, account: str | None, status: int) -> None:
        """Our credentials are refused there. In a transaction of its own, after the settle has committed.

        A refused key (401) is probed for; a missing permission (403) would pass every probe, so a person releases it.
        """
        scope, reason = f"account:{account or 'own'}", f"the provider refuses our credentials ({status})"
        try:
            with transaction(self._engine) as session:
                switches.pull(session, scope, actor="billing", reason=reason, probes=status == 401)
        except SQLAlchemyError as error:
            self._pause(error)

    def _after_a_silence(self, answers_again: bool) -> None:
        """The provider answers again: what waits only for it is due now, and once more when those calls are over that
        were in flight at that moment. They were made in the silence."""
        if answers_again:
            self._stragglers = set(self._in_flight)
        elif not self._stragglers or not self._stragglers.isdisjoint(self._in_flight):
            return
        else:
            self._stragglers = set()
        try:
            with transaction(self._engine) as session:
                woken = work_queue.wake(session, self._queue)
            log.info("provider.found", queue=self._queue, woken=woken)
        except SQLAlchemyError as error:
            # Not tried again: what waits comes back after its own pause.
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        if classify(error) is Failure.RECONNECT:
            # Also where the connection itself is well: after a failover it may lead to the old server.
            self._engine.dispose()
        log.warning(
            "postgres.away", error=type(error).__name__, sqlstate=database.sqlstate(error), trouble=str(classify(error))
        )
        # An answer in hand is kept for as long as it takes, and whoever waits is not stuck.
        self._control.keep_alive()
        time.sleep(min(0.1, self._timing.retry_first_s) * self._runner.rng.uniform(0.5, 1.5))


def _halves(group: list[Report]) -> list[list[Report]]:
    middle = len(group) // 2
    return [group[:middle], group[middle:]]
