"""What a transaction of the captain knows about one piece of work."""

from dataclasses import dataclass
from datetime import datetime

from billing.calls import Report, Result
from billing.registration import Operation
from billing.states import WorkState
from billing.steps import LoadedOperation
from billing.tables.work import Work
from jobs.road.guards import AT_ITS_LIMIT, IN_OTHER_HANDS, Refusal


@dataclass(slots=True)
class Piece:
    """One piece of work inside one transaction of the captain: before its call, or with the report of it."""

    work: Work
    operation: Operation
    report: Report | None = None
    look: bool = False
    """Claimed because its record's look is due: the provider is asked what happened, and nothing is sent."""
    loaded: LoadedOperation | None = None
    """None: the operation does not exist, or is in other hands."""
    in_other_hands: bool = False
    """Another piece of work has the operation in this transaction, or another transaction has its row."""
    refusal: Refusal | None = None
    result: Result | None = None
    """None: the operation was left as it is."""
    ended: bool = False
    """Its operation came to a final state, by this piece and in this transaction."""

    @property
    def look_is_refused(self) -> bool:
        """A look that is due must wait: its account is at its limit, or others have its operation."""
        return self.look and self.refusal in (AT_ITS_LIMIT, IN_OTHER_HANDS)

    def quarantined_at(self, now: datetime) -> bool:
        """Whether it was quarantined in the transaction of this time."""
        return self.work.state == WorkState.QUARANTINED and self.work.state_since == now
