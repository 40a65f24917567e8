"""What goes wrong with webhooks, on request: twice, late, out of order, before the answer, or not at all for a while.

One seeded random generator decides, in the order of the events: the same requests get the same disorder.
"""

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stripe_standin import fields
from stripe_standin.fields import Reader, Refused

TIMEOUT_S = 10.0  # Stripe publishes none
LATE_MAX_S = 7 * 86_400


@dataclass
class Chance:
    """Happens every n-th time, or with a probability."""

    probability: float = 0.0
    every: int | None = None
    asked: int = 0

    def happens(self, rng: random.Random) -> bool:
        if self.every is None:
            return self.probability > 0 and rng.random() < self.probability
        self.asked += 1
        return self.asked % self.every == 0


@dataclass
class Disorder:
    """All settings. By default webhooks go out at once, once, and to each endpoint in the order of the events."""

    seed: int
    duplicates: Chance | None = None  # the same event delivered twice
    twins: Chance | None = None  # two events with two ids for one change
    delay_s: float = 0.0
    shuffle_s: int = 0  # each is late by a random part of this
    outage: bool = False
    before_response: bool = False
    parallel: int = 1  # attempts at a time, to one endpoint
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a repeatable run, not a secret

    def change(self, asked: Mapping[str, Any]) -> None:
        """Change the named settings, as `SETTINGS` has read them."""
        for name, value in asked.items():
            setattr(self, name, value)
        if "seed" in asked:
            self.__post_init__()

    def duplicated(self) -> bool:
        return self.duplicates is not None and self.duplicates.happens(self._rng)

    def twinned(self) -> bool:
        return self.twins is not None and self.twins.happens(self._rng)

    def lateness(self) -> float:
        """Seconds by which the next webhook is late."""
        return self.delay_s + (self._rng.randint(0, self.shuffle_s) if self.shuffle_s else 0)

    def shown(self) -> dict[str, Any]:
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("duplicates", "twins"):
            chance = settings[name]
            settings[name] = chance and (
                {"every": chance.every} if chance.every else {"probability": chance.probability}
            )
        return settings


_CHANCE = fields.table({"probability": fields.number(0, 1), "every": fields.whole(1, 10**9)})


def _chance(value: Any, name: str) -> Chance:
    asked = _CHANCE(value, name)
    if len(asked) != 1:
        raise Refused(f'`{name}` is {{"probability": 0 to 1}}, {{"every": n}} or null')
    return Chance(**asked)


SETTINGS: dict[str, Reader] = {
    "seed": fields.SEED,
    "duplicates": fields.or_null(_chance),
    "twins": fields.or_null(_chance),
    "delay_s": fields.number(0, LATE_MAX_S),
    "shuffle_s": fields.whole(0, LATE_MAX_S),
    "outage": fields.flag,
    "before_response": fields.flag,
    "parallel": fields.whole(1, 16),
    "timeout_s": fields.number(0.05, 60),
}
