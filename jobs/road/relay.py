"""The relay: in each round it reads the backlog, plans facts, moves work that is due, and rings workers.

It also makes the ticks of the schedules. Any number of relays may run. Each statement is a short transaction of its own
and takes only rows that no other relay has locked. Redis may be away or empty at any time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import database
from billing.database import autocommit, transaction
from billing.schedules import SCHEDULES, Schedule
from billing.timing import Timing
from jobs.road import backlog, load, planning, ticks, work_queue
from jobs.road.backlog import Backlog
from jobs.road.cadence import IDLE_PAUSE_S, Cadence
from jobs.road.contracts import known
from jobs.road.housekeeping import STAMP, Housekeeper
from jobs.road.quarantine_list import untouched
from jobs.road.ringer import Ringer
from jobs.road.verdicts import Failure, classify
from jobs.road.watermark import Watermark

log = structlog.get_logger()


@dataclass(slots=True)
class Relay:
    """`clock`: in seconds; it is never set back."""

    engine: Engine
    timing: Timing
    ringer: Ringer
    clock: Callable[[], float] = time.monotonic
    schedules: Sequence[Schedule] = SCHEDULES
    cadence: Cadence = field(default_factory=Cadence)
    housekeeper: Housekeeper = field(init=False)
    _saturated: bool = False

    def __post_init__(self) -> None:
        self.housekeeper = Housekeeper(self.engine)

    def run(self, stop_requested: Callable[[], bool], heartbeat: Callable[[], None] = lambda: None) -> None:
        """Make rounds until asked to stop. It waits for a Postgres or Redis that is away."""
        caught_up = False
        while not stop_requested():
            try:
                self.compare()
                if self.round():
                    self.cadence.moved(self.clock())
                heartbeat()
                if self.cadence.should_alarm(self.clock()):
                    self.cadence.alarmed(self.clock())
                    self.alarm()
                self.make_ticks()
                if self.cadence.should_measure(self.clock()):
                    self.measure()
                if not caught_up:
                    caught_up = not planning.catch_up(self.engine, self.timing)
                self._rest()
            except SQLAlchemyError as error:
                log.warning("postgres.away", error=type(error).__name__, sqlstate=database.sqlstate(error))
                heartbeat()
                time.sleep(IDLE_PAUSE_S)

    def round(self) -> int:
        """One round. Returns how many rows it planned or moved."""
        seen = self._read_backlog()
        moved = self.housekeeper.run_all(seen)
        if seen.unplanned:
            moved += planning.plan_next(self.engine, self.timing)
        if STAMP.wanted(seen) and self.cadence.should_stamp(self.clock()):
            self.cadence.stamped(self.clock())
            self.housekeeper.run(STAMP)
        self._ring(self._claimable() if moved else seen.claimable)
        return moved

    def compare(self) -> None:
        """Look whether Postgres was restored, before anything is planned from it."""
        if self.cadence.should_compare(self.clock()):
            mark = Watermark(self.engine, self.ringer.redis, self.ringer.environment)
            self.cadence.compared(self.clock(), with_redis=mark.compare(renew=True))

    def alarm(self) -> None:
        """Log that work in quarantine waits for its first touch for too long; again as long as it does."""
        with autocommit(self.engine) as session:
            _, overdue, oldest_s = untouched(session)
        if overdue:
            log.error("quarantine.untouched", count=overdue, oldest_s=oldest_s)

    def make_ticks(self) -> None:
        """Write the runs of schedules whose time has come. If that fails, it is tried again with the next check."""
        if not self.cadence.should_tick(self.clock()):
            return
        self.cadence.tick_in(ticks.CHECK_EVERY_S, self.clock())
        with transaction(self.engine) as session:
            next_s = ticks.make(session, self.schedules)
        self.cadence.tick_in(next_s, self.clock())

    def measure(self) -> None:
        """Measure the load of the queues. What takes too long is left out, and tried again after a rest."""
        began = self.clock()
        try:
            with transaction(self.engine) as session:
                load.measure(session)
        except SQLAlchemyError as error:
            if classify(error) is not Failure.HALVE:
                raise
            log.warning("load.postponed", error=type(error).__name__, sqlstate=database.sqlstate(error))
        finally:
            self.cadence.measured(began, self.clock())

    def _read_backlog(self) -> Backlog:
        try:
            return self._read_once()
        except SQLAlchemyError as error:
            if classify(error) is not Failure.HALVE or self.cadence.costly_checks(self.clock()).stopped:
                raise
            # With much waiting work the check for what switches stop took too long. The rest of the round needs no such
            # check, so it is left out this time.
            log.warning("switches.postponed", error=type(error).__name__, sqlstate=database.sqlstate(error))
            return self._read_once()

    def _read_once(self) -> Backlog:
        began = self.clock()
        costly = self.cadence.costly_checks(began)
        try:
            with autocommit(self.engine) as session:
                return backlog.read(session, self.ringer.most, costly)
        finally:
            # Also if the statement was canceled because it took too long.
            self.cadence.checked(costly, began, self.clock())

    def _claimable(self) -> dict[str, int]:
        with autocommit(self.engine) as session:
            return work_queue.claimable(session, known(), self.ringer.most)

    def _ring(self, claimable: Mapping[str, int]) -> None:
        for queue, count in claimable.items():
            # If Redis did not take the bell, the next round rings again.
            if self.cadence.should_ring(queue, count, self.clock()) and self.ringer.ring(queue, count):
                self.cadence.rung(queue, self.clock())
        self._saturated = self.ringer.saturated(claimable)

    def _rest(self) -> None:
        """Pause until the next round. While the relay is busy, it checks for a new request, plans it at once, and
        returns."""
        rest = self.cadence.rest(self.clock(), saturated=self._saturated)
        while (left := rest.until - self.clock()) > 0:
            if rest.poll_every_s is None:
                time.sleep(left)
                return
            if self._unplanned():
                self.cadence.moved(self.clock())
                planning.plan_next(self.engine, self.timing)
                return
            time.sleep(rest.poll_every_s)

    def _unplanned(self) -> bool:
        with autocommit(self.engine) as session:
            return planning.any_unplanned(session)
