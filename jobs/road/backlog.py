"""What a relay could do now. One statement reads it, because usually there is nothing to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from billing import statements
from jobs.road.cadence import CostlyChecks
from jobs.road.contracts import accepted, known, may_wait
from jobs.road.planning import only_stamped

SQL = statements.beside(__file__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Whether there is work of each kind, by the conditions of the statements that take it. What was not checked is
    False."""

    unplanned: bool
    """Facts that may start work."""
    unstamped: bool
    """Facts that start no work, and are only stamped."""
    due: bool
    """Work whose pause is over."""
    lapsed: bool
    """Running work whose lease is over: its worker is dead, or hangs."""
    expired: bool
    """Pulled switches whose time is over."""
    switched_off: bool
    """Work that a worker could claim if its switch were not pulled."""
    unseen: bool
    """Unanswered calls of held, parked or quarantined work for which no look is due or planned."""
    released: bool
    """Held work that no pulled switch stops any more, without what is released at a rate."""
    paced: bool
    """Switches that were released at a rate, and of which a piece of held work is due."""
    unknown: bool
    """Ready work of a contract that this version does not know, or parked work of one that it knows."""
    unmatched: bool
    """Events in the inbox whose operations are to be found."""
    claimable: Mapping[str, int]
    """By queue, how much work a shift would find; counted up to `most` of `read`."""


def read(session: Session, most: Mapping[str, int], costly: CostlyChecks) -> Backlog:
    """One statement. `costly`: which of the checks that read many rows are included."""
    row = statements.run(
        session,
        SQL["read_backlog"],
        accepted=accepted(),
        only_stamped=only_stamped(),
        known=known(),
        may_wait=may_wait(),
        queues=list(most),
        mosts=list(most.values()),
        stopped_too=costly.stopped,
        unknown_too=costly.unknown,
    ).one()
    return Backlog(**{**row._mapping, "claimable": dict(zip(most, row.claimable, strict=True))})
