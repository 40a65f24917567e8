"""The vocabulary of what is asked of the stand-in itself: /_standin's bodies and queries, faults, options.

A reader is given a value and its name, and returns what it means, as in `parameters` for Stripe's forms. Values come as
JSON here; those of a query, a header or an option are `written`. What is not in a table is refused by its name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Reader = Callable[[Any, str], Any]

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,2})?")


class Refused(ValueError):
    """What was asked cannot be. Its text is shown to whoever asked."""


def table(readers: Mapping[str, Reader], required: tuple[str, ...] = ()) -> Reader:
    """An object that has these fields and no others, as a dict of those that are there."""

    def reader(value: Any, name: str) -> dict[str, Any]:
        named = f"{name}." if name else ""
        for field in _object(value, name):
            if field not in readers:
                known = f"known are {', '.join(readers)}" if readers else "nothing can be said here"
                raise Refused(f"there is no `{named}{field}`: {known}")
        for field in required:
            if field not in value:
                raise Refused(f"`{named}{field}` is missing")
        return {field: readers[field](each, f"{named}{field}") for field, each in value.items()}

    return reader


def mapping(key: Reader, content: Reader) -> Reader:
    """An object whose keys are not known before."""

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
    """A text that the whole of the pattern matches; `wanted` says in words what that is."""

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
    """The value was written as text: numbers are spelt out, and so are true and false."""

    def reader(value: Any, name: str) -> Any:
        if value in ("true", "false"):
            return inner(value == "true", name)
        if _WHOLE.fullmatch(value):
            return inner(int(value), name)
        return inner(float(value) if _NUMBER.fullmatch(value) else value, name)

    return reader


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs of a query or a header; none may be there twice."""
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
        # A bool is an int in Python, and no number here.
        if type(value) not in kinds or not least <= value <= most:
            raise Refused(f"`{name}` is {what} from {least:,} to {most:,}")
        return value

    return reader


SEED = whole(0, 2**63)
COUNT = whole(0, 2**53)  # of what happened so far, and as much as every JSON reader can hold
