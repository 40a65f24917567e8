"""The stand-in's world: its clock, its ids, the books of every account, and what was asked of it."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .agenda import Agenda
from .books import Books
from .history import Effect, Event
from .index import LAG_S, Index
from .limits import Rates

# Requests kept for `GET /_standin/requests`; older ones are forgotten. 200,000 take about 100 MB.
REQUESTS_KEPT, REQUESTS_KEPT_MAX = 200_000, 100_000_000


@dataclass(frozen=True)
class Settings:
    """How a stand-in is started."""

    account: str = "acct_1StandIn0000000"
    api_keys: tuple[str, ...] = ()  # empty: every well-formed key is accepted
    rates: Rates = Rates()
    seed: int | None = None
    requests_kept: int = REQUESTS_KEPT
    search_lag_s: float = LAG_S


class Clock:
    """Seconds since 1970. It never goes back, and can be moved forward."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._started = time.monotonic()
        self.advanced_s = 0.0

    def time(self) -> float:
        return self._started_at + (time.monotonic() - self._started) + self.advanced_s

    def advance(self, seconds: float) -> None:
        self.advanced_s += seconds


@dataclass(slots=True)
class Request:
    """One request seen on /v1. `status` is None if no answer was sent, or not yet."""

    n: int
    at: float
    id: str
    method: str
    path: str
    raw: bytes
    key: str | None
    account: str | None = None
    named: bool = False  # the account comes from a `Stripe-Account` header
    livemode: bool | None = None
    status: int | None = None
    replayed: bool = False
    fault: str | None = None


# Called with the call and its event: webhooks, and what else follows from an event.
Listener = Callable[[Any, Event], None]


@dataclass
class World:
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.listeners: list[Listener] = []
        self.random = random.Random(self.settings.seed)  # noqa: S311 - ids of a stand-in, not secrets
        self.reset()

    def reset(self) -> None:
        """Reset everything except the ids: an id never names two objects."""
        self.clock = Clock()
        self.index = Index(self.clock.time, self.settings.search_lag_s)
        self.agenda = Agenda()
        self.effects: list[Effect] = []
        self.requests: deque[Request] = deque(maxlen=self.settings.requests_kept)
        self.requests_seen = 0
        self._books: dict[tuple[str, bool], Books] = {}

    def now(self) -> int:
        """The time in whole seconds, as Stripe writes times."""
        return int(self.clock.time())

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.random.getrandbits(96):024x}"

    def books(self, account: str, livemode: bool) -> Books:
        books = self._books.get((account, livemode))
        if books is None:
            test, live = (Books(account, mode, self.effects, self.index) for mode in (False, True))
            test.other_mode, live.other_mode = live, test
            self._books[account, False], self._books[account, True] = test, live
            books = self._books[account, livemode]
        return books

    def all_books(self) -> Iterable[Books]:
        return self._books.values()

    def note_request(self, method: str, path: str, raw: bytes, key: str | None) -> Request:
        self.requests_seen += 1
        request = Request(self.requests_seen, self.clock.time(), self.new_id("req"), method, path, raw, key)
        self.requests.append(request)
        return request
