"""What a query can be asked for: one table of parameters, and how their texts are read.

Ranges are half-open: `since` is included, `until` is not. A day begins at local midnight in the zone `tz`, so a day on
which clocks change has 23 or 25 hours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from archive.errors import BadQuestion
from archive.format import allowed
from billing.shapes import Shape, like

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)
_MOST_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """`read` makes the value that the SQL gets, and raises ValueError, whose message says what to write.

    `default` is the value if the parameter is not given; None is NULL in the SQL.
    """

    name: str
    meaning: str
    example: str
    read: Callable[[str, ZoneInfo], Any]
    default: Any = None


def zone_of(name: str) -> ZoneInfo:
    """Raises BadQuestion if there is no such time zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadQuestion(f"--tz {name!r} is no time zone; write one like Europe/Berlin, or UTC") from None


def moment(text: str, zone: ZoneInfo) -> datetime:
    """In UTC. A day is its first moment in this zone, and a time without an offset is local. Raises ValueError."""
    try:
        try:
            # Where clocks are put forward at midnight, this is the moment at which they are.
            return datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
        except ValueError:
            given = datetime.fromisoformat(text)
        if given.tzinfo is not None:
            return given.astimezone(UTC)
        local = given.replace(tzinfo=zone)
        exact = local.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time; write 2026-11-25, 2026-11-25T10:00 or 2026-11-25T10:00:00Z") from None
    if exact.astimezone(zone).replace(tzinfo=None) != given:
        raise ValueError(f"does not exist in {zone.key}, where clocks are put forward; write it with its offset")
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        raise ValueError(f"happens twice in {zone.key}, where clocks are put back; write it with its offset")
    return exact


def _shaped(shape: Shape) -> Callable[[str, ZoneInfo], Any]:
    def read(text: str, _: ZoneInfo) -> str:
        if not shape(text):
            raise ValueError("does not look like one")
        return text

    return read


def _whole(most: int) -> Callable[[str, ZoneInfo], Any]:
    def read(text: str, _: ZoneInfo) -> int:
        if not re.fullmatch("[0-9]{1,18}", text, re.ASCII) or not 1 <= int(text) <= most:
            raise ValueError(f"is not a whole number from 1 to {most}")
        return int(text)

    return read


def _of_a_fact(key: str, meaning: str, example: str) -> Parameter:
    """It has the shape that the archive allows for this key of a payload."""
    return Parameter(key, meaning, example, _shaped(allowed.PAYLOAD[key]))


PARAMETERS: Mapping[str, Parameter] = {
    each.name: each
    for each in (
        Parameter("since", "the first moment; a day means its first moment in `tz`", "2026-11-01", moment, BEGINNING),
        Parameter("until", "the first moment that is not meant any more", "2026-12-01", moment, END),
        Parameter("tz", "the time zone of days and times", "Europe/Berlin", lambda text, _: text, "UTC"),
        _of_a_fact("account", "a Stripe account, or `own`", "acct_1"),
        Parameter("actor", "a person or a service", "shell:anna", _shaped(like(r"[a-z][a-z0-9_.:-]{0,63}"))),
        _of_a_fact("currency", "a currency", "EUR"),
        _of_a_fact("customer", "a customer, by Stripe's id", "cus_1"),
        Parameter(
            "entity_id", "a capture, invoice or switch, by our id", "cap_1", _shaped(like("[a-z_]+_[A-Za-z0-9]+"))
        ),
        _of_a_fact("payment_intent", "a payment, by the id of its PaymentIntent", "pi_1"),
        _of_a_fact("stripe_invoice", "an invoice, by Stripe's id", "in_1"),
        Parameter("days", "a number of days", "30", _whole(36_600), 30),
        Parameter("limit", "how many rows at most", "20", _whole(_MOST_ROWS), 20),
    )
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A parameter that a query takes."""

    parameter: Parameter
    required: bool

    def __str__(self) -> str:
        return f"{self.parameter.name}{' required' if self.required else ''}"


@dataclass(frozen=True, slots=True)
class Values:
    """What a query is asked. `given`: the texts, as they were given. `of_sql`: what `$name` is in the SQL."""

    given: Mapping[str, str]
    of_sql: Mapping[str, Any]
    zone: str
    since: datetime | None
    until: datetime | None


def values(wanted: Sequence[Wanted], given: Mapping[str, str], asked_at: datetime) -> Values:
    """Raises BadQuestion, in one line, if a parameter is unknown, missing, or not of its form."""
    takes = {each.parameter.name: each.parameter for each in wanted}
    if unknown := sorted(given.keys() - takes.keys() - {"tz"}):
        raise BadQuestion(f"there is no parameter {unknown[0]} here; it takes: {', '.join(takes) or 'none'}")
    if missing := [each.parameter.name for each in wanted if each.required and each.parameter.name not in given]:
        raise BadQuestion(f"it needs {missing[0]}; write --set {missing[0]}={PARAMETERS[missing[0]].example}")
    zone = zone_of(given.get("tz", "UTC"))
    of_sql = {name: parameter.default for name, parameter in takes.items()}
    for name, text in given.items():
        try:
            of_sql[name] = PARAMETERS[name].read(text, zone)
        except ValueError as error:
            raise BadQuestion(f"{option(name)} {text!r} {error}; for example {PARAMETERS[name].example}") from None
    first, end = of_sql.get("since", BEGINNING), of_sql.get("until", END)
    if first >= end:
        raise BadQuestion(f"--since {first.isoformat()} is not before --until {end.isoformat()}")
    # Of what is open or in doubt "now" is the end of the range, if that is given.
    of_sql |= {"as_of": end if "until" in given else asked_at, "tz": zone.key}
    return Values(dict(given), of_sql, zone.key, first if "since" in given else None, end if "until" in given else None)


def option(name: str) -> str:
    """How a parameter is given to the command."""
    return f"--{name}" if name in ("since", "until", "tz") else f"--set {name}="
