"""One timeline of everything that a name leads to: facts, sends, failures, stops, events, money, in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.currencies import CURRENCIES
from billing.explain import Explanation
from billing.money import shown
from billing.states import WorkState

_STOPPED = (WorkState.HELD, WorkState.PARKED, WorkState.QUARANTINED)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, or was learned. `of`: the operation that it is about.

    `what`: `fact`, `planned`, `sent`, `failed`, `stopped`, `switch`, `event` (of Stripe's, when it came in), `money`
    (as Stripe's own records have it) or `difference`. `text`: in one line. `details`: of a fact, its payload. `number`:
    of a fact, its version; what has none stands before the facts of the same instant.
    """

    at: datetime
    of: str
    what: str
    text: str
    by: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    number: int = 0


def timeline(operations: Sequence[Explanation]) -> list[Moment]:
    """All moments of these operations, the earliest first."""
    moments = [moment for story in operations for moment in _moments(story)]
    return sorted(moments, key=lambda each: (each.at, each.of, each.number))


def _moments(story: Explanation) -> Iterator[Moment]:
    its_id = story.status.id
    for fact in story.facts:
        aside = ", SET ASIDE: it could not be planned" if fact.set_aside else ""
        text = f"{fact.topic}: {fact.meaning}{aside}"
        # An amount is read with its currency; some facts leave it to their request.
        currency = {"currency": story.request.get("currency")} if "minor" in fact.payload else {}
        yield Moment(fact.at, its_id, "fact", text, fact.actor, currency | fact.payload, fact.version)
    for work in story.work:
        yield Moment(work.planned_at, its_id, "planned", f"{work.id}: {work.contract} on the queue {work.queue}")
        if work.state in _STOPPED:
            yield Moment(work.state_since, its_id, "stopped", f"the work is {work.state}: {work.reason or 'no reason'}")
    for call in story.calls:
        name = f"{call.step} g{call.generation}"
        if call.first_sent_at is not None:
            text = f"{name}, {call.method} {call.path}, under the key {call.key}"
            yield Moment(call.first_sent_at, its_id, "sent", text)
        if call.sends > 1 and call.last_prepared_at is not None:
            text = f"{name}, for the {_ordinal(call.sends)} time, the same bytes under the same key"
            yield Moment(call.last_prepared_at, its_id, "sent", text)
    for failure in story.failures:
        errors = f" ({', '.join(failure.errors)})" if failure.errors else ""
        text = "the work was quarantined" if failure.quarantined else "an attempt failed"
        yield Moment(failure.at, its_id, "failed", f"{text}: {failure.reason or 'no reason'}{errors}")
    for event in story.events:
        of = f" of {event.object_id}" if event.object_id else ""
        text = f"{event.id}: {event.type}{of}, {event.created_at:%Y-%m-%d %H:%M:%S} UTC at Stripe"
        yield Moment(event.at, its_id, "event", text, event.source)
    for money in story.money:
        fee = ""
        if money.fee_minor is not None and money.net_minor is not None:
            fee = f", fee {_amount(money.fee_minor, money.currency)}, net {_amount(money.net_minor, money.currency)}"
        payout = f", in {money.payout}" if money.payout else ""
        text = f"{money.id}, {money.object} {money.type or money.state or ''}".rstrip() + payout + fee
        details = {"minor": money.amount_minor, "currency": money.currency}
        yield Moment(money.at, its_id, "money", text, details=details)
    for difference in story.differences:
        text = f"{difference.id}, {difference.kind}: {difference.told}"
        yield Moment(difference.first_seen_at, its_id, "difference", text)
        if not difference.is_open:
            why = f": {difference.closed_because}" if difference.closed_because else ""
            text = f"{difference.id} is {difference.state}{why}"
            yield Moment(difference.state_since, its_id, "difference", text, difference.closed_by or "")
    for switch in story.switches:
        text = f"{switch.scope} was pulled: {switch.reason or 'no reason'}"
        yield Moment(switch.pulled_at, its_id, "switch", text, switch.actor)


def _amount(minor: int, currency: str | None) -> str:
    return shown(minor, currency) if currency is not None and currency in CURRENCIES else str(minor)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
