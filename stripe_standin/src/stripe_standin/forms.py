"""What was sent: form bodies in bracket notation, and whether two of them are the same."""

from typing import Any
from urllib.parse import parse_qsl

from .errors import bad_request

DEPTH_MAX = 8  # `lines[0][metadata][op]` needs 4; deeper is an attack or a mistake
PAIRS_MAX = 20_000  # 250 lines with 50 metadata keys each need 13,000


def decode(raw: bytes) -> dict[str, Any]:
    """`a=1&b[c]=2&d[]=3` becomes {"a": "1", "b": {"c": "2"}, "d": {"0": "3"}}; everything stays a string.

    A list with `[]` gets the indexes of its order, so both spellings mean the same.
    Raises a 400 for bytes that are not UTF-8, for brackets that do not close, and for a name used in two ways.
    """
    form: dict[str, Any] = {}
    for name, value in pairs(raw):
        if "[" in name or "]" in name:
            _put(form, name, value)
        elif isinstance(form.get(name), dict):
            raise bad_request(f"Invalid request: {name} is both a value and a hash.", name)
        else:
            form[name] = value
    return form


def same(one: bytes, other: bytes) -> bool:
    """Whether two bodies ask for the same thing: equal bytes, or equal parameters in another order."""
    return one == other or decode(one) == decode(other)


def pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PAIRS_MAX)
    except UnicodeDecodeError as error:
        raise bad_request("Invalid request: the body is not URL-encoded UTF-8.") from error
    except ValueError as error:
        raise bad_request("Invalid request: too many parameters.") from error


def _put(form: dict[str, Any], name: str, value: str) -> None:
    place = form
    *above, last = _segments(name)
    for segment in above:
        if segment == "":
            segment = str(len(place))  # noqa: PLW2901
        below = place.setdefault(segment, {})
        if not isinstance(below, dict):
            raise bad_request(f"Invalid request: {name} is both a value and a hash.", name)
        place = below
    if last == "":
        last = str(len(place))
    elif isinstance(place.get(last), dict):
        raise bad_request(f"Invalid request: {name} is both a value and a hash.", name)
    place[last] = value


def _segments(name: str) -> list[str]:
    head, bracket, rest = name.partition("[")
    if not head or not bracket or not rest.endswith("]"):
        raise bad_request(f"Invalid request: cannot read the parameter name {name}.", name)
    segments = [head, *rest[:-1].split("][")]
    if len(segments) > DEPTH_MAX or any("[" in s or "]" in s for s in segments):
        raise bad_request(f"Invalid request: cannot read the parameter name {name}.", name)
    return segments
