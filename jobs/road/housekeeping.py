"""The relay's sweeps: each moves rows of one kind that no worker would move.

A sweep is one short transaction with a limit of rows. It skips rows that another transaction has locked.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing import database, inbox, statements, switches
from billing.batch_limit import BatchLimit
from billing.database import transaction
from jobs.road import contracts
from jobs.road.backlog import Backlog
from jobs.road.paced_release import release_paced
from jobs.road.planning import STAMP_MOST, stamp_the_rest
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()

SQL = statements.beside(__file__)

SWEEP_MOST = 1000


def make_due_ready(session: Session, most: int = SWEEP_MOST) -> int:
    """Make waiting work ready when its pause is over; the longest overdue first."""
    return statements.run(session, SQL["make_due_ready"], most=most).rowcount


def rescue_lapsed(session: Session, most: int = SWEEP_MOST) -> int:
    """Make running work ready again when its lease is over. That counts as an attempt: its worker died."""
    return statements.run(session, SQL["rescue_lapsed"], most=most).rowcount


def release_expired(session: Session, most: int = SWEEP_MOST) -> int:
    """Record the release of switches whose time is over; workers ignore them already."""
    return switches.release_expired(session, most)


def hold(session: Session, most: int = SWEEP_MOST) -> int:
    """Set work to `held` that a pulled switch stops. The guard before each call decides whether it may be sent."""
    return statements.run(session, SQL["hold"], most=most).rowcount


def look_at_stopped(session: Session, most: int = SWEEP_MOST) -> int:
    """Make a look due for unanswered calls of held, parked or quarantined work: a look sends nothing."""
    return statements.run(session, SQL["look_at_stopped"], most=most).rowcount


def release_held(session: Session, most: int = SWEEP_MOST) -> int:
    """Make held work ready again when no pulled switch stops it any more, but for what is released at a rate."""
    return statements.run(session, SQL["release_held"], most=most).rowcount


def park_unknown(session: Session, most: int = SWEEP_MOST, known: Collection[str] | None = None) -> int:
    """Park ready work of contracts that this version does not know, and make parked work ready that it knows."""
    values = {"most": most, "known": list(contracts.known() if known is None else known)}
    return sum(statements.run(session, SQL[name], **values).rowcount for name in ("park_unknown", "unpark_known"))


def match_events(session: Session, most: int = SWEEP_MOST) -> int:
    """Find which operations Stripe's events are about, and notice those that may have changed."""
    return inbox.match(session, most)


@dataclass(frozen=True, slots=True)
class Sweep:
    """`move` is given the limit of rows, and returns how many it moved; `wanted` says whether there are any."""

    move: Callable[[Session, int], int]
    wanted: Callable[[Backlog], bool]
    most: int = SWEEP_MOST

    @property
    def name(self) -> str:
        return self.move.__name__


SWEEPS = (
    Sweep(make_due_ready, lambda backlog: backlog.due),
    Sweep(rescue_lapsed, lambda backlog: backlog.lapsed),
    # Before the two that read which switches are pulled.
    Sweep(release_expired, lambda backlog: backlog.expired),
    Sweep(hold, lambda backlog: backlog.switched_off),
    Sweep(look_at_stopped, lambda backlog: backlog.unseen),
    Sweep(release_held, lambda backlog: backlog.released),
    Sweep(release_paced, lambda backlog: backlog.paced),
    Sweep(park_unknown, lambda backlog: backlog.unknown),
    Sweep(match_events, lambda backlog: backlog.unmatched, 500),
)
STAMP = Sweep(stamp_the_rest, lambda backlog: backlog.unstamped, STAMP_MOST)
"""Not among `SWEEPS`, because nothing waits for it: a busy relay runs it rarely."""


@dataclass(slots=True)
class Housekeeper:
    """Runs sweeps, and remembers for each how many rows one transaction can take."""

    engine: Engine
    limits: dict[str, BatchLimit] = field(
        default_factory=lambda: {sweep.name: BatchLimit(sweep.most) for sweep in (*SWEEPS, STAMP)}
    )

    def run_all(self, backlog: Backlog) -> int:
        """Every sweep that this backlog asks for. Returns how many rows they moved."""
        return sum(self.run(sweep) for sweep in SWEEPS if sweep.wanted(backlog))

    def run(self, sweep: Sweep) -> int:
        """One sweep in a transaction of its own. If it fails because of its rows, the other sweeps still run.

        Returns how many rows it moved. Raises errors of a database that is away, busy or older than the code.
        """
        limit = self.limits[sweep.name]
        try:
            with transaction(self.engine) as session:
                moved = sweep.move(session, limit.rows)
        except SQLAlchemyError as error:
            if classify(error) not in (Failure.HALVE, Failure.DATA):
                raise
            name, code = type(error).__name__, database.sqlstate(error)
            if limit.rows > 1:
                log.warning("sweep.halved", sweep=sweep.name, rows=limit.rows, error=name, sqlstate=code)
            else:
                log.error("sweep.stuck", sweep=sweep.name, error=name, sqlstate=code, exc_info=True)
            limit.halve()
            return 0
        limit.fit()
        return moved
