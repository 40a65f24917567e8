"""The buckets of all accounts in Redis, shared by all workers of an environment.

One key for each account, and one list of them; both are gone an hour after their last use. If they are lost, every
account begins at its full rate, and the next 429 slows it down again.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from redis import Redis
from redis.exceptions import NoScriptError

from jobs.limits import bucket
from jobs.limits.bucket import Ask, Bucket, Change, Grant, Terms
from jobs.rq.bells import key_prefix

TIMEOUT_S = 0.5
"""A captain waits so long for a Redis that does not answer, once in `pace.ALONE_S`."""
KEPT_S = 3600
OWN = "own"
"""The account that our own key belongs to, as in the scope `account:own`."""

_SCRIPT = Path(__file__).with_name("bucket.lua").read_text(encoding="utf-8")
_CONSTANTS = (
    bucket.BURST_S,
    bucket.LEAST_BURST,
    bucket.LOT_S,
    bucket.RECOVERY_S,
    bucket.LEAST_RATE,
    bucket.CUT_EVERY_S,
    bucket.FAILURES,
    KEPT_S,
)


class SharedBuckets:
    """Exchanges with the buckets in Redis. Raises what `redis` raises."""

    def __init__(self, redis: Redis, environment: str) -> None:
        self._redis, self._environment = redis, environment
        self._script = redis.register_script(_SCRIPT)

    def exchange(
        self, asks: Mapping[str | None, Ask], terms: Terms, now: float | None = None
    ) -> dict[str | None, Grant]:
        """All of them in one round trip. `now` is for tests; otherwise Redis' own clock is used."""
        try:
            answers = self._send(asks, terms, now)
        except NoScriptError:
            # Redis was restarted or flushed. Nothing was done: every call of the script was refused.
            self._redis.script_load(_SCRIPT)
            answers = self._send(asks, terms, now)
        return {account: _grant(*answer) for account, answer in zip(asks, answers, strict=True)}

    def _send(self, asks: Mapping[str | None, Ask], terms: Terms, now: float | None) -> list[list[Any]]:
        pipeline = self._redis.pipeline(transaction=False)
        for account, ask in asks.items():
            name = account or OWN
            told = (ask.want, ask.owed, ask.cut, -1 if ask.answered_ago_s is None else ask.answered_ago_s, ask.failed)
            pipeline.evalsha(
                self._script.sha,
                2,
                _key(self._environment, name),
                _list(self._environment),
                *(name, terms.most, terms.probe_s, *told, ask.leaves, *_CONSTANTS),
                *([] if now is None else [repr(now)]),
            )
        answers: list[list[Any]] = pipeline.execute()
        return answers


@dataclass(frozen=True, slots=True)
class Standing:
    """How one account stands, as an operator sees it."""

    account: str
    """`own`, or the id of a connected account."""
    rate: float
    """Requests per second that are allowed now."""
    most: float
    """Requests per second that the settings allow."""
    tokens: float
    """How many requests may be made at once. Below zero: so many were made on credit."""
    throttled_since: datetime | None
    """Since when the rate is below what the settings allow, because Stripe answered 429."""
    silent_since: datetime | None
    """Since when it answers no call, so that one call is made at a time."""
    next_call_at: datetime | None
    """When that may be; None: it is not silent."""
    failures: int
    """Calls that failed since one was answered."""
    last_asked_at: datetime


def standings(redis: Redis, environment: str, terms: Terms) -> Iterator[Standing]:
    """Every account that was called in the last hour, the last one first. Only reads. Raises what `redis` raises."""
    # An operator's login may not ask Redis for its time.
    now = time.time()
    names = cast("list[bytes]", redis.zrange(_list(environment), 0, -1, desc=True))
    for name in (each.decode(errors="replace") for each in names):
        if (found := _read(cast("dict[bytes, bytes]", redis.hgetall(_key(environment, name))))) is None:
            continue
        last_asked_at = found.at
        found.refill(terms, now)
        yield Standing(
            account=name,
            rate=round(found.rate, 1),
            most=terms.most,
            tokens=round(found.tokens, 1),
            throttled_since=_moment(found.throttled_since) if found.rate < terms.most else None,
            silent_since=_moment(found.silent_since),
            next_call_at=_moment(found.next_at) if found.silent_since > 0 else None,
            failures=int(found.failures),
            last_asked_at=datetime.fromtimestamp(last_asked_at, UTC),
        )


def _read(fields: Mapping[bytes, bytes]) -> Bucket | None:
    """None where it is gone by now, or something else has its name."""
    try:
        values = {each.name: float(fields[each.name.encode()]) for each in dataclasses.fields(Bucket)}
        return Bucket(**values)  # type: ignore[arg-type]
    except (KeyError, ValueError):
        return None


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None


def _key(environment: str, name: str) -> str:
    return f"{_list(environment)}:{name}"


def _list(environment: str) -> str:
    # Below the environment's prefix, which its logins may use, and outside of RQ's.
    return f"{key_prefix(environment).partition(':')[0]}:limits"


def _grant(tokens: int, wait_s: bytes, rate: bytes, silent: int, changes: bytes) -> Grant:
    return Grant(int(tokens), float(wait_s), float(rate), bool(silent), tuple(map(Change, changes.decode().split())))
