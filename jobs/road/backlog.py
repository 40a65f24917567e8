"""What a relay could do now: one frozen value, read by one statement, because usually there is nothing to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from billing import statements
from jobs.road.cadence import CostlyLooks
from jobs.road.contracts import known, starting
from jobs.road.planning import passed_over

SQL = statements.beside(__file__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Whether there is something of a kind, by the conditions of those who take it. What was not asked is False."""

    unplanned: bool
    """Facts that may start work."""
    unstamped: bool
    """Facts that start nothing, and are only marked as seen."""
    due: bool
    """Work whose pause is over."""
    lapsed: bool
    """Work whose worker let its lease lapse: it is dead, or lost."""
    switched_off: bool
    """Work that could be claimed, were its switch not pulled."""
    unseen: bool
    """Calls without an answer whose work is held, parked or quarantined, and that nobody has planned to look at."""
    released: bool
    """Held work that no pulled switch stops any more."""
    unknown: bool
    """Ready work of a contract that no code here knows, or parked work of one that it knows by now."""
    claimable: Mapping[str, int]
    """By queue, how much work a shift would find, counted only as far as `most` of `look`."""


def look(session: Session, most: Mapping[str, int], costly: CostlyLooks) -> Backlog:
    """One statement. `costly`: which questions that read many rows are asked, too."""
    row = statements.run(
        session,
        SQL["look"],
        starting=starting(),
        passed_over=passed_over(),
        known=known(),
        queues=list(most),
        mosts=list(most.values()),
        stopped_too=costly.stopped,
        unknown_too=costly.unknown,
    ).one()
    return Backlog(**{**row._mapping, "claimable": dict(zip(most, row.claimable, strict=True))})
