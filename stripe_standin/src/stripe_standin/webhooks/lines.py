"""Sends each event to each endpoint that asked for it, until it is delivered.

Every endpoint has a line of its own: its due deliveries are attempted one after the other, in the order of their times.
So a receiver that hangs delays no other endpoint, and there is no order between two endpoints. What is not due yet
waits on the agenda. All times are those of the stand-in's clock; only a receiver's time to answer is real.
"""

import asyncio
import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from stripe_standin import versions
from stripe_standin.books import Books
from stripe_standin.call import Call
from stripe_standin.clockwork import Clockwork
from stripe_standin.history import API_VERSION, Event
from stripe_standin.objects import Endpoint, Json, shown
from stripe_standin.world import World

from . import deliveries
from .deliveries import Delivery, Outcome
from .disorder import Disorder
from .event_types import ALL

# docs.stripe.com/webhooks: in live mode for up to three days, with growing pauses; in a sandbox three times over a few
# hours. The pauses are not published. These double; the last attempt is after 2 days 20 hours, or 3.5 hours.
RETRIES_LIVE_S = tuple(240 * 2**n for n in range(10))
RETRIES_TEST_S = (1_800, 3_600, 7_200)

ATTEMPTS_KEPT = 10_000
# Deliveries that wait or are in flight, of all endpoints together. 100,000 take about 60 MB, and more if endpoints have
# older versions, which need a snapshot each. Beyond this number, none is sent.
DELIVERIES_MAX = 100_000


class Attempt(NamedTuple):
    """One attempt, as /_standin shows it. `number` counts the attempts of its delivery."""

    n: int
    at: float
    event: Event
    endpoint: str
    number: int
    by_hand: bool
    outcome: Outcome


class Place(NamedTuple):
    """The place of a delivery in its line: by the time it is due, then by the order in which it was made."""

    due: int
    n: int
    delivery: Delivery


@dataclass
class Line:
    places: list[Place] = field(default_factory=list)
    in_flight: dict[asyncio.Task[None], Delivery] = field(default_factory=dict)


class Webhooks:
    def __init__(self, world: World, clockwork: Clockwork, seed: int | None) -> None:
        self._world = world
        self._clockwork = clockwork
        self._seed = seed
        self._lines: dict[str, Line] = {}
        world.listeners.append(self.happened)
        self.clear()

    def clear(self) -> None:
        """Reset. The answers to attempts in flight have no effect any more."""
        self.stop()
        self.disorder = Disorder(random.getrandbits(32) if self._seed is None else self._seed)
        self.attempts: deque[Attempt] = deque(maxlen=ATTEMPTS_KEPT)
        self.attempted = 0
        self._numbered = 0

    def stop(self) -> None:
        """Stop all attempts, without waiting for those in flight."""
        for line in self._lines.values():
            for task in line.in_flight:
                task.cancel()
        self._lines = {}
        self._waiting: dict[str, Delivery] = {}

    def happened(self, call: Call, event: Event) -> None:
        """Plan the deliveries of this event. Without an endpoint nothing is stored."""
        if not len(call.books.endpoints):
            return
        self._plan(call, event)
        if self.disorder.twinned():
            # Stripe sometimes makes two Event objects for one change (docs.stripe.com/webhooks).
            self._plan(call, call.books.events.put(event._replace(id=self._world.new_id("evt"))))

    def resend(self, books: Books, endpoint: Endpoint, event: Event) -> None:
        """Send it once more. Automatic attempts go on until one of them succeeds (docs: process undelivered events)."""
        version = endpoint.api_version or API_VERSION
        snapshot = _snapshot(event, version, books)
        self._line_up(self._delivery(books, endpoint.id, event, version, snapshot, by_hand=True), self._world.now())

    def settings_changed(self) -> None:
        """Start what the old settings held back: they were changed."""
        for line in self._lines.values():
            self._start_due(line)

    def counts(self) -> Json:
        """How many deliveries are due or in flight, and how many wait for their time."""
        due = sum(len(line.places) + len(line.in_flight) for line in self._lines.values())
        return {"due": due, "scheduled": len(self._waiting)}

    async def quiet(self, seconds: float | None = None, request_id: str | None = None) -> None:
        """Return once no delivery is due, or none of this request; after `seconds` at the latest.

        It does not wait for what an outage holds back.
        """
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while in_flight := self._busy(request_id):
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return
            await asyncio.wait(in_flight, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _busy(self, request_id: str | None) -> list[asyncio.Task[None]]:
        """The attempts to wait for: all attempts of a line with a delivery of this request, or of any."""
        found: list[asyncio.Task[None]] = []
        for line in self._lines.values():
            due = [] if self.disorder.outage else [place.delivery for place in line.places]
            wanted = (each for each in (*line.in_flight.values(), *due))
            if any(request_id in (None, each.event.request_id) for each in wanted):
                found += line.in_flight
        return found

    def _plan(self, call: Call, event: Event) -> None:
        books = call.books
        snapshots: dict[str, bytes | None] = {}
        for endpoint in reversed(list(books.endpoints.newest_first())):
            wanted = endpoint.enabled_events
            if endpoint.status != "enabled" or (event.type not in wanted and ALL not in wanted):
                continue
            books.undelivered.setdefault(event.id, set()).add(endpoint.id)
            version = endpoint.api_version or API_VERSION
            if version not in snapshots:
                snapshots[version] = _snapshot(event, version, books)
            for _ in range(2 if self.disorder.duplicated() else 1):
                delivery = self._delivery(books, endpoint.id, event, version, snapshots[version])
                late_s = call.webhooks_late_s + self.disorder.lateness()
                self._schedule(delivery, call.now + math.ceil(late_s))

    def _delivery(
        self,
        books: Books,
        endpoint_id: str,
        event: Event,
        version: str,
        snapshot: bytes | None,
        *,
        by_hand: bool = False,
    ) -> Delivery:
        self._numbered += 1
        return Delivery(f"delivery_{self._numbered}", books, endpoint_id, event, version, snapshot, by_hand)

    def _schedule(self, delivery: Delivery, due: int) -> None:
        if sum(self.counts().values()) >= DELIVERIES_MAX:
            self._note(delivery, Outcome(None, f"not sent: {DELIVERIES_MAX:,} deliveries are waiting already"))
        elif due <= self._world.clock.time():
            self._line_up(delivery, due)
        else:
            self._waiting[delivery.id] = delivery
            self._world.agenda.note(due, self._come_due, delivery.books, delivery.id)

    def _come_due(self, call: Call) -> None:
        delivery = self._waiting.pop(call.ids[0], None)
        if delivery is not None:
            self._line_up(delivery, call.now)

    def _line_up(self, delivery: Delivery, due: int) -> None:
        line = self._lines.setdefault(delivery.endpoint_id, Line())
        self._numbered += 1
        heapq.heappush(line.places, Place(due, self._numbered, delivery))
        self._start_due(line)

    def _start_due(self, line: Line) -> None:
        while line.places and len(line.in_flight) < self.disorder.parallel and not self.disorder.outage:
            place = heapq.heappop(line.places)
            task = asyncio.get_running_loop().create_task(self._attempt(line, place))
            line.in_flight[task] = place.delivery

    async def _attempt(self, line: Line, place: Place) -> None:
        delivery = place.delivery
        endpoint = delivery.books.endpoints.get(delivery.endpoint_id)
        # An endpoint that is disabled or deleted when a retry is due gets none (docs.stripe.com/webhooks).
        if endpoint is not None and endpoint.status == "enabled":
            now = self._world.now()
            secrets = [each.value for each in endpoint.secrets if each.until is None or each.until > now]
            sent = deliveries.body(delivery)
            signed = deliveries.signature(sent, secrets)
            outcome = await deliveries.send(endpoint.url, sent, signed, self.disorder.timeout_s)
            if self._lines.get(delivery.endpoint_id) is not line:
                return  # there was a reset meanwhile
            self._attempted(delivery, place.due, outcome)
        task = asyncio.current_task()
        if task is not None:
            line.in_flight.pop(task, None)
        self._start_due(line)
        self._clockwork.set_alarm()

    def _attempted(self, delivery: Delivery, due: int, outcome: Outcome) -> None:
        books, event = delivery.books, delivery.event
        self._note(delivery, outcome)
        if outcome.delivered:
            missing = books.undelivered.get(event.id)
            if missing is not None:
                missing.discard(delivery.endpoint_id)
                if not missing:
                    del books.undelivered[event.id]
            return
        retries = RETRIES_LIVE_S if books.livemode else RETRIES_TEST_S
        if not delivery.by_hand and delivery.attempts <= len(retries):
            # Counted from when it was due, not from now: so moving the clock delays no attempt.
            self._schedule(delivery, due + retries[delivery.attempts - 1])

    def _note(self, delivery: Delivery, outcome: Outcome) -> None:
        delivery.attempts += 1
        self.attempted += 1
        self.attempts.append(
            Attempt(
                self.attempted,
                self._world.clock.time(),
                delivery.event,
                delivery.endpoint_id,
                delivery.attempts,
                delivery.by_hand,
                outcome,
            )
        )


def _snapshot(event: Event, version: str, books: Books) -> bytes | None:
    """The object in an older version. It may need other rows as they are now, so it is made now."""
    if not versions.older(version):
        return None
    encoded = orjson.dumps(versions.as_of(shown(event.row), version, books))
    # A copy, because orjson's result keeps its whole buffer of 8 kB.
    return bytes(memoryview(encoded))
