"""Rings the workers of a queue: as many bells as the claimable work needs, less those that are in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from redis import Redis
from redis.exceptions import RedisError

from jobs.rq import bells

log = structlog.get_logger()


@dataclass(slots=True)
class Ringer:
    """`workers`: how many processes are expected per queue; `crews`: how many calls each makes at once."""

    redis: Redis
    environment: str
    workers: Mapping[str, int]
    crews: Mapping[str, int]

    @property
    def most(self) -> dict[str, int]:
        """By queue, how many calls all its workers make at once: more claimable work than this rings no more bells."""
        return {queue: crew * self.workers[queue] for queue, crew in self.crews.items()}

    def saturated(self, claimable: Mapping[str, int]) -> bool:
        """Whether there is work, and a crew's worth in each queue that has any."""
        return any(claimable.values()) and all(not n or n >= self.crews[queue] for queue, n in claimable.items())

    def ring(self, queue: str, claimable: int) -> bool:
        """A bell for each worker that finds work for its crew, one at least. False: Redis is away."""
        wanted = max(1, min(-(-claimable // self.crews[queue]), self.workers[queue]))
        try:
            missing = wanted - bells.bells_waiting(self.redis, self.environment, queue)
            bells.ring(self.redis, self.environment, queue, missing)
        except RedisError as error:
            log.warning("redis.away", error=type(error).__name__, queue=queue)
            return False
        return True
