"""A provider, a fleet of workers and a clock in one process: the protocol's real code against random schedules.

`billing.effects` touches no connection, so a schedule of deaths, lost answers, late arrivals and time jumps can be
played in microseconds. The provider is meaner than Stripe: nothing but the key stops a second effect.
"""

import heapq
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from billing import effects
from billing.call_settings import CallSettings
from billing.calls import Call, Report, Result, Standing
from billing.capture_steps import CAPTURE
from billing.effects import Context
from billing.gateway import Answer, NoAnswer, NotSent, Request, Response
from billing.idempotency import Rules
from billing.learned import Learned
from billing.registration import Operation
from billing.states import CaptureState, VoidState
from billing.steps import Ask, Judgment, LoadedOperation, LookResult, Step
from billing.tables.entities import Capture, Void
from billing.tables.idempotency_records import Record
from billing.timing import PRODUCTION, Timing

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALL_SETTINGS = CallSettings("billing", "test", livemode=False, api_version="2026-10-28.endive", timing=PRODUCTION)
INTENT = "pi_1"


def capture(**changes: Any) -> Capture:
    """A capture whose authorization is known, in memory only."""
    values: dict[str, Any] = {
        "id": "cap_" + "0" * 32,
        "account": None,
        "request_id": "order-1",
        "payment_intent": INTENT,
        "capture_no": 1,
        "amount_minor": 1999,
        "currency": "USD",
        "authorized_minor": 1999,
        "authorized_currency": "USD",
        "capture_before": None,
        "state": CaptureState.REQUESTED,
        "version": 1,
        "correlation_id": None,
        "reason": None,
        "charge": None,
    }
    return Capture(**{**values, **changes})


def a_void(**changes: Any) -> Void:
    """A void whose authorization was read, in memory only."""
    values: dict[str, Any] = {
        "id": "void_" + "0" * 32,
        "account": None,
        "request_id": "order-1-void",
        "payment_intent": INTENT,
        "cancellation_reason": "requested_by_customer",
        "held_minor": 1999,
        "currency": "USD",
        "state": VoidState.REQUESTED,
        "version": 1,
        "correlation_id": None,
        "reason": None,
    }
    return Void(**{**values, **changes})


def loaded_with(row: Any, *records: Record) -> LoadedOperation:
    return LoadedOperation(row, list(records), "wrk_1", "captures")


def intent(**changes: Any) -> dict[str, Any]:
    """A payment intent as Stripe shows it after our capture."""
    shown: dict[str, Any] = {
        "id": INTENT,
        "object": "payment_intent",
        "livemode": False,
        "status": "succeeded",
        "amount": 1999,
        "amount_capturable": 0,
        "amount_received": 1999,
        "currency": "usd",
        "latest_charge": "ch_1",
        "metadata": {"billing_operation": "cap_" + "0" * 32},
        "cancellation_reason": None,
    }
    return {**shown, **changes}


def response(
    status: int, data: Any = None, *, replayed: bool = False, request_id: str = "req_1", body: bytes | None = None
) -> Response:
    raw = json.dumps(data).encode() if body is None else body
    return Response(status, raw, data, request_id, replayed)


def error(status: int, *, replayed: bool = False, **fields: Any) -> Response:
    return response(status, {"error": {"type": "invalid_request_error", **fields}}, replayed=replayed)


# The operation of the simulation: it takes money, and no state at the provider would stop a second take.


def _take_applied(loaded: LoadedOperation, outcome: Learned, _data: Any, why: str) -> list[Any]:
    loaded.row.state = CaptureState.CAPTURED if outcome is Learned.SUCCEEDED else CaptureState.REFUSED
    return []


def _look_for_take(_loaded: LoadedOperation, read: Any, _livemode: bool) -> LookResult:
    answer = read.get("/v1/takes")
    if not isinstance(answer, Response) or answer.status != 200 or answer.data is None:
        return LookResult(Learned.LOOK_UNANSWERED)
    return LookResult(Learned.FOUND_OURS if answer.data["takes"] else Learned.ABSENT, answer.data)


TAKE = Step(
    name="take",
    ask=lambda loaded: Ask("POST", "/v1/take", {"amount": 1999}, INTENT),
    judge=lambda _loaded, data: Judgment(Learned.SUCCEEDED if data.get("takes") else Learned.MISMATCH),
    find=_look_for_take,
    apply=_take_applied,
)
MAKE = replace(TAKE, name="make", creates=True, rules=Rules(proof_settles=True))


def _operation_of(step: Step) -> Operation:
    return Operation(
        table=Capture,
        prefix="cap",
        contracts=(),
        next_step=lambda loaded: step if loaded.row.state == CaptureState.REQUESTED else None,
        steps={step.name: step}.__getitem__,
        belongs_to=(),
    )


TAKING, MAKING = _operation_of(TAKE), _operation_of(MAKE)
CAPTURING = _operation_of(CAPTURE)


@dataclass
class Provider:
    """Saves an answer per key for 24 hours, the answers 500 included; executes a forgotten key anew."""

    world: "World"
    saved: dict[str, tuple[datetime, Response, str]] = field(default_factory=dict)
    effects: list[tuple[datetime, str]] = field(default_factory=list)

    def execute(self, request: Request, *, instead: str = "") -> Response:
        """One request that arrived. `instead`: what goes wrong while it is executed for the first time."""
        if request.method == "GET":
            return response(200, {"object": "list", "livemode": False, "takes": len(self.effects)})
        assert request.key is not None
        now = self.world.now
        if instead == "400_unsaved":
            # Refused before the key is looked up: it says nothing about what this key did before.
            return error(400)
        kept = self.saved.get(request.key)
        if kept is not None and now - kept[0] < timedelta(hours=24):
            if kept[2] != request.body:
                return error(400, type="idempotency_error")
            return replace(kept[1], replayed=True)
        if instead == "429":
            return error(429, code="rate_limit")
        if instead == "401":
            return error(401)
        if instead == "500_unsaved":
            return error(500, type="api_error")
        if instead not in ("500_saved", "400_saved"):
            self.effects.append((now, request.key))
        answer = response(200, {"object": "take", "livemode": False, "takes": len(self.effects)})
        if instead in ("500_saved", "500_with_effect"):
            answer = error(500, type="api_error")
        if instead == "400_saved":
            answer = error(400)
        if instead == "lock_saved":
            self.effects.pop()
            answer = error(429, code="lock_timeout")
        self.saved[request.key] = (now, answer, request.body)
        return answer


FATES = (
    "answered",
    "lost_before",
    "lost_after",
    "lost_then_arrives",
    "not_sent",
    "died_before",
    "died_after",
    "died_then_arrives",
    "overslept",
    "429",
    "401",
    "409",
    "500_saved",
    "500_unsaved",
    "500_then_arrives",
    "500_with_effect",
    "lock_saved",
)
REFUSALS = ("400_saved", "400_unsaved")
PAUSES = (0.0, 0.0, 0.0, 1.0, 14.0, 31.0, 61.0, 120.0, 3600.0, 22.9 * 3600, 25 * 3600.0)


class Violation(AssertionError):
    """What must never happen, in words."""


@dataclass(frozen=True)
class Schedule:
    """What happens to the calls, one after the other, and how long the fleet idles before each claim."""

    fates: Sequence[tuple[str, float]]
    """(fate, 0..1: how late within what the protocol allows)"""
    pauses: Sequence[float]
    holds: Sequence[bool] = ()
    """Whether a switch is pulled at this claim; it is released before the next."""

    @staticmethod
    def random(seed: int, holds: bool = False, fates: Sequence[str] = FATES) -> "Schedule":
        dice = random.Random(seed)
        return Schedule(
            [(dice.choice(fates), dice.random()) for _ in range(dice.randint(0, 10))],
            [dice.choice(PAUSES) for _ in range(dice.randint(0, 14))],
            [dice.random() < 0.3 for _ in range(dice.randint(0, 14))] if holds else (),
        )


class World:
    """One operation, carried through a schedule; after it nothing is disturbed any more, and it has to end."""

    def __init__(self, schedule: Schedule, timing: Timing = PRODUCTION, operation: Operation = TAKING) -> None:
        self.now = NOON
        self.timing, self.operation = timing, operation
        self.call_settings = replace(CALL_SETTINGS, timing=timing)
        self.loaded = loaded_with(capture())
        self.provider = Provider(self)
        self._fates, self._pauses, self._holds = list(schedule.fates), list(schedule.pauses), list(schedule.holds)
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = count()
        self.ready_at: datetime | None = NOON
        self.running: Record | None = None
        self.standing: Standing | None = None
        self.in_hand: list[tuple[Call, datetime]] = []
        self.trace: list[str] = []

    # What a relay and a captain do, reduced to one operation.

    def run(self, rounds: int = 300) -> "World":
        for _ in range(rounds):
            if self.standing in (Standing.CONCLUDED, Standing.CONFLICT) and not self._events:
                return self
            self._round()
            if len(self.provider.effects) > 1:
                raise Violation(f"two effects: {self.provider.effects}")
            if self.loaded.row.state == CaptureState.REFUSED and self.provider.effects:
                raise Violation(f"refused, and it happened: {self.provider.effects}")
        if self.standing is not Standing.PARKED:
            raise Violation(f"it neither ended nor was parked: {self.standing}")
        return self

    def _round(self) -> None:
        if self._may_claim():
            self._pass(timedelta(seconds=self._pauses.pop(0) if self._pauses else 0.0))
        if self.running is not None and not self._leased(self.running):
            # Taken back by a relay: its worker died or sleeps.
            self.running, self.ready_at = None, self.now
        if self._may_claim():
            self._claim(look=self._look_due())
        else:
            self._wait()

    def _look_due(self) -> bool:
        record = self.loaded.open_record
        return (
            record is not None
            and record.look_at is not None
            and record.look_at <= self.now
            and not self._leased(record)
        )

    def _may_claim(self) -> bool:
        over = self.standing in (Standing.CONCLUDED, Standing.CONFLICT)
        ready = self.ready_at is not None and self.ready_at <= self.now
        return not over and (ready or self._look_due())

    def _leased(self, record: Record | None) -> bool:
        return record is not None and record.lease_until is not None and self.now < record.lease_until

    def _wait(self) -> None:
        """Until the next thing that can happen."""
        record = self.loaded.open_record
        moments = [moment for moment, _, _ in self._events[:1]]
        if self.ready_at is not None:
            moments.append(self.ready_at)
        if record is not None:
            moments += [moment for moment in (record.look_at, record.lease_until) if moment is not None]
        later = [moment for moment in moments if moment >= self.now]
        self._pass(min(later) - self.now if later else timedelta(seconds=1))
        self.now += timedelta(milliseconds=1)

    def _pass(self, time: timedelta) -> None:
        until = self.now + time
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = max(self.now, until)

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + timedelta(seconds=seconds), next(self._number), event))

    def _context(self) -> Context:
        return Context(self.operation, self.loaded, self.now, self.call_settings, may_send=self._may_send)

    @property
    def _may_send(self) -> bool:
        return not (self._holds and self._holds[0])

    def _claim(self, *, look: bool) -> None:
        result = effects.prepare(self._context(), look=look)
        self._apply(result, sent_now=True)
        if self._holds:
            self._holds.pop(0)

    def _apply(self, result: Result, *, sent_now: bool = False) -> None:
        self.standing = result.standing
        if result.call is None or not result.call.looking:
            # A look leaves the work as it is.
            self.ready_at = None
        self.trace.append(f"{self.now - NOON} {result.standing}")
        if result.call is not None:
            self._call(result.call)
            return
        match result.standing:
            case Standing.AGAIN | Standing.NOT_SENT | Standing.BLOCKED | Standing.MISCONFIGURED:
                self.ready_at = self.now + timedelta(seconds=0 if sent_now is False else 1)
            case Standing.IN_DOUBT | Standing.THROTTLED | Standing.WAITING:
                self.ready_at = self.now + timedelta(seconds=5)
            case Standing.LOOKING if not self._may_send:
                # Held: the switch is released later, and the work is ready again, whatever was seen meanwhile.
                self.ready_at = self.now + timedelta(seconds=200)

    def _call(self, call: Call) -> None:
        record = next(r for r in self.loaded.records if r.id == call.record_id)
        for other, until in self.in_hand:
            if self.now < until and other.fence != call.fence:
                raise Violation("two calls in hand at once, both with a living lease")
        fate, late = self._fates.pop(0) if self._fates else ("answered", 0.0)
        self.running = None if call.looking and not call.step.only_looks else record
        assert record.lease_until is not None
        self.in_hand.append((call, record.lease_until))
        self.trace.append(f"{self.now - NOON} {'look' if call.looking else call.request.key} -> {fate} {late:.2f}")
        if call.looking:
            self._look(call, fate)
        else:
            getattr(self, "_" + _HANDLERS.get(fate, "executed"))(call, fate, late)

    # Fates of calls. How late anything may happen is exactly what the protocol rests on.

    def _report(self, call: Call, came_back: Answer | LookResult, after_s: float) -> None:
        def settle() -> None:
            self.in_hand = [(other, until) for other, until in self.in_hand if other is not call]
            running = self.running
            if running is not None and (running.id, running.fence) == (call.record_id, call.fence):
                self.running = None
            if isinstance(came_back, LookResult):
                self.trace.append(f"{self.now - NOON} saw {came_back.learned}")
            result = effects.settle(self._context(), Report(call, came_back, 1))
            if result.standing is Standing.LATE:
                return
            self._apply(result)

        self._later(after_s, settle)

    def _look(self, call: Call, fate: str) -> None:
        if fate.startswith("died"):
            return
        unread = fate not in ("answered", "lost_after", "409")
        found = LookResult(Learned.LOOK_UNANSWERED) if unread else call.step.look(self.loaded, self, False)
        self._report(call, found, 0.1)

    def get(self, path: str, _parameters: Any = None) -> Answer:
        """The reader of a look."""
        return self.provider.execute(Request("GET", path))

    def _arrive(self, call: Call, after_s: float) -> None:
        self._later(after_s, lambda: void(self.provider.execute(call.request)))

    def _executed(self, call: Call, fate: str, late: float) -> None:
        answer: Answer
        if fate == "409":
            answer = error(409, code="idempotency_key_in_use")
        else:
            answer = self.provider.execute(call.request, instead="" if fate == "answered" else fate)
        self._report(call, answer, 0.2 + 9 * late)

    def _lost(self, call: Call, fate: str, late: float) -> None:
        """A network error within the budget."""
        took_s = late * self.timing.call_budget_s
        if fate == "lost_after":
            self.provider.execute(call.request)
        if fate == "lost_then_arrives":
            self._arrive(call, took_s + 0.9 * self.timing.settle_s)
        self._report(call, NoAnswer("ReadTimeoutError"), took_s)

    def _broken(self, call: Call, fate: str, late: float) -> None:
        """A 5xx of something in front, and the request goes through all the same, within the settle time."""
        took_s = 0.5 * self.timing.call_budget_s
        self._arrive(call, took_s + late * 0.99 * self.timing.settle_s)
        self._report(call, error(502), took_s)

    def _not_sent(self, call: Call, fate: str, late: float) -> None:
        self._report(call, NotSent("too late to start"), 1 + late)

    def _died(self, call: Call, fate: str, late: float) -> None:
        if fate == "died_after":
            self.provider.execute(call.request)
        if fate == "died_then_arrives":
            self._arrive(call, late * 0.99 * self.timing.abandoned.total_seconds())

    def _overslept(self, call: Call, fate: str, late: float) -> None:
        """The process is paused in its call and reports what came back when everybody has gone on without it."""
        after_s = late * 0.99 * self.timing.abandoned.total_seconds()

        def execute() -> None:
            self._report(call, self.provider.execute(call.request), 30 * 3600 * late)

        self._later(after_s, execute)


_HANDLERS = {
    "lost_before": "lost",
    "lost_after": "lost",
    "lost_then_arrives": "lost",
    "500_then_arrives": "broken",
    "not_sent": "not_sent",
    "died_before": "died",
    "died_after": "died",
    "died_then_arrives": "died",
    "overslept": "overslept",
}


def void(_: object) -> None:
    """A result that nobody waits for."""
