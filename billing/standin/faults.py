"""What goes wrong, and where in a request's life. One table says it; rules say when.

A fault comes with the request (`X-Standin-Fault: drop_after_commit`, `X-Standin-Fault: latency;seconds=2`) or
from a rule set through `/_standin/faults`. The header wins; then the first rule that matches and is due.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Moment(StrEnum):
    """Where a fault acts, in the order of a request's life."""

    DOOR = "before anything is looked at: no effect, nothing saved"
    ACCESS = "in place of the check of the API key: no effect, nothing saved"
    LIMITER = "in place of the rate limiter: no effect, nothing saved"
    KEY = "when the idempotency key is looked up: no effect, nothing saved"
    BEFORE = "after the key is reserved, before executing: the same key gets 409 meanwhile"
    INSTEAD = "in place of executing: no effect"
    OVER = "after executing: the answer saved is not the one that was earned"
    AFTER = "after executing and saving: only this answer is disturbed, a replay tells the truth"


FAULTS: dict[str, Moment] = {
    "drop_before": Moment.DOOR,
    "redirect_307": Moment.DOOR,
    "502_html": Moment.DOOR,
    "200_html": Moment.DOOR,
    "401": Moment.ACCESS,
    "403": Moment.ACCESS,
    "429_rate": Moment.LIMITER,
    "409_in_use": Moment.KEY,
    "latency": Moment.BEFORE,
    "hold_before": Moment.BEFORE,
    "402_declined": Moment.INSTEAD,
    "500_saved": Moment.INSTEAD,
    "500_no_effect": Moment.INSTEAD,
    "429_lock_saved": Moment.INSTEAD,
    "424": Moment.INSTEAD,
    "500_with_effect": Moment.OVER,
    "drop_after_commit": Moment.AFTER,
    "latency_after": Moment.AFTER,
    "hold_after": Moment.AFTER,
    "truncate_body": Moment.AFTER,
    "other_id": Moment.AFTER,
    "other_object": Moment.AFTER,
    "other_livemode": Moment.AFTER,
    "other_currency": Moment.AFTER,
    "other_amount": Moment.AFTER,
    "not_end_state": Moment.AFTER,
}

# A page from a proxy says nothing about the effect: with `with_effect` it covers an answer that was given.
PAGES = {"502_html", "200_html"}

SECONDS_DEFAULT = 1.0

# Printable and without blanks, so that it can be a header.
_URL = re.compile(r"https?://[!-~]+")


class BadRule(ValueError):
    """A rule that can never do what it says. Its text is shown to whoever sent it."""


@dataclass
class Fault:
    """One fault, about to happen."""

    name: str
    seconds: float = SECONDS_DEFAULT
    location: str | None = None
    with_effect: bool = False
    survives: bool = False  # held before executing and the client left: executed all the same when released

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise BadRule(f"there is no fault {self.name!r}; known are: {', '.join(FAULTS)}")
        if self.name == "redirect_307" and not _URL.fullmatch(self.location or ""):
            raise BadRule("redirect_307 needs a `location`, a whole URL")
        if self.with_effect and self.name not in PAGES:
            raise BadRule(f"`with_effect` is for {' and '.join(sorted(PAGES))} only")
        if not 0 <= self.seconds <= 3600:
            raise BadRule("`seconds` is from 0 to 3600")

    @property
    def moment(self) -> Moment:
        return Moment.AFTER if self.with_effect else FAULTS[self.name]


@dataclass
class Rule:
    """When a fault happens: on every matching request, or from the `nth` on, at most `times` times."""

    id: str
    fault: Fault
    method: str | None = None
    path: re.Pattern[str] | None = None
    key: re.Pattern[str] | None = None
    nth: int = 1
    times: int | None = None
    probability: float = 1.0
    dice: random.Random = field(default_factory=random.Random)
    matched: int = 0
    fired: int = 0

    def due(self, method: str, path: str, key: str | None) -> bool:
        """Count this request if it matches, and say whether the fault happens to it."""
        if self.method is not None and self.method != method:
            return False
        if self.path is not None and not self.path.search(path):
            return False
        if self.key is not None and (key is None or not self.key.search(key)):
            return False
        self.matched += 1
        if self.matched < self.nth or (self.times is not None and self.fired >= self.times):
            return False
        if self.probability < 1 and self.dice.random() >= self.probability:
            return False
        self.fired += 1
        return True


class Faults:
    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._numbered = 0
        self.rules: list[Rule] = []

    def add(self, asked: Sequence[Mapping[str, Any]]) -> list[Rule]:
        """Rules from their JSON, all or none. Raises BadRule for a field that is unknown or of the wrong kind."""
        rules = [_read(each, f"rule_{n}", self._seed) for n, each in enumerate(asked, self._numbered + 1)]
        self._numbered += len(rules)
        self.rules += rules
        return rules

    def clear(self) -> None:
        self.rules.clear()

    def strike(self, header: bytes | None, method: str, path: str, key: str | None) -> Fault | None:
        """What happens to this request. Raises BadRule for a header that cannot be read."""
        if header is not None:
            return _from_header(header.decode("latin-1"))
        for rule in self.rules:
            if rule.due(method, path, key):
                return rule.fault
        return None


def _from_header(header: str) -> Fault:
    name, *options = (part.strip() for part in header.split(";"))
    asked: dict[str, Any] = dict(option.partition("=")[::2] for option in options)
    return _fault({"fault": name, **asked})


def _fault(asked: Mapping[str, Any]) -> Fault:
    try:
        seconds = float(asked.get("seconds", SECONDS_DEFAULT))
    except (TypeError, ValueError):
        raise BadRule("`seconds` is a number") from None
    unknown = set(asked) - {"fault", "seconds", "location", "with_effect", "survives"}
    if unknown:
        raise BadRule(f"unknown field: {', '.join(sorted(unknown))}")
    flags = {name: asked.get(name, False) in (True, "true") for name in ("with_effect", "survives")}
    return Fault(str(asked.get("fault")), seconds, asked.get("location"), **flags)


def _read(asked: Mapping[str, Any], rule_id: str, seed: int | None) -> Rule:
    when = {"method", "path", "key", "nth", "times", "probability", "seed"}
    fault = _fault({name: value for name, value in asked.items() if name not in when})
    nth = asked.get("nth")
    # "The third request" means one request, unless said otherwise.
    times = asked.get("times", None if nth is None else 1)
    for name, value in (("nth", nth), ("times", times)):
        if value is not None and (type(value) is not int or value < 1):
            raise BadRule(f"`{name}` is a whole number from 1 on")
    probability = asked.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise BadRule("`probability` is from 0 to 1")
    try:
        path, key = (re.compile(asked[name]) if asked.get(name) else None for name in ("path", "key"))
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise BadRule(f"`path` and `key` are regular expressions: {error}") from error
    dice = random.Random(asked.get("seed", seed))  # noqa: S311 - a repeatable run, not a secret
    method = str(asked["method"]).upper() if asked.get("method") else None
    return Rule(rule_id, fault, method, path, key, nth or 1, times, float(probability), dice)
