"""May this key be sent, sent again, or replaced? One pure function of the record and the database's time.

Every decision about a key is on this page; what an answer means is in `billing.answers`. It opens no connection
and reads no clock, so its whole domain can be enumerated (tests/protocol/). Only a definite answer or a proven
absence changes a key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from billing.learned import CONTRADICTIONS, DEFINITE, FOUND, UNCHANGED, Learned
from billing.timing import Timing

MAX_ROTATIONS = 3
"""This many generations of one step may be disproved. After that no new key is made: see `_after_an_unchanged_look`."""

LOOKS_BEFORE_ALARM = 8
"""From this look on, a call that looks cannot decide counts as undecided, and an error is logged: after two hours, with
production's pauses."""

BAD_REQUEST = 400
"""The status with which Stripe refuses a request that it understood, so the refusal is a decision."""

MAX_SERVER_ERRORS = 3
"""The replay header can be missing, so a third 5xx under one key counts as a replay."""


ALREADY_DONE = "already_done"
"""The effect was found, without proof that we made it."""

REFUSED_EACH_TIME = "refused_each_time"
"""The provider refused it under every key, and each time it was proven that nothing happened."""


class Known(Protocol):
    """What the decision needs of an idempotency record (`billing.tables.idempotency_records.Record` has all of it).

    `sends` counts the sends that were prepared. `unanswered` counts those that may have had an effect which no answer
    has shown. It is raised at the prepare, so it includes the send that is in flight; an answer which proves that a
    send was not executed lowers it. `unreported` counts those whose crew thread has not reported, so its process may
    be dead, or asleep and about to send. A send whose answer was lost is unanswered and reported; a killed worker's
    send is both unanswered and unreported.
    """

    learned: str
    sends: int
    unanswered: int
    unreported: int
    server_errors: int
    replayed: bool
    look_only: bool
    margin_looked: bool
    looks: int
    first_sent_at: datetime | None
    last_prepared_at: datetime | None
    last_reported_at: datetime | None
    lease_until: datetime | None
    lease_s: float | None
    deadline: datetime | None
    looked_at: datetime | None
    answer_status: int | None
    """Of the last answer that was reported in time."""


@dataclass(frozen=True, slots=True)
class Send:
    """Never sent: send under this generation's key."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Sent, unanswered, and the key is young: the same key and the same bytes; Stripe replays the answer."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Another worker may be calling now."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """Ask Stripe for the object's state, not before `at`, before anything is sent."""

    at: datetime
    for_margin: bool = False


@dataclass(frozen=True, slots=True)
class Rotate:
    """Proven absent: the next generation takes over, with a new key."""


@dataclass(frozen=True, slots=True)
class Park:
    """Undecided so far: look again at `look_at`, and log an error once. The record keeps its place in the unique
    indexes.

    This parks the call. Its work is `waiting`; the state `parked` of work means an unknown version of its contract.
    """

    look_at: datetime


@dataclass(frozen=True, slots=True)
class Conflict:
    """The provider holds something other than was asked: needs a decision."""


@dataclass(frozen=True, slots=True)
class Done:
    """Definite: one of `DEFINITE`."""

    outcome: Learned
    why: str = ""
    """The reason, where the record alone gives it: `ALREADY_DONE` or `REFUSED_EACH_TIME`."""


Move = Send | Resend | Wait | Look | Rotate | Park | Conflict | Done


@dataclass(frozen=True, slots=True)
class Rules:
    """In what the steps differ."""

    replays: bool = True
    """The provider replays by key (Stripe v1 POST). False: it may simply be repeated (GET, DELETE), unless `once`."""
    proof_settles: bool = False
    """Absence is read from lists and events, so the proof always waits until the last send has settled."""
    local: bool = False
    """A function of ours, not a call at the provider. It may run again at any time, and there is nothing to look at."""
    alarms: bool = True
    """An error is logged when it stays undecided. False where another error is logged already."""
    needs_a_person: bool = False
    """No look can prove that it did nothing, and a second effect is not harmless: only an operator may rule it out."""
    seen_as: Learned | None = None
    """As what it counts once an operator has seen, where no look can, that it happened. None: a look finds that."""
    once: bool = False
    """The other side knows no key: it would carry out a repetition as well. So a send without an answer is never
    repeated. One that was provably not carried out may be."""


def next_move(
    record: Known,
    now: datetime,
    timing: Timing,
    rules: Rules = Rules(),
    rotations: int = 0,
) -> Move:
    """What to do next with this record. First match wins; the table is total.

    `rotations` is how many generations of this step were disproved already.
    Sources: docs.stripe.com/api/idempotent_requests, docs.stripe.com/error-low-level.
    """
    learned = Learned(record.learned)
    if learned in DEFINITE:
        return Done(learned)
    if lease_alive(record, now):
        return Wait(record.lease_until or now)
    if rules.local:
        return Resend() if record.sends else Send()
    if learned in FOUND:
        return Done(FOUND[learned], ALREADY_DONE if learned is Learned.FOUND_FREE else "")
    if learned in CONTRADICTIONS:
        return Conflict()
    if learned is Learned.LOOK_UNANSWERED:
        return _look_again(record, now, timing, rules)
    if rules.once and (record.unanswered or record.look_only):
        again = now + look_backoff(record, timing)
        return Park(again) if learned is Learned.UNPROVABLE else Look(now)
    if not rules.replays:
        return _while_it_may_be_repeated(record, learned, now, timing, rules)
    if record.deadline is not None and now >= record.deadline:
        # Too late to send. The authorization lapses by itself, and a look will show it.
        long_past = now >= record.deadline + timedelta(seconds=timing.past_deadline_s)
        if learned in UNCHANGED:
            again = now + look_backoff(record, timing)
            return Park(again) if long_past else Look(again)
        return Look(now)
    if learned in UNCHANGED:
        return _after_an_unchanged_look(record, learned, now, timing, rules, rotations)
    if key_is_spent(record, now, timing):
        return Look(now)
    if _margin_reached(record, now, timing) and not record.margin_looked:
        return Look(now, for_margin=True)
    return Resend() if record.unanswered else Send()


def _look_again(record: Known, now: datetime, timing: Timing, rules: Rules) -> Look | Park:
    """With growing pauses, and after some looks as undecided."""
    again = now + look_backoff(record, timing)
    return Park(again) if record.looks >= LOOKS_BEFORE_ALARM and rules.alarms else Look(again)


def _while_it_may_be_repeated(record: Known, learned: Learned, now: datetime, timing: Timing, rules: Rules) -> Move:
    """To read or to delete needs no key and may be repeated. But a call that is refused again and again has to end."""
    if learned is Learned.ASK:
        return Look(now)
    if learned is Learned.UNPROVABLE:
        return _look_again(record, now, timing, rules)
    refused = record.look_only and record.sends > MAX_ROTATIONS
    if refused or (record.sends and _too_old(record, now, timing)):
        return Park(now + look_backoff(record, timing)) if learned is Learned.ABSENT else Look(now)
    return Resend() if record.sends else Send()


def _after_an_unchanged_look(
    record: Known, learned: Learned, now: datetime, timing: Timing, rules: Rules, rotations: int
) -> Move:
    """The object is as it was before we sent. What that allows depends on the key and on who may still be sending."""
    if not key_is_spent(record, now, timing):
        # Cheaper and more exact than a new key: Stripe replays its answer to this one.
        return Resend() if record.unanswered else Send()
    if learned is Learned.UNPROVABLE:
        return Park(now + look_backoff(record, timing))
    matures_at = absence_matures_at(record, now, timing, rules)
    if matures_at is not None and (record.looked_at is None or record.looked_at < matures_at):
        # A look that began before the last send was over proves nothing, however old that send is by now.
        return Look(max(now, matures_at))
    if rotations < MAX_ROTATIONS:
        return Rotate()
    if record.look_only and record.answer_status == BAD_REQUEST:
        return Done(Learned.REFUSED, REFUSED_EACH_TIME)
    return Park(now + look_backoff(record, timing))


def key_is_spent(record: Known, now: datetime, timing: Timing) -> bool:
    """Whether this generation may never be sent again: it replays an error, or Stripe may have forgotten it.

    A first send whose time is in the future (a clock was set back) counts as too old.
    """
    if record.look_only or record.server_errors >= MAX_SERVER_ERRORS:
        return True
    return _too_old(record, now, timing)


def absence_matures_at(record: Known, now: datetime, timing: Timing, rules: Rules) -> datetime | None:
    """When an unchanged object proves that no send of this generation had or will have an effect; None = now.

    A send that its crew thread reported is over. One that was not reported may belong to a paused process that wakes
    up and sends. After a *replayed* answer neither matters until the horizon, because each later send with this key
    gets the same replay.
    """
    if record.replayed and not rules.proof_settles and not _too_old(record, now, timing):
        return None
    moments = []
    if record.unreported and record.last_prepared_at is not None:
        moments.append(record.last_prepared_at + timing.abandoned)
    if record.last_reported_at is not None and (record.unanswered or rules.proof_settles):
        moments.append(record.last_reported_at + timedelta(seconds=timing.settle_s))
    return max(moments, default=None)


def _too_old(record: Known, now: datetime, timing: Timing) -> bool:
    if record.first_sent_at is None:
        return False
    return not timedelta(0) <= now - record.first_sent_at < timedelta(seconds=timing.horizon_s)


def lease_alive(record: Known, now: datetime) -> bool:
    """Whether a worker may be calling. A lease that ends later than its length + 1 s from now is over: a clock was set
    back."""
    if record.lease_until is None or record.lease_s is None:
        return False
    return now < record.lease_until <= now + timedelta(seconds=record.lease_s + 1)


def look_backoff(record: Known, timing: Timing) -> timedelta:
    """Doubles with every look, between the first and the longest pause of `timing`."""
    doubled = timing.look_first_s * 2 ** min(max(record.looks - 1, 0), 20)
    return timedelta(seconds=min(doubled, timing.look_max_s))


def _margin_reached(record: Known, now: datetime, timing: Timing) -> bool:
    return record.deadline is not None and now >= record.deadline - timedelta(seconds=timing.deadline_margin_s)


def key_for(service: str, environment: str, operation_id: str, step: str, generation: int) -> str:
    """`<service>:<environment>:<operation id>:<step>:g<generation>`: business identity only, nothing volatile.

    Raises ValueError when it is empty or longer than 255 characters: Stripe's SDK silently replaces an
    empty key by a random one, and a random key is a double charge without an error.
    """
    key = f"{service}:{environment}:{operation_id}:{step}:g{generation}"
    if not all((service, environment, operation_id, step)) or len(key) > 255:
        raise ValueError(f"no usable idempotency key: {key!r}")
    return key
