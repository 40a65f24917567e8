"""Which errors are tried again, and how: every class of error in one row, and how much of it waits now.

The policies and the code's own two tables are in `jobs.road.verdicts`. `ERRORS` says for each error that can reach them
which policy it meets; docs/operate/retries.md is written from it, and a test finds each error in exactly one row.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import redis.exceptions
from sqlalchemy import Double, Select, case, cast, func, select
from sqlalchemy.orm import Session

from archive import errors as archive
from billing.answers import Kind
from billing.calls import Standing
from billing.learned import Learned
from billing.registration import Retry
from billing.states import WorkState
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from jobs.config.secrets import SecretAway
from jobs.road.contracts import contracts, named
from jobs.road.verdicts import (
    ABSENT,
    FAILURES,
    IN_DOUBT,
    OPERATOR,
    RATE_LIMIT,
    RETRIES,
    SERVER_AWAY,
    SHORT_PAUSE,
    UNKNOWN,
    VALIDATION,
    VERDICTS,
    Failure,
    Policy,
)


class ErrorClass(NamedTuple):
    where: str
    key: object
    """What the code calls it: how an answer counts, what it shows, how the operation stands, a failure, or a class."""
    what: str
    policy: Policy


def _stands(standing: Standing) -> Policy:
    policy = VERDICTS[standing].policy
    assert policy is not None, "it is no progress"
    return policy


ERRORS = (
    ErrorClass(
        "network, Stripe",
        Kind.NO_ANSWER,
        "a timeout, a broken connection, a 5xx, a replayed 429, an answer that is not Stripe's: it may have been done",
        _stands(Standing.IN_DOUBT),
    ),
    ErrorClass(
        "network", Kind.NOT_SENT, "no connection, or too late to start: it was not sent", _stands(Standing.NOT_SENT)
    ),
    ErrorClass(
        "Stripe",
        Kind.THROTTLED,
        "429 that is not replayed, 409 `idempotency_key_in_use`: it was not carried out",
        _stands(Standing.THROTTLED),
    ),
    ErrorClass("Stripe", Kind.MISCONFIGURED, "401, 403: our key is refused", _stands(Standing.MISCONFIGURED)),
    ErrorClass(
        "Stripe",
        Learned.ASK,
        "404, 400 `idempotency_error`, a 400 after an unanswered send, a success that only a look explains",
        _stands(Standing.LOOKING),
    ),
    ErrorClass("Stripe", Learned.LOOK_UNANSWERED, "a look that was not answered", _stands(Standing.LOOKING)),
    ErrorClass("Stripe", Learned.ABSENT, "a look finds no effect; a mature proof allows a new key", IN_DOUBT),
    ErrorClass("Stripe", Learned.UNPROVABLE, "a look finds no effect, which proves nothing", _stands(Standing.PARKED)),
    ErrorClass("Stripe", Learned.DECLINED, "402: the issuer declines", VALIDATION),
    ErrorClass("Stripe", Learned.REFUSED, "400: the request is impossible as asked", VALIDATION),
    ErrorClass("Stripe", Learned.IMPOSSIBLE, "a look finds that it is not done, and cannot be", ABSENT),
    ErrorClass("Stripe", Learned.EXPIRED, "400: the authorization lapsed", ABSENT),
    ErrorClass("Stripe", Learned.IMPOSSIBLE_EXPIRED, "a look finds that the authorization lapsed", ABSENT),
    ErrorClass("Stripe", Learned.CANCELED, "400: the authorization was canceled", ABSENT),
    ErrorClass("Stripe", Learned.IMPOSSIBLE_CANCELED, "a look finds that the authorization was canceled", ABSENT),
    ErrorClass(
        "Stripe",
        Learned.MISMATCH,
        "a success about another object, mode, amount or currency",
        _stands(Standing.CONFLICT),
    ),
    ErrorClass("Stripe", Learned.FOUND_DIFFERENT, "a look finds another effect than asked", _stands(Standing.CONFLICT)),
    ErrorClass(
        "Stripe", Learned.FOUND_CLAIMED, "a look finds the effect of another operation", _stands(Standing.CONFLICT)
    ),
    ErrorClass("our code", Standing.WAITING, "another worker may be calling", _stands(Standing.WAITING)),
    ErrorClass("our code", Standing.SIBLING, "another operation calls for the same object", _stands(Standing.SIBLING)),
    ErrorClass("our code", Standing.IN_TURN, "another operation must be over first", _stands(Standing.IN_TURN)),
    ErrorClass("our code", Standing.BLOCKED, "a switch is pulled", _stands(Standing.BLOCKED)),
    ErrorClass("our code", Standing.UNFIT, "its row cannot become a valid request", _stands(Standing.UNFIT)),
    ErrorClass("our code", Exception, "a call raises, or its worker dies: an attempt", UNKNOWN),
    ErrorClass(
        "Postgres",
        Failure.REPEAT,
        "serialization failure, deadlock, lock not available (40001, 40P01, 55P03), a missing table or right (42)",
        FAILURES[Failure.REPEAT],
    ),
    ErrorClass(
        "Postgres",
        Failure.HALVE,
        "too slow, no memory or disk (25P03, 25P04, 57014, 53, 58): with half the rows",
        FAILURES[Failure.HALVE],
    ),
    ErrorClass(
        "Postgres",
        Failure.RECONNECT,
        "connection lost, failover, too many connections (08, 57P, 25006, 40003, 53300): what was written is read",
        FAILURES[Failure.RECONNECT],
    ),
    ErrorClass(
        "Postgres", Failure.DATA, "any other: the row that fails alone, with its answer", FAILURES[Failure.DATA]
    ),
    ErrorClass("Redis", redis.exceptions.RedisError, "away, or refuses our login; work stays in Postgres", SERVER_AWAY),
    ErrorClass("secrets", SecretAway, "the store of the secrets is away", SERVER_AWAY),
    ErrorClass(
        "S3",
        archive.StoreAway,
        "away, overloaded, full: 5xx, 409, 429; we are too slow, or our clock is wrong; facts stay in Postgres",
        SERVER_AWAY,
    ),
    ErrorClass("S3", archive.StoreRefused, "any other refusal: a key, a right, a setting", OPERATOR),
    ErrorClass("S3", archive.WrongBucket, "another environment's bucket, or one without locks", OPERATOR),
    ErrorClass("S3", archive.EvidenceDiffers, "what is stored is not what must be there", OPERATOR),
    ErrorClass("archive", archive.BadRetention, "the retention file is missing or wrong", OPERATOR),
    ErrorClass("archive", archive.ExposedCache, "others could change the verified copies", OPERATOR),
    ErrorClass("archive", archive.BadKey, "what should sign manifests is not a key", OPERATOR),
    ErrorClass("archive", archive.BadHeads, "a file that should hold published heads holds none", OPERATOR),
    ErrorClass("archive", archive.BadHold, "a legal hold of this name cannot be placed or released", OPERATOR),
    ErrorClass("archive", archive.BadScratch, "facts cannot be brought back into that place", OPERATOR),
    ErrorClass("archive", archive.NotWritten, "a file that was asked for cannot be written, or there is one", OPERATOR),
    ErrorClass("archive", archive.BadQuestion, "no such query, a wrong parameter, or an empty range", OPERATOR),
    ErrorClass("archive", archive.BadQuery, "its SQL is wrong, or contradicts its header", OPERATOR),
    ErrorClass("archive", archive.BadExport, "a file is no export, is not whole, or does not fit the others", OPERATOR),
    ErrorClass("archive", archive.NotClosable, "a month is not over, not archived, or closed already", OPERATOR),
    ErrorClass("archive", archive.TooLarge, "a query needs more time, memory, disk or rows than it may have", OPERATOR),
)
POLICIES = tuple({each.name: each for each in (*RETRIES.values(), *(row.policy for row in ERRORS))}.values())


# How much of it waits now.

REASONS = 5
"""As many reasons are reported of each contract."""


class Spread(NamedTuple):
    """Of what waits, in numbers; None where nothing does."""

    p50: float | None
    p90: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class Reason:
    state: str
    reason: str
    """As the work has it, up to its first colon; ids and numbers may follow there."""
    count: int
    policy: str
    promise: str


@dataclass(slots=True)
class Retries:
    """The work of one contract that is not done."""

    contract: str
    states: dict[str, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    """Crashes and unknown errors -> how many pieces of work."""
    tries: Spread = Spread(None, None, None)
    """Pauses since the last call that got through."""
    wait_s: Spread = Spread(None, None, None)
    """Seconds until what waits is tried again, or looked at; overdue counts as 0."""
    next_due: datetime | None = None
    reasons: list[Reason] = field(default_factory=list)
    """The commonest first, of what does not make progress."""


_CALLED = Work.contract.concat(":").concat(Work.version)
# Work without a due time waits for the look of its record.
_DUE = func.coalesce(Work.due_at, Record.look_at)
_POLICY = case(
    (Work.state == WorkState.HELD, "stopped"),
    (Work.state == WorkState.QUARANTINED, UNKNOWN.name),
    (Work.state == WorkState.PARKED, "parked"),
    (Work.due_at.is_(None), IN_DOUBT.name),
    # Or the one that its contract names.
    (Record.unanswered > 0, Retry.PROMPT.value),
    else_="not sent",
)
_PROMISES: Mapping[str, str] = {policy.name: policy.promise for policy in POLICIES} | {
    "parked": "it waits for a worker that knows this version, and uses up no attempts",
    "not sent": f"{SHORT_PAUSE.promise}, or after a longer one ({RATE_LIMIT.name})",
}


def report(session: Session, contract: str | None = None) -> list[Retries]:
    """What waits or was stopped, by contract (`name:version`), or of one. Reads all work three times."""
    found: dict[str, Retries] = {}
    spread = (_spread(Work.tries), _spread(_wait()))
    for called, state, attempts, count in session.execute(
        _open(contract, _CALLED, Work.state, Work.attempts, func.count()).group_by(_CALLED, Work.state, Work.attempts)
    ):
        row = found.setdefault(called, Retries(called))
        row.states[state] = row.states.get(state, 0) + count
        row.attempts[attempts] = row.attempts.get(attempts, 0) + count
    for called, next_due, *numbers in session.execute(
        _open(contract, _CALLED, func.min(_DUE), *spread[0], *spread[1])
        .where(Work.state == WorkState.WAITING)
        .group_by(_CALLED)
    ):
        row = found[called]
        row.next_due, row.tries, row.wait_s = next_due, Spread(*numbers[:3]), Spread(*numbers[3:])
    for called, reasons in _reasons(session, contract).items():
        found[called].reasons = reasons[:REASONS]
    return [found[called] for called in sorted(found)]


def _open(contract: str | None, *columns: Any) -> Select[Any]:
    query = (
        select(*columns)
        .select_from(Work)
        .outerjoin(Record, (Record.work_id == Work.id) & Record.concluded_at.is_(None))
        .where(Work.state != WorkState.DONE)
    )
    return query if contract is None else query.where(_CALLED.in_([contract]))


def _wait() -> Any:
    return func.greatest(0.0, cast(func.extract("epoch", _DUE - func.now()), Double))


def _spread(of: Any) -> tuple[Any, Any, Any]:
    return func.percentile_disc(0.5).within_group(of), func.percentile_disc(0.9).within_group(of), func.max(of)


def _reasons(session: Session, contract: str | None) -> dict[str, list[Reason]]:
    reason = func.split_part(func.coalesce(Work.reason, ""), ":", 1)
    stopped = Work.state.not_in((WorkState.READY, WorkState.RUNNING))
    rows = session.execute(
        _open(contract, _CALLED.label("called"), Work.state, reason.label("why"), _POLICY.label("policy"), func.count())
        .where(stopped)
        .group_by("called", Work.state, "why", "policy")
        .order_by(func.count().desc(), Work.state, "why")
    )
    found: dict[str, list[Reason]] = defaultdict(list)
    named_by = {named(each): each.retry for _, each in contracts()}
    for called, state, why, waits_under, count in rows:
        policy = named_by.get(called, waits_under) if waits_under == Retry.PROMPT else waits_under
        found[called].append(Reason(state, why or "no reason given", count, policy, _PROMISES[policy]))
    return found
