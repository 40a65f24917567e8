"""What a route's function is given: the caller's books, the parameters, the time, and where to note what happens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .books import Books
from .history import Event
from .objects import Json, Row
from .parameters import Table
from .world import World


@dataclass(slots=True)
class Call:
    """One request that has begun. `ids` are the ids in its path, `params` were read by the route's table."""

    world: World
    books: Books
    ids: tuple[str, ...]
    params: dict[str, Any]
    now: int
    request_id: str | None
    key: str | None
    # Webhooks of this call are sent so many seconds late.
    webhooks_late_s: float = 0.0

    def event(self, kind: str, row: Row) -> None:
        """Make an event about `row`, with the row as it is now."""
        books = self.books
        event = Event(self.world.new_id("evt"), kind, self.now, books.livemode, row, self.request_id, self.key)
        books.events.put(event)
        for listener in self.world.listeners:
            listener(self, event)

    def effect(self, kind: str, row: Row, amount: int | None = None) -> None:
        """Note an effect that really happened, for `/_standin/effects`."""
        self.books.note_effect(kind, row, amount, self.now, self.request_id, self.key)


class Route(NamedTuple):
    """What a route takes, and what it does. Its name in a table is such as `POST /v1/refunds/{id}`."""

    table: Table
    answer: Callable[[Call], Json]


Routes = dict[str, Route]
