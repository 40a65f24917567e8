"""The relay: reads the backlog once per round, has facts planned and rows moved, and rings workers.

Any number of relays may run. Each statement is a short transaction of its own and takes only what no other
relay has locked; Redis may be away or empty at any time.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import database
from billing.database import autocommit
from billing.timing import Timing
from jobs.road import backlog, planning, work_queue
from jobs.road.backlog import Backlog
from jobs.road.cadence import IDLE_PAUSE_S, Cadence
from jobs.road.contracts import known
from jobs.road.housekeeping import STAMP, Housekeeper
from jobs.road.ringer import Ringer
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()


@dataclass(slots=True)
class Relay:
    """`clock`: seconds, never set back."""

    engine: Engine
    timing: Timing
    ringer: Ringer
    clock: Callable[[], float] = time.monotonic
    cadence: Cadence = field(default_factory=Cadence)
    housekeeper: Housekeeper = field(init=False)
    _saturated: bool = False

    def __post_init__(self) -> None:
        self.housekeeper = Housekeeper(self.engine)

    def run(self, stop_requested: Callable[[], bool], heartbeat: Callable[[], None] = lambda: None) -> None:
        """Round after round until told to stop; a server that is away is waited for."""
        caught_up = False
        while not stop_requested():
            try:
                if self.round():
                    self.cadence.moved(self.clock())
                heartbeat()
                if not caught_up:
                    caught_up = not planning.catch_up(self.engine, self.timing)
                self._rest()
            except SQLAlchemyError as error:
                log.warning("postgres.away", error=type(error).__name__, sqlstate=database.sqlstate(error))
                heartbeat()
                time.sleep(IDLE_PAUSE_S)

    def round(self) -> int:
        """One round of everything; returns how many rows it moved."""
        seen = self._look_around()
        moved = self.housekeeper.run_all(seen)
        if seen.unplanned:
            moved += planning.plan_next(self.engine, self.timing)
        if STAMP.wanted(seen) and self.cadence.should_stamp(self.clock()):
            self.cadence.stamped(self.clock())
            self.housekeeper.run(STAMP)
        self._ring(self._claimable() if moved else seen.claimable)
        return moved

    def _look_around(self) -> Backlog:
        try:
            return self._look()
        except SQLAlchemyError as error:
            if classify(error) is not Failure.HALVE or self.cadence.costly_looks(self.clock()).stopped:
                raise
            # So much waits that looking for what switches stop took too long; the rest of the round does not need it.
            log.warning("switches.postponed", error=type(error).__name__, sqlstate=database.sqlstate(error))
            return self._look()

    def _look(self) -> Backlog:
        began = self.clock()
        costly = self.cadence.costly_looks(began)
        try:
            with autocommit(self.engine) as session:
                return backlog.look(session, self.ringer.most, costly)
        finally:
            # Also where it took too long altogether.
            self.cadence.asked(costly, began, self.clock())

    def _claimable(self) -> dict[str, int]:
        with autocommit(self.engine) as session:
            return work_queue.claimable(session, known(), self.ringer.most)

    def _ring(self, claimable: Mapping[str, int]) -> None:
        for queue, count in claimable.items():
            # A bell that Redis did not take is rung in the next round.
            if self.cadence.should_ring(queue, count, self.clock()) and self.ringer.ring(queue, count):
                self.cadence.rung(queue, self.clock())
        self._saturated = self.ringer.saturated(claimable)

    def _rest(self) -> None:
        """Until the next round. While somebody may wait, a new request is planned at once, and the rest ends."""
        rest = self.cadence.rest(self.clock(), saturated=self._saturated)
        while (left := rest.until - self.clock()) > 0:
            if rest.look_every_s is None:
                time.sleep(left)
                return
            if self._unplanned():
                self.cadence.moved(self.clock())
                planning.plan_next(self.engine, self.timing)
                return
            time.sleep(rest.look_every_s)

    def _unplanned(self) -> bool:
        with autocommit(self.engine) as session:
            return planning.any_unplanned(session)
