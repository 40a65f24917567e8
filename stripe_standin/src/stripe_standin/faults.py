"""What goes wrong, and where in a request's life: one table. Rules say when.

A fault comes with the request (`X-Standin-Fault: drop_after_commit`, `X-Standin-Fault: latency;seconds=2`) or
from a rule set through `/_standin/faults`. The header wins; then the first rule that matches and is due to act.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from . import fields
from .fields import Reader, Refused


class Moment(StrEnum):
    """Where a fault acts, in the order of a request's life."""

    ARRIVAL = "before anything is looked at: no effect, nothing saved"
    ACCESS = "in place of the check of the API key: no effect, nothing saved"
    LIMITER = "in place of the rate limiter: no effect, nothing saved"
    KEY = "when the idempotency key is looked up: no effect, nothing saved"
    BEFORE = "after the key is reserved, before executing: the same key gets 409 meanwhile"
    INSTEAD = "in place of executing: no effect"
    OVER = "after executing: the answer saved is not the one that was earned"
    AFTER = "after executing and saving: only this answer is disturbed, a replay tells the truth"


class Kind(NamedTuple):
    """A kind of fault: where it acts, and which of `OPTIONS` it takes."""

    moment: Moment
    options: tuple[str, ...] = ()


FAULTS: dict[str, Kind] = {
    "drop_before": Kind(Moment.ARRIVAL),
    "redirect_307": Kind(Moment.ARRIVAL, ("location",)),
    # A proxy's page says nothing about the effect. With `with_effect` the request was executed, and the page hides it.
    "502_html": Kind(Moment.ARRIVAL, ("with_effect",)),
    "200_html": Kind(Moment.ARRIVAL, ("with_effect",)),
    "401": Kind(Moment.ACCESS),
    "403": Kind(Moment.ACCESS),
    "429_rate": Kind(Moment.LIMITER),
    "409_in_use": Kind(Moment.KEY),
    "latency": Kind(Moment.BEFORE, ("seconds",)),
    "hold_before": Kind(Moment.BEFORE, ("survives",)),
    "402_declined": Kind(Moment.INSTEAD),
    "500_saved": Kind(Moment.INSTEAD),
    "500_no_effect": Kind(Moment.INSTEAD),
    "429_lock_saved": Kind(Moment.INSTEAD),
    "424": Kind(Moment.INSTEAD),
    "500_with_effect": Kind(Moment.OVER, ("seconds",)),
    "drop_after_commit": Kind(Moment.AFTER),
    "latency_after": Kind(Moment.AFTER, ("seconds",)),
    "hold_after": Kind(Moment.AFTER),
    "truncate_body": Kind(Moment.AFTER),
    "drip_body": Kind(Moment.AFTER, ("seconds",)),
    "huge_body": Kind(Moment.AFTER, ("megabytes",)),
    "other_id": Kind(Moment.AFTER),
    "other_object": Kind(Moment.AFTER),
    "other_livemode": Kind(Moment.AFTER),
    "other_currency": Kind(Moment.AFTER),
    "other_amount": Kind(Moment.AFTER),
    "not_end_state": Kind(Moment.AFTER),
}

SECONDS_DEFAULT, SECONDS_MAX = 1.0, 3600
MEGABYTES_DEFAULT, MEGABYTES_MAX = 200, 10_000

# Printable and without spaces, so that it can be a header.
_URL = re.compile(r"https?://[!-~]+")
_METHODS = ("GET", "POST", "DELETE")

OPTIONS: dict[str, Reader] = {
    "seconds": fields.number(0, SECONDS_MAX),
    "megabytes": fields.whole(1, MEGABYTES_MAX),
    "location": fields.matching(_URL, "a whole URL"),
    "with_effect": fields.flag,
    "survives": fields.flag,
}


def _method(value: Any, name: str) -> Any:
    return fields.one_of(*_METHODS)(value.upper() if isinstance(value, str) else value, name)


def _pattern(value: Any, name: str) -> re.Pattern[str]:
    try:
        return re.compile(fields.text(value, name))
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"`{name}` is a regular expression: {error}") from error


_KIND = fields.one_of(*FAULTS)
_WHEN: dict[str, Reader] = {
    "method": _method,
    "path": _pattern,
    "key": _pattern,
    "nth": fields.whole(1, 10**9),
    "times": fields.whole(1, 10**9),
    "probability": fields.number(0, 1),
    "seed": fields.SEED,
}
_RULE = fields.table({"fault": _KIND, **OPTIONS, **_WHEN}, required=("fault",))
_HEADER = fields.table({"fault": _KIND, **{name: fields.written(reader) for name, reader in OPTIONS.items()}})


@dataclass
class Fault:
    """One fault, about to happen."""

    name: str
    seconds: float = SECONDS_DEFAULT
    megabytes: int = MEGABYTES_DEFAULT
    location: str | None = None
    with_effect: bool = False
    survives: bool = False  # if the client leaves while it is held: execute it all the same when it is released

    @property
    def moment(self) -> Moment:
        return Moment.AFTER if self.with_effect else FAULTS[self.name].moment


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
        """Count this request if it matches, and return whether the fault acts on it."""
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
        """Add rules as `read_rules` returns them."""
        rules = [_made(each, f"rule_{n}", self._seed) for n, each in enumerate(asked, self._numbered + 1)]
        self._numbered += len(rules)
        self.rules += rules
        return rules

    def clear(self) -> None:
        self.rules.clear()

    def fault_for(self, header: bytes | None, method: str, path: str, key: str | None) -> Fault | None:
        """The fault of this request, if any. Raises Refused for a header that cannot be read."""
        if header is not None:
            return _from_header(header.decode("latin-1"))
        for rule in self.rules:
            if rule.due(method, path, key):
                return rule.fault
        return None


def read_rules(value: Any, name: str) -> list[dict[str, Any]]:
    """One rule, or a list of them. Raises Refused for a rule that is wrong or could never act."""
    rules = [value] if not isinstance(value, list) else value
    return [_fitting(_RULE(each, f"[{n}]" if value is rules else name)) for n, each in enumerate(rules)]


def _from_header(header: str) -> Fault:
    name, *options = (part.strip() for part in header.split(";"))
    pairs = (option.partition("=")[::2] for option in options)
    return _fault(_fitting(_HEADER(fields.once([("fault", name), *pairs]), "")))


def _fitting(asked: dict[str, Any]) -> dict[str, Any]:
    """The same rule. Raises Refused if its fault does not take one of its options."""
    name, taken = asked["fault"], FAULTS[asked["fault"]].options
    for option in OPTIONS:
        if option in asked and option not in taken:
            raise Refused(f"{name} has no `{option}`: it takes {' and '.join(taken) or 'no options'}")
    if "location" in taken and "location" not in asked:
        raise Refused(f"{name} needs a `location`, a whole URL")
    return asked


def _fault(asked: Mapping[str, Any]) -> Fault:
    return Fault(asked["fault"], **{name: asked[name] for name in OPTIONS if name in asked})


def _made(asked: Mapping[str, Any], rule_id: str, seed: int | None) -> Rule:
    nth = asked.get("nth")
    return Rule(
        rule_id,
        _fault(asked),
        asked.get("method"),
        asked.get("path"),
        asked.get("key"),
        nth or 1,
        # `nth` alone means that one request; `times` changes that.
        asked.get("times", None if nth is None else 1),
        asked.get("probability", 1.0),
        random.Random(asked.get("seed", seed)),  # noqa: S311 - a repeatable run, not a secret
    )
