"""What Redis holds for this service, and how much memory it has: bells and RQ's registries, never work.

There is never more than a bell for each worker, an answered bell leaves no key, a refused one is gone after a minute,
and RQ's workers remove every ten minutes what dead workers left. So nothing is removed here; it is shown.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from redis import Redis

from jobs.rq.bells import key_prefix

LIMIT_WARN = 0.8
"""The share of its memory above which `doctor` and an alert warn. At the limit it takes no bell."""
KEYS_MOST = 10_000
"""So many keys of the whole Redis are looked at: it may be shared."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `limit_bytes` is 0 where none is set: then Redis may take all of its machine's memory."""

    used_bytes: int
    limit_bytes: int
    policy: str

    @property
    def share(self) -> float | None:
        return self.used_bytes / self.limit_bytes if self.limit_bytes else None


@dataclass(frozen=True, slots=True)
class Keys:
    """`by_kind`: our keys, as `job` (a bell), `queue` (a list of bells), `wip`, `failed`, `finished` (registries),
    `worker`. `complete`: False if not all keys of this Redis were looked at."""

    by_kind: Mapping[str, int]
    complete: bool


def memory(redis: Redis) -> Memory:
    """Raises what `redis` raises."""
    found = redis.info("memory")
    return Memory(int(found["used_memory"]), int(found["maxmemory"]), str(found["maxmemory_policy"]))


def keys(redis: Redis, environment: str) -> Keys:
    """Our keys by kind. It looks at `KEYS_MOST` keys at most, and holds Redis up for no more than a moment at once.

    Raises what `redis` raises.
    """
    prefix, kinds, seen, cursor = f"{key_prefix(environment)}:", Counter[str](), 0, 0
    while True:
        cursor, page = redis.scan(cursor, count=1000)
        seen += len(page)
        names = (name.decode(errors="replace") if isinstance(name, bytes) else name for name in page)
        kinds.update(name.removeprefix(prefix).partition(":")[0] for name in names if name.startswith(prefix))
        if cursor == 0 or seen >= KEYS_MOST:
            return Keys(dict(sorted(kinds.items())), complete=cursor == 0)
