"""Makes held work ready at the rate with which its switch was released: a token bucket in the row of each such switch.

The row holds when the next piece may continue. Any number of relays keep the rate together, because each locks the rows
before it reads that time. A relay that was away makes up for at most a second.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from billing import statements

SQL = statements.beside(__file__)

BLOCKED_S = 5.0
"""The pause after a turn that found less than was due: other switches stop what is left, or its rows were locked. Such
a turn reads all that is held in the scope, half a second for 300,000 rows."""


class Paced(NamedTuple):
    """A switch that was released at a rate, and of whose held work not all has continued."""

    id: str
    scope: str
    per_hour: int
    next_at: datetime
    """When the next piece may continue."""
    now: datetime

    @property
    def every(self) -> timedelta:
        """The time between two pieces."""
        return timedelta(hours=1) / self.per_hour

    @property
    def due(self) -> int:
        """How many pieces may continue now."""
        return 1 + (self.now - self.next_at) // self.every if self.next_at <= self.now else 0


def release_paced(session: Session, most: int) -> int:
    """Make up to `most` pieces of held work ready in each scope that was released at a rate: what is due, and the most
    urgent first. Ends a rate when nothing is held in its scope any more. Returns how many rows it changed.

    Work in several such scopes waits for the slowest of them and counts for each, so that every rate is kept.
    """
    slowest_first = [Paced._make(row) for row in statements.run(session, SQL["paced"])]
    used: Counter[str] = Counter()
    next_at: dict[str, datetime] = {}
    changed = 0
    for place, each in enumerate(slowest_first):
        free = min(each.due - used[each.scope], most)
        if free <= 0:
            continue
        slower = [other.scope for other in slowest_first[:place]]
        released = statements.run(session, SQL["release"], scope=each.scope, slower=slower, most=free).scalars().all()
        used.update(scope for scopes in released for scope in scopes)
        changed += len(released)
        if len(released) < free:
            changed += 1
            statements.run(session, SQL["end"], id=each.id, scope=each.scope)
            next_at[each.id] = each.now + timedelta(seconds=BLOCKED_S)
    for each in slowest_first:
        if each.id in next_at or used[each.scope]:
            counted = each.next_at + used[each.scope] * each.every
            statements.run(session, SQL["next_at"], id=each.id, next_at=max(counted, next_at.get(each.id, counted)))
    return changed
