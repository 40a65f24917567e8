"""The query language of search: clauses of a field, an operator and a value, joined by AND or by OR.

    email:"amy@example.com"               equal, ignoring case
    email~"amy"                           contains at least three characters; strings only
    amount>=1000                          numbers only
    -currency:"usd"                       not
    metadata["op"]:"7"   receipt_number:null   has no value

Source: docs.stripe.com/search, search query language.
"""

import operator
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from . import errors
from .objects import Json

CLAUSES_MAX = 10
SUBSTRING_MIN = 3

_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_CLAUSE = re.compile(
    rf"""(?P<negated>-)?
    (?P<field>\w+(?:\.\w+)*) (?:\[(?P<key>{_QUOTED})\])?
    (?P<operator>[:~]|[<>]=?)
    (?P<value>{_QUOTED}|-?[0-9]{{1,18}}|null)
    (?=\s|$)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
# Clauses with nothing between them are joined by AND.
_JOINT = re.compile(r"\s+(?:(and|or)\s+)?", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Kind(StrEnum):
    """What a field holds, which decides how it may be compared."""

    TOKEN = "token"  # noqa: S105 - Stripe's word for a text that is found as a whole only
    STRING = "string"
    NUMERIC = "numeric"


_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    ":": operator.eq,
    "~": operator.contains,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


TOKEN, STRING, NUMERIC = Kind

OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    TOKEN: (":",),
    STRING: (":", "~"),
    NUMERIC: (":", "<", ">", "<=", ">="),
}


class Field(NamedTuple):
    """A field that may be searched for; `read` gets it from the object as the API shows it."""

    kind: Kind
    read: Callable[[Json], Any]


def at(kind: Kind, *paths: str, **renamed: str) -> dict[str, Field]:
    """Fields whose name is a path, such as payment_method_details.card.last4, or differs from the object's."""
    named = dict(zip(paths, paths, strict=True)) | renamed
    return {name: Field(kind, _reader(path.split("."))) for name, path in named.items()}


class Clause(NamedTuple):
    field: Field
    key: str | None  # of metadata
    operator: str
    value: str | int | None  # None: the field has no value
    negated: bool

    def matches(self, shown: Json) -> bool:
        found = self.field.read(shown)
        if self.key is not None:
            found = found.get(self.key)
        if self.value is None or found is None:
            return (self.value is None and found in (None, "")) != self.negated
        if self.field.kind is not NUMERIC:
            # True and False are asked for as "true" and "false".
            found = str(found).casefold()
        return _COMPARED[self.operator](found, self.value) != self.negated


class Query(NamedTuple):
    clauses: tuple[Clause, ...]
    joined: Callable[..., bool]  # all or any

    def matches(self, shown: Json) -> bool:
        return self.joined(clause.matches(shown) for clause in self.clauses)


def parse(text: str, fields: Mapping[str, Field], things: str) -> Query:
    """Parse a query over `things`, such as payment_intents. Raises a 400 if it cannot be read."""
    clauses: list[Clause] = []
    joints: set[str] = set()
    text, place = text.strip(), 0
    while True:
        found = _CLAUSE.match(text, place)
        if found is None:
            raise errors.unreadable_query()
        clauses.append(_clause(found, fields, things))
        place = found.end()
        if place == len(text):
            break
        joint = _JOINT.match(text, place)
        assert joint is not None  # a clause ends at a blank
        joints.add((joint[1] or "and").lower())
        place = joint.end()
    if len(joints) > 1:
        raise errors.bad_request("A search query may combine its clauses with AND or with OR, not with both.", "query")
    if len(clauses) > CLAUSES_MAX:
        raise errors.bad_request(f"A search query may have at most {CLAUSES_MAX} clauses.", "query")
    return Query(tuple(clauses), any if "or" in joints else all)


def _clause(found: re.Match[str], fields: Mapping[str, Field], things: str) -> Clause:
    name, key = found["field"], found["key"]
    field = fields.get(name)
    if field is None:
        raise errors.unsearchable_field(name, things)
    if (name == "metadata") != (key is not None):
        raise errors.unreadable_query()
    value = _value(found["value"], field, name)
    asked = found["operator"]
    if asked not in OPERATORS[field.kind] or (value is None and asked != ":"):
        raise errors.bad_request(f"The field `{name}` cannot be searched with `{asked}`.", "query")
    if asked == "~" and len(str(value)) < SUBSTRING_MIN:
        raise errors.bad_request(f"A part of `{name}` has at least {SUBSTRING_MIN} characters.", "query")
    return Clause(field, None if key is None else _unquoted(key), asked, value, found["negated"] is not None)


def _value(written: str, field: Field, name: str) -> str | int | None:
    if written.lower() == "null":
        return None
    text = _unquoted(written)
    if field.kind is not NUMERIC:
        return text.casefold()
    if not _NUMBER.fullmatch(text):
        raise errors.bad_request(f"The field `{name}` is a number.", "query")
    return int(text)


def _reader(steps: list[str]) -> Callable[[Json], Any]:
    def read(node: Any) -> Any:
        for step in steps:
            node = node.get(step) if node is not None else None
        return node

    return read


def _unquoted(written: str) -> str:
    """Quotes are optional around a number; a backslash keeps a quote inside."""
    return re.sub(r"\\(.)", r"\1", written[1:-1], flags=re.DOTALL) if written[0] in "\"'" else written
