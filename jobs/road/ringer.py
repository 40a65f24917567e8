"""Rings the workers of a queue: as many bells as the claimable work needs, minus those that wait in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from redis import Redis
from redis.exceptions import RedisError

from jobs.rq import bells

log = structlog.get_logger()


@dataclass(slots=True)
class Ringer:
    """`workers`: how many processes serve each queue; `crews`: how many calls each of them makes at once."""

    redis: Redis
    environment: str
    workers: Mapping[str, int]
    crews: Mapping[str, int]

    @property
    def most(self) -> dict[str, int]:
        """By queue, how many calls all its workers make at once. More claimable work than this needs no more bells."""
        return {queue: crew * self.workers[queue] for queue, crew in self.crews.items()}

    def saturated(self, claimable: Mapping[str, int]) -> bool:
        """Whether there is work, and each queue that has any has enough for a whole crew."""
        return any(claimable.values()) and all(not n or n >= self.crews[queue] for queue, n in claimable.items())

    def ring(self, queue: str, claimable: int) -> bool:
        """Ring one bell for each worker that would find work for its crew, and at least one. False if Redis is away."""
        wanted = max(1, min(-(-claimable // self.crews[queue]), self.workers[queue]))
        try:
            missing = wanted - bells.bells_waiting(self.redis, self.environment, queue)
            bells.ring(self.redis, self.environment, queue, missing)
        except RedisError as error:
            log.warning("redis.away", error=type(error).__name__, queue=queue)
            return False
        return True
