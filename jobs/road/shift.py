"""One shift on one queue: the captain claims work, hands the calls to the crew, and has the answers settled.

The captain is the main thread, and it alone has a database connection. It commits what it prepared before it hands the
calls over. A shift ends when its queue is empty, when it is asked to stop, or after its slice; always with no call in
flight.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import database, store, switches
from billing.calls import Call, Report
from billing.database import autocommit, transaction
from billing.gateway import Budget, Gateway, boot_clock
from jobs.logs import about
from jobs.road import work_queue
from jobs.road.contracts import known
from jobs.road.crew import Crew
from jobs.road.guards import SUSPECT
from jobs.road.piece import Piece
from jobs.road.runner import Outcome, Runner
from jobs.road.settling import Settler
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

POLL_EVERY_S = 0.002
"""While the crew has room, the captain waits this long for reports and then checks for new work.
When it only waited for reports, that added 120 ms to the median capture."""
ALL_BUSY_S = 0.1
"""While the crew has no room, the captain waits this long for reports."""
SWITCHES_EVERY_S = 0.5
"""When a prepared call has waited this long for a free thread, the captain reads whether a switch stops it by now, and
then again as often. The read costs about a CPU-millisecond. Where Stripe answers soon, no call waits so long."""
MANY = 8
"""With this many calls in flight, the captain gathers reports (`crew.GATHER_S`)."""
LAST_WAIT_S = 1.0
"""How long a shift waits for calls that are far over their budget before it ends its process."""


class Control:
    """What a shift asks of the process around it. This one never stops it: for one-off shifts and tests."""

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
    prepared_at: float
    """Before the transaction that prepared it, and read the switches."""
    over_at: float


class Shift:
    """Runs one shift. It raises no error about a server that is away: it waits for that server."""

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
        # This many more calls than the crew has threads are prepared, so that no thread waits while the captain
        # settles and claims.
        self._ahead = crew // 2
        self._timing = runner.call_settings.timing
        self._pace = runner.guards.pace
        self._settler = Settler(engine, runner, self._pause)
        # By record and fence: if a renewal came too late, this same shift may have taken a call over from itself.
        self._in_flight: dict[CallId, InFlight] = {}
        self._written_off: dict[CallId, Call] = {}
        self._renewed_at = self._switches_read_at = boot_clock()
        # How many of the next claims take one piece of work only, after a claim of several has failed.
        self._one_by_one = 0
        # The most urgent work is a suspect: it is called, or waits to be called, with no other call in flight.
        self._alone = False
        self._control = Control()
        # Calls that were in flight when the provider answered again.
        self._stragglers: set[CallId] = set()
        self._found = True

    def run(self, control: Control, begun: tuple[Outcome, float] | None = None) -> int:
        """Work on the queue until it is empty. Returns how many calls were settled.

        `begun`: what a transaction has prepared and committed before, and the time (`boot_clock`) before it began."""
        self._control = control
        began = idle_since = boot_clock()
        crew = Crew(self._crew, self._gateway)
        if begun is not None:
            self._hand_over(crew, *begun)
        while True:
            fresh = self._collect(crew, self._patience_s()) + self._take_back(crew)
            if reports := fresh + self._settler.due_again():
                self._settle(reports, crew)
            for each in fresh:
                account = each.call.loaded.row.account
                self._pace.learn(account, reached=each.reached, throttled=each.throttled, requests=each.requests)
            self._after_a_silence(self._pace.tell())
            ending = control.stop_requested() or bool(self._written_off) or boot_clock() > began + self._slice_s
            if not ending:
                claimed = self._claim(crew) if self._wants_more() else 0
                if claimed or self._in_flight:
                    idle_since = boot_clock()
                ending = not self._in_flight and boot_clock() > idle_since + self._timing.linger_s
            self._renew()
            control.keep_alive()
            if ending and not self._in_flight and not self._settler.has_postponed:
                break
        self._await_the_written_off(crew)
        crew.dismiss()
        return self.settled

    @property
    def settled(self) -> int:
        """How many calls were settled so far."""
        return self._settler.settled

    def _collect(self, crew: Crew, wait_s: float) -> list[Report]:
        return crew.collect(wait_s, gather=len(self._in_flight) >= MANY)

    def _free(self) -> int:
        return self._crew + self._ahead - len(self._in_flight)

    def _has_room(self) -> bool:
        """Not after every single report: a claim is expensive, and prepared calls still wait."""
        return self._free() > self._ahead // 2 and not (self._alone and self._in_flight)

    def _wants_more(self) -> bool:
        """Whether to claim now."""
        return self._has_room() and self._pace.opens_in_s() == 0

    def _patience_s(self) -> float:
        """How long to wait for the first report. When every thread is busy, new work could not start."""
        return min(ALL_BUSY_S, max(POLL_EVERY_S, self._pace.opens_in_s())) if self._has_room() else ALL_BUSY_S

    def _claim(self, crew: Crew) -> int:
        claimed: list[Piece] = []
        try:
            if not self._found and not self._anything():
                return 0
            if (free := self._pace.room(1 if self._one_by_one else self._free())) < 1:
                return 0
            before = boot_clock()
            with transaction(self._engine) as session:
                claimed = self._set_suspects_apart(self._runner.claim(session, self._queue, free))
                prepared = self._runner.start(session, claimed)
        except Exception as error:  # noqa: BLE001 - judged by the one table; nothing is swallowed
            # Whether it committed is unknown, but no call was started. Prepared work becomes ready again when its
            # lease is over.
            self._not_prepared(claimed, error)
            return 0
        self._hand_over(crew, prepared, before)
        self._found = bool(claimed)
        # The row that failed is among the pieces that were claimed together, or another worker has it by now.
        self._one_by_one = max(0, self._one_by_one - 1) if claimed else 0
        return len(claimed)

    def _set_suspects_apart(self, claimed: list[Piece]) -> list[Piece]:
        """The pieces that may be called now. The others stay as they are, and are claimed again."""
        suspect = next((piece for piece in claimed if piece.work.attempts >= SUSPECT and not piece.look), None)
        self._alone = suspect is not None
        if suspect is None:
            return claimed
        return [piece for piece in claimed if piece.look] if self._in_flight else [suspect]

    def _anything(self) -> bool:
        """Whether a claim would find work. Checked first after an empty claim: the next one is usually empty too."""
        with autocommit(self._engine) as session:
            return work_queue.claimable(session, known(), {self._queue: 1})[self._queue] > 0

    def _not_prepared(self, claimed: list[Piece], error: Exception) -> None:
        """One row that cannot be prepared must not stop its queue: it is found one by one, and quarantined.

        After a claim that took too long, work is claimed one by one as well, and none of it is quarantined.
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
                    self._runner.set_aside(session, claimed, error)
            except SQLAlchemyError as again:
                self._pause(again)

    def _hand_over(self, crew: Crew, outcome: Outcome, before: float) -> None:
        """Start the calls that a committed transaction prepared. `before`: the time before that transaction began."""
        for call in outcome.calls:
            over_at = boot_clock() + call.call_budget_s
            self._in_flight[_id_of(call)] = InFlight(call, before, over_at)
            crew.hand(call, Budget(not_after=before + call.not_after_s, over_at=over_at))
        for account, status in outcome.refused_accounts.items():
            self._switch_off(account, status)

    def _take_back(self, crew: Crew) -> list[Report]:
        """Take back the calls that no thread has begun, and that a switch stops which was pulled after they were
        prepared. Nothing of them was sent, which their reports say. Looks go on."""
        # Threads take calls in the order in which they were handed over, so the last ones wait.
        waiting = list(islice(reversed(self._in_flight.values()), crew.waiting))
        boot = boot_clock()
        if not waiting or boot < max(self._switches_read_at, waiting[-1].prepared_at) + SWITCHES_EVERY_S:
            return []
        self._switches_read_at = boot
        try:
            with autocommit(self._engine) as session:
                stopped = switches.stopped_by_now(session, [each.call.loaded.work_id for each in waiting])
        except SQLAlchemyError as error:
            self._pause(error)
            return []
        taken = crew.take_back(lambda call: not call.looking and call.loaded.work_id in stopped) if stopped else []
        return [Report(call, switches.TAKEN_BACK, 0) for call in taken]

    def _settle(self, reports: list[Report], crew: Crew | None) -> None:
        """Settle, and hand over the next calls after each commit. `crew` is None where no call may start any more."""
        for report in reports:
            self._in_flight.pop(_id_of(report.call), None)
            self._written_off.pop(_id_of(report.call), None)
        for outcome, before in self._settler.settle(reports):
            if crew is not None:
                self._hand_over(crew, outcome, before)

    def _renew(self) -> None:
        """Renew the leases of calls within their budget. A call over its budget is written off; its lease runs out."""
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

    def _await_the_written_off(self, crew: Crew) -> None:
        """If the whole process slept, its calls return now. If a thread hangs, only ending the process helps."""
        while self._written_off and (reports := self._collect(crew, LAST_WAIT_S)):
            # The next calls are prepared and not started: this shift would not settle them. Another worker takes
            # them up when their leases are over.
            self._settle(reports, None)
        if self._written_off:
            for (record_id, _), call in self._written_off.items():
                log.error("call.abandoned", **about(call.loaded.row), step=call.step.name, record_id=record_id)
            self._leave(1)

    def _switch_off(self, account: str | None, status: int) -> None:
        """Pull the switch of an account where Stripe refuses our key; in a transaction of its own, after the settle.

        After a 401, a probe releases the switch again. After a 403 (a missing permission) every probe would succeed,
        so an operator releases it.
        """
        scope, reason = f"account:{account or 'own'}", f"the provider refuses our credentials ({status})"
        try:
            with transaction(self._engine) as session:
                switches.pull(session, scope, actor="billing", reason=reason, probes=status == 401)
        except SQLAlchemyError as error:
            self._pause(error)

    def _after_a_silence(self, answers_again: bool) -> None:
        """When the provider answers again, make due what waited only for it. Do so once more when the calls that were
        in flight at that moment are over: they were made during the silence."""
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
            # Not tried again: each piece of work becomes due after its own pause.
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        if classify(error) is Failure.RECONNECT:
            # New connections even where this one works: after a failover it may lead to the old server.
            self._engine.dispose()
        log.warning(
            "postgres.away", error=type(error).__name__, sqlstate=database.sqlstate(error), trouble=str(classify(error))
        )
        # Answers are kept as long as Postgres is away. A process that waits for it is alive.
        self._control.keep_alive()
        time.sleep(min(0.1, self._timing.retry_first_s) * self._runner.rng.uniform(0.5, 1.5))
