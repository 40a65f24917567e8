"""How long each class of evidence is kept, and why: a small file, checked when a process starts.

Every period is counted from the end of a day or of a year, in whole days, months or years, and never rounded down.
"""

import re
import tomllib
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from archive.errors import BadRetention

SHIPPED = Path(__file__).with_name("retention.toml")

CLASSES = {
    "attempt": "single provider calls and looks: effort, and evidence in a dispute",
    "capture": "the life of a capture, with its voids and refunds",
    "invoice": "the life of an invoice",
    "admin": "switches, and everything else that a person did",
}
"""An object is locked as a whole, so facts that are kept for different times are in different objects."""

MANIFEST = "manifest"
"""No class of facts; its table in the file says how long manifests are locked."""

MOST_DAYS = 100 * 366
"""S3 accepts at most 100 years."""

STANDARD = "STANDARD"
STORAGE = {STANDARD: 0, "STANDARD_IA": 30, "INTELLIGENT_TIERING": 1, "GLACIER_IR": 1}
"""S3's storage classes that return an object at once, and after how many days it may move there at the earliest. It
moves in this order only.
Source: docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""

_RESTORED = "must be restored for hours before a query or a verification can read it"
_ONE_PLACE = "is kept in a single place, and lost with it"
NO_STORAGE = {
    "GLACIER": _RESTORED,
    "DEEP_ARCHIVE": _RESTORED,
    "ONEZONE_IA": _ONE_PLACE,
    "EXPRESS_ONEZONE": _ONE_PLACE,
    "REDUCED_REDUNDANCY": "is kept with fewer copies than others",
}
"""Classes of S3 that are refused, and why: what is in one of them …"""

_EVERY_KIND_OF_DAY = [date(2024, 1, 1) + timedelta(days=n) for n in range(4 * 366)]
"""Four years have all of them, as far as the length of a period from there depends on it."""

_CONFIRM = "compliance_cannot_be_undone"
_OF_A_RULE = ("mode", "keep", "keep_days", "from", "storage", "transitions", "because", "name")


class Mode(StrEnum):
    """The names that S3 uses. Source: docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html."""

    GOVERNANCE = "GOVERNANCE"
    COMPLIANCE = "COMPLIANCE"


class From(StrEnum):
    """When a period begins: at the end of the UTC day on which it happened, or at the end of that day's year."""

    EVENT = "event"
    END_OF_YEAR = "end_of_year"


class Unit(StrEnum):
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


_MOST = {Unit.DAY: MOST_DAYS, Unit.MONTH: 1200, Unit.YEAR: 100}


@dataclass(frozen=True, slots=True)
class Lock:
    """A version with this lock cannot be deleted or overwritten before `until`."""

    mode: str
    until: datetime

    def holds(self, wanted: "Lock") -> bool:
        """Whether this lock is at least as strong and as long as `wanted`."""
        return self.until >= wanted.until and self.mode in {Mode.COMPLIANCE, wanted.mode}


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time as laws name it: `10 years`, `13 months`, `90 days`."""

    count: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.count} {self.unit}{'' if self.count == 1 else 's'}"

    def after(self, begin: date) -> date:
        """The first day after this period. If the month has no such day, the first of the next month: never less."""
        if self.unit is Unit.DAY:
            return begin + timedelta(days=self.count)
        month = begin.month - 1 + self.count * (12 if self.unit is Unit.YEAR else 1)
        year, month = begin.year + month // 12, month % 12 + 1
        if begin.day <= monthrange(year, month)[1]:
            return date(year, month, begin.day)
        return date(year + month // 12, month % 12 + 1, 1)

    @property
    def least_days(self) -> int:
        """The shortest that it can be, in days."""
        return _shortest_and_longest(self)[0]

    @property
    def most_days(self) -> int:
        """The longest that it can be, in days."""
        return _shortest_and_longest(self)[1]


@cache
def _shortest_and_longest(period: Period) -> tuple[int, int]:
    days = [(period.after(begin) - begin).days for begin in _EVERY_KIND_OF_DAY]
    return min(days), max(days)


@dataclass(frozen=True, slots=True)
class Transition:
    """After so many days in the bucket, an object moves to another of S3's storage classes."""

    days: int
    storage: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What the file says about one class.

    `storage`: the storage class of S3 that its objects get when they are written. `because`: the law or habit that asks
    for it.
    """

    mode: Mode
    keep: Period
    counted_from: From = From.EVENT
    transitions: tuple[Transition, ...] = ()
    because: str = ""
    name: str = ""
    storage: str = STANDARD

    @property
    def policy(self) -> str:
        """What disposal is reported under: its name in the file, or what it says."""
        begin = "the event" if self.counted_from is From.EVENT else "the end of its year"
        return self.name or f"{self.keep} from {begin}, {self.mode}"

    def until(self, day: date) -> datetime:
        """When the lock of what happened on that UTC day ends."""
        begin = day + timedelta(days=1) if self.counted_from is From.EVENT else date(day.year + 1, 1, 1)
        return datetime.combine(self.keep.after(begin), time(), UTC)

    @property
    def most_days(self) -> int:
        """How many days after it was written a lock has certainly ended."""
        return self.keep.most_days + (1 if self.counted_from is From.EVENT else 366)


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule for every class.

    `manifests`: a longer rule for manifests, if there is one. `grace_days`: how long after its lock has ended the
    bucket deletes an object. `bypass_role`: the one login at AWS that may go around a GOVERNANCE lock, to raise it.
    """

    rules: Mapping[str, Rule]
    manifests: Rule | None = None
    grace_days: int = 1
    bypass_role: str | None = None

    def lock(self, retention_class: str, event_date: date, today: date) -> Lock:
        """The lock of an object. It counts from `event_date`, or from `today` if the facts are archived late."""
        rule = self.rules[retention_class]
        return Lock(rule.mode, rule.until(max(event_date, today)))

    def manifest_lock(self, event_date: date, today: date) -> Lock:
        """The lock of a manifest: as long as the longest rule, in the strictest mode of any rule.

        Without the manifest nobody could see that an object is missing.
        """
        rules = [*self.rules.values(), *([self.manifests] if self.manifests else [])]
        strictest = Mode.COMPLIANCE if any(rule.mode is Mode.COMPLIANCE for rule in rules) else Mode.GOVERNANCE
        return Lock(strictest, max(rule.until(max(event_date, today)) for rule in rules))


def is_policy_name(words: str) -> bool:
    """At most 80 printable ASCII characters. It is printed by whoever reads a manifest."""
    return len(words) <= 80 and words.isascii() and words.isprintable()


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
    grace_days = content.pop("lifecycle_grace_days", 1)
    bypass_role = content.pop("bypass_role", None)
    if type(grace_days) is not int or not 1 <= grace_days <= 366:
        _refuse(f"{file}: lifecycle_grace_days must be a whole number from 1 to 366")
    if bypass_role is not None and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", str(bypass_role)):
        _refuse(f'{file}: bypass_role must be a role of AWS, as in "arn:aws:iam::123456789012:role/billing-raiser"')
    default = _rule(content, None, f"{file}: ")
    if not isinstance(classes, dict) or not all(isinstance(rule, dict) for rule in classes.values()):
        _refuse(f"{file}: a class is a table; write [class.capture]")
    for name in classes.keys() - CLASSES.keys() - {MANIFEST}:
        _refuse(f"{file}: [class.{name}] is no class; there are: {', '.join([*CLASSES, MANIFEST])}")
    rules = {name: _rule(classes.get(name, {}), default, f"{file}: [class.{name}] ") for name in CLASSES}
    manifests = None
    if MANIFEST in classes:
        manifests = _rule(classes[MANIFEST], default, f"{file}: [class.{MANIFEST}] ")
        _check_manifests(manifests, rules, f"{file}: [class.{MANIFEST}] ")
    wanted = [*rules.values(), *([manifests] if manifests else [])]
    if any(rule.mode is Mode.COMPLIANCE for rule in wanted) and confirmed is not True:
        _refuse(
            f"{file}: COMPLIANCE locks cannot be undone by anybody; write {_CONFIRM} = true at the top to want them"
        )
    return Policy(rules, manifests, grace_days, bypass_role)


def _check_manifests(manifests: Rule, rules: Mapping[str, Rule], where: str) -> None:
    """A manifest must outlive every object, whichever day it is of."""
    if manifests.transitions or manifests.storage != STANDARD:
        what = "transitions" if manifests.transitions else "storage"
        _refuse(f"{where}{what}: a manifest is read by every query, and stays in {STANDARD}")
    for name, rule in rules.items():
        if any(manifests.until(day) < rule.until(day) for day in _EVERY_KIND_OF_DAY):
            _refuse(f"{where}keep {manifests.keep} is shorter than [class.{name}], and a manifest outlives every class")


def _rule(content: dict[str, Any], default: Rule | None, where: str) -> Rule:
    for name in content.keys() - set(_OF_A_RULE):
        _refuse(f"{where}{name} is unknown; there are {', '.join(_OF_A_RULE)}")
    mode = content.get("mode", default and default.mode)
    if mode not in list(Mode):
        _refuse(f'{where}mode must be "GOVERNANCE" or "COMPLIANCE"')
    counted_from = content.get("from", default.counted_from if default else From.EVENT)
    if counted_from not in list(From):
        _refuse(f'{where}from must be "event" or "end_of_year"')
    because, name = (_words(content, key, default, where) for key in ("because", "name"))
    storage = _storage(content.get("storage", default.storage if default else STANDARD), f"{where}storage")
    rule = Rule(Mode(mode), _keep(content, default, where), From(counted_from), (), because, name, storage)
    if rule.most_days > MOST_DAYS + 1:
        _refuse(f"{where}keep {rule.keep} is longer than S3 can lock, which is 100 years with the rest of a year")
    if "transitions" in content:
        transitions = _transitions(content["transitions"], where)
    else:
        transitions = default.transitions if default else ()
    for each in transitions:
        if each.days >= rule.keep.least_days:
            _refuse(f"{where}transitions: {each.storage} after {each.days} days is not before the end, {rule.keep}")
    for before, after in pairwise((storage, *(each.storage for each in transitions))):
        if list(STORAGE).index(after) <= list(STORAGE).index(before):
            _refuse(f"{where}transitions: S3 moves nothing from {before} to {after}; the order is {', '.join(STORAGE)}")
    return replace(rule, transitions=transitions)


def _keep(content: dict[str, Any], default: Rule | None, where: str) -> Period:
    if "keep" in content and "keep_days" in content:
        _refuse(f"{where}keep and keep_days say the same; write one of them")
    if "keep_days" in content:
        days = content["keep_days"]
        if type(days) is not int or not 0 < days <= MOST_DAYS:
            _refuse(f"{where}keep_days must be a whole number from 1 to {MOST_DAYS}")
        return Period(days, Unit.DAY)
    if "keep" in content:
        return _period(content["keep"], f"{where}keep")
    if default is None:
        _refuse(f'{where}keep must say how long, as in keep = "10 years"')
    return default.keep


def _period(value: object, where: str) -> Period:
    found = re.fullmatch(r"([1-9][0-9]{0,4}) (day|month|year)s?", value) if isinstance(value, str) else None
    if found is None or int(found[1]) > _MOST[Unit(found[2])]:
        _refuse(f'{where} must be like "90 days", "13 months" or "10 years", and at most 100 years')
    return Period(int(found[1]), Unit(found[2]))


def _transitions(value: object, where: str) -> tuple[Transition, ...]:
    where = f"{where}transitions"
    if not isinstance(value, list) or not all(isinstance(each, list) and len(each) == 2 for each in value):
        _refuse(f'{where} must be like [["90 days", "GLACIER_IR"]]')
    found = tuple(Transition(_period(after, where).most_days, _storage(storage, where)) for after, storage in value)
    for each in found:
        if each.days < STORAGE[each.storage]:
            _refuse(f"{where}: S3 moves nothing to {each.storage} before {STORAGE[each.storage]} days")
    if any(later.days <= earlier.days for earlier, later in pairwise(found)):
        _refuse(f"{where} must be in the order of their days")
    return found


def _storage(value: object, where: str) -> str:
    if isinstance(value, str) and value in NO_STORAGE:
        _refuse(f"{where}: what is in {value} {NO_STORAGE[value]}; choose one of {', '.join(STORAGE)}")
    if not isinstance(value, str) or value not in STORAGE:
        _refuse(f"{where}: {value} is no storage class of S3 that is read at once; there are {', '.join(STORAGE)}")
    return value


def _words(content: dict[str, Any], key: str, default: Rule | None, where: str) -> str:
    words: object = content.get(key, getattr(default, key) if default else "")
    if not isinstance(words, str) or not is_policy_name(words):
        _refuse(f"{where}{key} must be a line of at most 80 ASCII characters")
    return words


def _refuse(problem: str) -> NoReturn:
    raise BadRetention(problem)
