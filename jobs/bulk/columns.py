"""The columns of a kind's file, and what a row asks for: made of the function that requests one, so that a kind is a
row in `billing.many.MOVABLE` and nothing else.

A text, a whole number and an amount are columns. So are the fields of an argument that holds only what may be left out,
such as the terms of a capture; one that needs several values at once, such as an authorization, is none. Where a field
maps keys to texts, each key is a column: `metadata.order`. An amount may have its currency beside it, in the column
`currency`, which serves all amounts of a row.

What does not fit into cells is read by a function of its own (`NESTED`): an invoice has lines.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from billing import Money
from billing.cards import may_hold_card_number
from billing.errors import InvalidRequest
from billing.many import Movable
from jobs.bulk import invoices
from jobs.bulk.amounts import read_amount
from jobs.bulk.problems import Problem
from jobs.bulk.rows import BadRow, Columns, Row, Spelled

CURRENCY = "currency"
_OTHERS = {"amount_minor": "amount", "minor": "amount", "pi": "payment_intent", "payment_intent_id": "payment_intent"}
_NOT_OF_A_ROW = {"session", "actor", "return"}
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one row asks for: the arguments of the kind's function. `amount` is None where its kind has none, or where
    all that is left is meant. `named`: it has a request id of its own."""

    line: int
    arguments: Mapping[str, Any]
    amount: Money | None
    named: bool
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Nested:
    """A kind whose rows hold more than cells. `arguments_of` says what one asks for, and what it comes to, if that is
    known; it raises InvalidRequest with the path of what is wrong."""

    fields: Sequence[str]
    needed: Sequence[str]
    arguments_of: Callable[[Mapping[str, Any]], tuple[dict[str, Any], Money | None]]


NESTED: Mapping[str, Nested] = {
    "invoice": Nested(invoices.FIELDS_OF_A_ROW, ("customer", "lines", "request_id"), invoices.arguments_of)
}


@cache
def columns_of(movable: Movable) -> Columns:
    """What a file of this kind may hold, and what it must."""
    if (nested := NESTED.get(movable.kind)) is not None:
        return Columns(nested.fields, nested.needed, {}, nested=True)
    names = [name for name, place in _places(movable).items() if place.kind is not Mapping]
    keyed = [name for name, place in _places(movable).items() if place.kind is Mapping]
    amounts = [name for name, place in _places(movable).items() if place.kind is Money]
    if amounts:
        names.insert(names.index(amounts[0]) + 1, CURRENCY)
    return Columns(names, _needed(movable), {other: name for other, name in _OTHERS.items() if name in names}, keyed)


def asked_by(row: Row | BadRow, movable: Movable, bulk: str, account: str | None) -> Asked | list[Problem]:
    """What a row asks for, or all that is wrong with its cells. What the rules say of the values is asked later."""
    if isinstance(row, BadRow):
        return [Problem(row.line, "", row.why)]
    if (nested := NESTED.get(movable.kind)) is not None:
        return _asked_by_nested(row, nested, account)
    places, problems = _places(movable), []
    arguments: dict[str, Any] = {} if account is None else {"account": account}
    parts: dict[str, dict[str, Any]] = {}
    for name, cell in row.cells.items():
        if name == "":
            problems.append(Problem(row.line, "", "has a cell in a column without a name"))
        elif name != CURRENCY:
            column, _, key = name.partition(".")
            place = places[column]
            try:
                value = _value(name, cell, place.kind, row.cells.get(CURRENCY))
            except InvalidRequest as error:
                problems.append(Problem(row.line, error.subject, error.problem))
                continue
            into = arguments if place.field is None else parts.setdefault(place.argument, {})
            if key:
                into.setdefault(column, {})[key] = value
            else:
                into[column] = value
    problems += [Problem(row.line, name, "is missing") for name in _needed(movable) if name not in row.cells]
    if CURRENCY in row.cells and not any(name in places and places[name].kind is Money for name in row.cells):
        problems.append(Problem(row.line, CURRENCY, "stands there without an amount"))
    for argument, fields in parts.items():
        try:
            arguments[argument] = _hints(movable)[argument](**fields)
        except InvalidRequest as error:
            problems.append(Problem(row.line, error.subject, error.problem))
    if problems:
        return problems
    named = "request_id" in arguments
    if not named and movable.once is not None and movable.once(arguments) is None:
        # A made-up name holds the bulk and the line; a corrected file has others, and would ask for the part again.
        why = "is missing; a row that leaves room for another of its payment needs its own"
        return [Problem(row.line, "request_id", why)]
    arguments.setdefault("request_id", f"{bulk}:{row.line}")
    return Asked(row.line, arguments, arguments.get("amount"), named, _remark(arguments))


def _asked_by_nested(row: Row, nested: Nested, account: str | None) -> Asked | list[Problem]:
    try:
        arguments, amount = nested.arguments_of({name: _unspelled(cell) for name, cell in row.cells.items()})
    except InvalidRequest as error:
        return [Problem(row.line, error.subject, error.problem)]
    if account is not None:
        arguments.setdefault("account", account)
    return Asked(row.line, arguments, amount, named=True, remark=_remark(arguments))


def _unspelled(value: object) -> object:
    """With decimals for the numbers that are not whole."""
    match value:
        case Spelled():
            return Decimal(value)
        case dict():
            return {name: _unspelled(each) for name, each in value.items()}
        case list():
            return [_unspelled(each) for each in value]
    return value


def _value(name: str, cell: object, kind: type, currency: object) -> Any:
    if kind is Money:
        return read_amount(cell, currency, name)
    if kind is int:
        if isinstance(cell, int) and not isinstance(cell, bool):
            return cell
        if isinstance(cell, str) and _WHOLE.fullmatch(cell):
            return int(cell)
        raise InvalidRequest(name, "must be a whole number")
    if not isinstance(cell, str) or isinstance(cell, Spelled):
        raise InvalidRequest(name, 'must be text; write it with " around it')
    return cell


def _remark(arguments: Mapping[str, Any]) -> str | None:
    """As `billing.PossibleCardNumber`, which names no line."""
    for name in ("request_id", "correlation_id"):
        if may_hold_card_number(arguments.get(name, "")):
            return f"{name} may be a card number by its digits; if it is one, do not ask for this row"
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the value of a column goes: into an argument, or with `field` into a field of it."""

    kind: type
    argument: str
    field: str | None = None


@cache
def _hints(movable: Movable) -> Mapping[str, Any]:
    return typing.get_type_hints(movable.request)


@cache
def _places(movable: Movable) -> Mapping[str, _Place]:
    """By the name of the column, in the order of the function's parameters."""
    places: dict[str, _Place] = {}
    for name, hint in _hints(movable).items():
        if name in _NOT_OF_A_ROW:
            continue
        if (kind := _simple(hint)) is not None:
            places[name] = _Place(kind, name)
        elif dataclasses.is_dataclass(hint) and all(each.default is None for each in dataclasses.fields(hint)):
            fields = {field: _simple(of) for field, of in typing.get_type_hints(hint).items()}
            places |= {field: _Place(kind, name, field) for field, kind in fields.items() if kind is not None}
    return places


@cache
def _needed(movable: Movable) -> Sequence[str]:
    parameters = inspect.signature(movable.request).parameters
    needed = [
        name for name in _places(movable) if name in parameters and parameters[name].default is inspect.Parameter.empty
    ]
    return [name for name in needed if name != "request_id" or movable.once is None]


def _simple(hint: Any) -> type | None:
    """The one type of a column that a hint stands for, or `Mapping` where each of its keys is one; None where it is
    none."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = {_simple(each) for each in typing.get_args(hint) if each is not type(None)}
        return kinds.pop() if len(kinds) == 1 else None
    if typing.get_origin(hint) is Literal:
        return str
    if typing.get_origin(hint) is Mapping and typing.get_args(hint) == (str, str):
        return Mapping
    if isinstance(hint, type) and issubclass(hint, str):
        return str
    return hint if hint in (int, Money) else None
