"""Whether two tables hold the same facts, although different versions of the service may have written them.

One version may begin a batch and another finish it, and facts are compared with their rows in the bucket for years. A
newer version archives more of a payload, and is more or less strict about what it shows.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from archive.format import records
from archive.format.records import Rows

_CAME_LATER = frozenset(
    {
        *("about", "account", "authorized_minor", "captured", "command", "count", "expires_at", "per_hour"),
        *("request_digest", "scope"),
    }
)
"""Keys that some version of the service does not archive, or only in fewer shapes."""


def same(theirs: Rows, ours: Rows) -> bool:
    """Whether both hold the same facts. One of them may leave out an actor or a correlation id, and theirs what older
    versions do not archive of a payload."""
    try:
        return theirs.num_rows == ours.num_rows and all(
            theirs.column(name).equals(ours.column(name)) or (name in _AGREE and _AGREE[name](theirs, ours, name))
            for name in records.SCHEMA.names
        )
    except ValueError:
        return False  # a payload is no JSON object


def _if_both_show_it(theirs: Rows, ours: Rows, name: str) -> bool:
    return all(one == other or None in (one, other) for one, other in _pairs(theirs, ours, name))


def _but_for_what_came_later(theirs: Rows, ours: Rows, name: str) -> bool:
    return all(one == other or _only_more(one, other) for one, other in _pairs(theirs, ours, name))


def _only_more(one: str, other: str) -> bool:
    """Whether the other has the same payload, and at most more keys that an older version does not archive."""
    first, second = records.read_payload(one), records.read_payload(other)
    return (
        first.keys() <= second.keys()
        and second.keys() - first.keys() <= _CAME_LATER
        and all(first[key] == second[key] for key in first)
    )


def _as_its_payload_says(theirs: Rows, ours: Rows, name: str) -> bool:
    """The payloads may differ in this key, and are compared themselves."""
    return bool(theirs.column(name).to_pylist() == records.copied(theirs, name))


def _pairs(theirs: Rows, ours: Rows, name: str) -> Iterable[tuple[Any, Any]]:
    return zip(theirs.column(name).to_pylist(), ours.column(name).to_pylist(), strict=True)


Agreement: TypeAlias = Callable[[Rows, Rows, str], bool]
_AGREE: Mapping[str, Agreement] = {
    "account": _as_its_payload_says,
    "actor": _if_both_show_it,
    "correlation_id": _if_both_show_it,
    "payload": _but_for_what_came_later,
}
"""The columns of which one version may archive less than another, with how two of them are compared."""
