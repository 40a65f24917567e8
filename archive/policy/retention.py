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
    "admin": "switches, and everything else that a person did",
}
"""An object is locked as a whole, so facts that are kept for different times are in different objects."""

MOST_DAYS = 100 * 366
"""S3 accepts at most 100 years."""

_CONFIRM = "compliance_cannot_be_undone"


class Mode(StrEnum):
    """The names that S3 uses. Source: docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


@dataclass(frozen=True, slots=True)
class Lock:
    """A version with this lock cannot be deleted or overwritten before `until`."""

    mode: str
    until: datetime

    def holds(self, wanted: "Lock") -> bool:
        """Whether this lock is at least as strong and as long as `wanted`."""
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
        """The lock of an object. It counts from `event_date`, or from `today` if the facts are archived late."""
        rule = self.rules[retention_class]
        return Lock(rule.mode, _end(max(event_date, today), rule.keep_days))

    def manifest_lock(self, event_date: date, today: date) -> Lock:
        """The lock of a manifest: as long as the longest rule, in the strictest mode of any rule.

        Without the manifest nobody could see that an object is missing.
        """
        strictest = Mode.COMPLIANCE if any(r.mode is Mode.COMPLIANCE for r in self.rules.values()) else Mode.GOVERNANCE
        longest = max(rule.keep_days for rule in self.rules.values())
        return Lock(strictest, _end(max(event_date, today), longest))


def load(path: Path = SHIPPED) -> Policy:
    """Read the policy from this file. Raises BadRetention, whose one line says what to write."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRetention(f"{path}: {error.strerror}; BILLING_ARCHIVE_RETENTION names the retention file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRetention(f"{path}: not TOML ({error})") from None
    return _policy(content, path.name)


def _policy(content: dict[str, Any], file: str) -> Policy:
    classes = content.pop("class", {})
    confirmed = content.pop(_CONFIRM, False)
    default = _rule(content, None, f"{file}: ")
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


def _rule(content: dict[str, Any], default: Rule | None, where: str) -> Rule:
    for name in content.keys() - {"mode", "keep_days"}:
        _refuse(f"{where}{name} is unknown; there are mode and keep_days")
    mode = content.get("mode", default and default.mode)
    keep_days = content.get("keep_days", default and default.keep_days)
    if mode not in list(Mode):
        _refuse(f'{where}mode must be "GOVERNANCE" or "COMPLIANCE"')
    if type(keep_days) is not int or not 0 < keep_days <= MOST_DAYS:
        _refuse(f"{where}keep_days must be a whole number from 1 to {MOST_DAYS}")
    return Rule(Mode(mode), keep_days)


def _end(day: date, keep_days: int) -> datetime:
    return datetime.combine(day + timedelta(days=1 + keep_days), time(), UTC)


def _refuse(problem: str) -> NoReturn:
    raise BadRetention(problem)
