"""How long each class of evidence is kept, and why. `archive.policy.retention_file` reads it from a small file.

Every period is counted from the end of a day or of a year, in whole days, months or years, and never rounded down.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache

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

EVERY_KIND_OF_DAY = [date(2024, 1, 1) + timedelta(days=n) for n in range(4 * 366)]
"""Four years have all of them, as far as the length of a period from there depends on it."""


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
    days = [(period.after(begin) - begin).days for begin in EVERY_KIND_OF_DAY]
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
