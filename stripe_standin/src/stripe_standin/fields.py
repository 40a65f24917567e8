"""Reads what the stand-in itself is asked: bodies and queries of /_standin, faults, options.

A reader takes a value and its name, and returns what it means, as in `parameters` for Stripe's forms. Values are JSON
here; those of a query, a header or an option are text (`written`). A field that is not in a table is refused by name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Reader = Callable[[Any, str], Any]

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,2})?")


class Refused(ValueError):
    """A wrong value or field. The caller gets its text."""


def table(readers: Mapping[str, Reader], required: tuple[str, ...] = ()) -> Reader:
    """A JSON object with these fields and no others; returns a dict of those that are given."""

    def reader(value: Any, name: str) -> dict[str, Any]:
        named = f"{name}." if name else ""
        for field in _object(value, name):
            if field not in readers:
                known = f"known are {', '.join(readers)}" if readers else "it takes no fields"
                raise Refused(f"there is no `{named}{field}`: {known}")
        for field in required:
            if field not in value:
                raise Refused(f"`{named}{field}` is missing")
        return {field: readers[field](each, f"{named}{field}") for field, each in value.items()}

    return reader


def mapping(key: Reader, content: Reader) -> Reader:
    """A JSON object with any keys."""

    def reader(value: Any, name: str) -> dict[Any, Any]:
        read = _object(value, name)
        return {key(each, f"{name}.{each}"): content(inner, f"{name}.{each}") for each, inner in read.items()}

    return reader


def list_of(item: Reader) -> Reader:
    def reader(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise Refused(f"`{name}` is a list")
        return [item(each, f"{name}[{n}]") for n, each in enumerate(value)]

    return reader


def or_null(inner: Reader) -> Reader:
    return lambda value, name: None if value is None else inner(value, name)


def text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(f"`{name}` is a text, and not empty")
    return value


def matching(pattern: re.Pattern[str], wanted: str) -> Reader:
    """A text that matches the whole pattern; `wanted` describes it in the refusal."""

    def reader(value: Any, name: str) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Refused(f"`{name}` is {wanted}")
        return value

    return reader


def one_of(*choices: str) -> Reader:
    def reader(value: Any, name: str) -> str:
        if value not in choices:
            raise Refused(f"`{name}` is one of {', '.join(choices)}")
        return str(value)

    return reader


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"`{name}` is true or false")
    return value


def number(least: float, most: float) -> Reader:
    return _between(least, most, "a number", int, float)


def whole(least: int, most: int) -> Reader:
    return _between(least, most, "a whole number", int)


def written(inner: Reader) -> Reader:
    """For a value that comes as text, numbers, true and false included."""

    def reader(value: Any, name: str) -> Any:
        if value in ("true", "false"):
            return inner(value == "true", name)
        if _WHOLE.fullmatch(value):
            return inner(int(value), name)
        return inner(float(value) if _NUMBER.fullmatch(value) else value, name)

    return reader


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs of a query or a header. Raises Refused if a name is there twice."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(f"`{name}` is there twice")
        found[name] = value
    return found


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{f'`{name}`' if name else 'what is asked'} is a JSON object")
    return value


def _between(least: float, most: float, what: str, *kinds: type) -> Reader:
    def reader(value: Any, name: str) -> Any:
        # In Python a bool is an int; here it is no number.
        if type(value) not in kinds or not least <= value <= most:
            raise Refused(f"`{name}` is {what} from {least:,} to {most:,}")
        return value

    return reader


SEED = whole(0, 2**63)
COUNT = whole(0, 2**53)  # a count of what has happened; every JSON reader can hold 2**53
