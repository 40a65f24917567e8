"""Bells: RQ jobs without data that say "take a shift on this queue"; and the connection to Redis.

All work is in Postgres; if Redis loses its data, relays ring again. RQ itself is imported when the first bell is rung
or answered, never before: see `choose_prefix`.
"""

from __future__ import annotations

import os
import sys
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# There is no such function. The worker process decides what it does for a bell; nothing in Redis can choose it.
SHIFT = "shift"

# Longer than the longest shift: a slice of 10 min, a call budget of 30 s, and the settling. It only says to RQ
# how long a job may run; it never interrupts a shift (overrides.NoDeathPenalty).
BELL_TIMEOUT_S = 15 * 60
# An answered bell leaves no key. A refused one stays for a minute, for an operator who watches Redis.
ANSWERED_TTL_S = 0
REFUSED_TTL_S = 60

CONNECT_TIMEOUT_S = 1.0
RELAY_TIMEOUT_S = 1.0  # after a timeout a relay rings again in its next round

STAMP = "billing:stamp"


class WrongEnvironment(Exception):
    """This Redis, or this process, is another environment's. Nothing else was read or written."""

    def __init__(self, found: str, expected: str, fix: str) -> None:
        super().__init__(f"found {found!r} where {expected!r} was expected: {fix}")
        self.found = found
        self.expected = expected


def open_redis(url: str, timeout_s: float = RELAY_TIMEOUT_S) -> Redis:
    """A client whose commands answer or raise within `timeout_s`. Connects at the first of them.

    No retries inside redis-py (its default is three, with growing pauses): our loops are the retry.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, CONNECT_TIMEOUT_S),
        retry=Retry(NoBackoff(), retries=0),
    )


def write_stamp(redis: Redis, environment: str) -> None:
    """Mark this Redis as `environment`'s unless it has a mark already. Raises WrongEnvironment."""
    redis.set(STAMP, environment, nx=True)
    check_stamp(redis, environment)


def check_stamp(redis: Redis, environment: str) -> None:
    """Raises WrongEnvironment if this Redis has the mark of another environment. No mark is fine: Redis may be
    flushed."""
    stamp = redis.get(STAMP)
    found = stamp.decode(errors="replace") if isinstance(stamp, bytes) else stamp
    if found is not None and found != environment:
        raise WrongEnvironment(
            found, environment, f"give this environment its own Redis, or delete the key {STAMP} there"
        )


def ring(redis: Redis, environment: str, queue: str, count: int = 1) -> None:
    """Ring `count` bells for `queue` in one transaction. Raises what `redis` raises.

    When unsure, ring again: a shift without work ends at once.
    """
    if count < 1:
        return
    choose_prefix(environment)
    from rq import Queue  # noqa: PLC0415 - not before its prefix is chosen

    bells = [
        Queue.prepare_data(
            SHIFT,
            job_id=f"bell_{uuid4().hex}",  # fresh: RQ runs the same id twice without complaint
            description="a bell",
            timeout=BELL_TIMEOUT_S,
            result_ttl=ANSWERED_TTL_S,
            failure_ttl=REFUSED_TTL_S,
        )
        for _ in range(count)
    ]
    Queue(queue, connection=redis, serializer="json").enqueue_many(bells)


def bells_waiting(redis: Redis, environment: str, queue: str) -> int:
    """How many bells no worker has taken yet.

    Read from the list itself: RQ's registries are empty after a flush, and to count them RQ first cleans them up, in
    the process that asks (RQ 3.0.0).
    """
    return int(redis.llen(f"{key_prefix(environment)}:queue:{queue}"))


def key_prefix(environment: str) -> str:
    """Every key of RQ starts with this. One per RQ major, because one cannot read another's jobs."""
    return f"billing-{environment}:rq3"


def choose_prefix(environment: str) -> None:
    """Make RQ use the keys of `environment` in this process. Call it before `import rq`.

    RQ 3.0.0 reads RQ_KEY_PREFIX once, when it is first imported, and builds class attributes, templates and
    Lua source from it; no later change reaches them all. So a process serves one environment: asked for
    a second one this raises WrongEnvironment, because it would ring under the wrong keys.
    """
    wanted = key_prefix(environment)
    loaded = sys.modules.get("rq.defaults")
    chosen = wanted if loaded is None else loaded.RQ_KEY_PREFIX
    if chosen != wanted:
        raise WrongEnvironment(chosen, wanted, "RQ was imported earlier in this process, with that prefix")
    os.environ["RQ_KEY_PREFIX"] = wanted
