"""How long each class of evidence is locked: a small file, checked when a process starts."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from archive.errors import BadRetention

SHIPPED = Path(__file__).with_name("retention.toml")

CLASSES = {
    "attempt": "single provider calls and looks: effort, and evidence in a dispute",
    "capture": "the life of a capture",
    "invoice": "the life of an invoice",
    "admin": "switches, and whatever else a person did",
}
"""A class is locked and expires as a whole, so what is kept for another time lies in another object."""

MOST_DAYS = 100 * 366
"""S3 takes at most 100 years."""

_CONFIRM = "compliance_cannot_be_undone"


class Mode(StrEnum):
    """S3's words. Source: docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


@dataclass(frozen=True, slots=True)
class Lock:
    """No version under it can be deleted or overwritten before `until`."""

    mode: str
    until: datetime

    def holds(self, wanted: "Lock") -> bool:
        """At least as strong and as long as wanted."""
        return self.until >= wanted.until and self.mode in {Mode.COMPLIANCE, wanted.mode}


@dataclass(frozen=True, slots=True)
class Rule:
    mode: Mode
    keep_days: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule for every class."""

    rules: Mapping[str, Rule]

    def lock(self, retention_class: str, event_date: date, today: date) -> Lock:
        """For an object. Late evidence is kept as long after it was written as it would have been in time."""
        rule = self.rules[retention_class]
        return Lock(rule.mode, _end(max(event_date, today), rule.keep_days))

    def manifest_lock(self, event_date: date, today: date) -> Lock:
        """A manifest outlives every object that could be missed without it, in the strictest mode there is."""
        strictest = Mode.COMPLIANCE if any(r.mode is Mode.COMPLIANCE for r in self.rules.values()) else Mode.GOVERNANCE
        longest = max(rule.keep_days for rule in self.rules.values())
        return Lock(strictest, _end(max(event_date, today), longest))


def load(path: Path = SHIPPED) -> Policy:
    """The policy in this file. Raises BadRetention, in one line that says what to write."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRetention(f"{path}: {error.strerror}; BILLING_ARCHIVE_RETENTION names the retention file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRetention(f"{path}: not TOML ({error})") from None
    return _policy(told, path.name)


def _policy(told: dict[str, Any], file: str) -> Policy:
    classes = told.pop("class", {})
    confirmed = told.pop(_CONFIRM, False)
    default = _rule(told, None, f"{file}: ")
    if not isinstance(classes, dict) or not all(isinstance(rule, dict) for rule in classes.values()):
        _refuse(f"{file}: a class is a table; write [class.capture]")
    for name in classes.keys() - CLASSES.keys():
        _refuse(f"{file}: [class.{name}] is no class; there are: {', '.join(CLASSES)}")
    rules = {name: _rule(classes.get(name, {}), default, f"{file}: [class.{name}] ") for name in CLASSES}
    if any(rule.mode is Mode.COMPLIANCE for rule in rules.values()) and confirmed is not True:
        _refuse(
            f"{file}: COMPLIANCE locks cannot be undone by anybody; write {_CONFIRM} = true at the top to want them"
        )
    return Policy(rules)


def _rule(told: dict[str, Any], default: Rule | None, where: str) -> Rule:
    for name in told.keys() - {"mode", "keep_days"}:
        _refuse(f"{where}{name} is unknown; there are mode and keep_days")
    mode = told.get("mode", default and default.mode)
    keep_days = told.get("keep_days", default and default.keep_days)
    if mode not in list(Mode):
        _refuse(f'{where}mode must be "GOVERNANCE" or "COMPLIANCE"')
    if type(keep_days) is not int or not 0 < keep_days <= MOST_DAYS:
        _refuse(f"{where}keep_days must be a whole number from 1 to {MOST_DAYS}")
    return Rule(Mode(mode), keep_days)


def _end(day: date, keep_days: int) -> datetime:
    return datetime.combine(day + timedelta(days=1 + keep_days), time(), UTC)


def _refuse(problem: str) -> NoReturn:
    raise BadRetention(problem)
