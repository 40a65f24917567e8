"""The fields in which an object at Stripe differs from what was asked, with what was expected and what was found.

Answers and looks are compared by the same function, and an operator reads its text: `total: expected 300, found 330`.
A value is shown only in the shape that `billing.excerpts` allows, so no reason can say anything about a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.excerpts import SHAPES

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as expected. `found` is a text: the value, if it has the listed shape, else its type."""

    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found}"


def differences(data: Mapping[str, Any], *, within: str = "", **expected: object) -> list[Difference]:
    """Every named field of `data` that has not exactly the expected value and type (True is not 1).

    `within` names an object inside `data`, such as `metadata`, in which the fields are looked for.
    """
    inner = data.get(within) if within else data
    fields = inner if isinstance(inner, Mapping) else {}
    return [
        Difference(f"{within}.{name}" if within else name, _text(value), _found(name, fields.get(name, _ABSENT)))
        for name, value in expected.items()
        if not _same(fields.get(name, _ABSENT), value)
    ]


def below(data: Mapping[str, Any], name: str, least: int) -> list[Difference]:
    """The difference, if this field is not a whole number of at least `least`."""
    value = data.get(name)
    enough = type(value) is int and value >= least
    return [] if enough else [Difference(name, f"at least {least}", _found(name, value))]


def listed(differing: Sequence[Difference]) -> str:
    """All of them in one line."""
    return "; ".join(map(str, differing))


def reason(code: str, differing: Sequence[Difference]) -> str:
    """A reason as it is stored and shown: a code of ours, and after a colon what differs."""
    return f"{code}: {listed(differing)}"


def _same(found: object, expected: object) -> bool:
    return type(found) is type(expected) and found == expected


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _found(name: str, value: object) -> str:
    if value is _ABSENT or value is None:
        return "nothing"
    return _text(value) if name in SHAPES and SHAPES[name](value) else f"an unlisted value ({type(value).__name__})"
