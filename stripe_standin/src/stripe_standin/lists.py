"""Pages of a list: newest first, with Stripe's cursors and bounds on `created`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from . import errors
from .books import R, Shelf
from .objects import Json, as_list, shown

T = TypeVar("T")

LIMIT_DEFAULT, LIMIT_MAX = 10, 100

# Parameters whose field of a row has another name.
FIELDS = {"payment_intent": "intent"}


def page(
    shelf: Shelf[R],
    params: dict[str, Any],
    url: str,
    *equal: str,
    where: Callable[[R], bool] = lambda row: True,
    render: Callable[[Any], Json] = shown,
) -> Json:
    """One page of the rows that match. An unknown cursor is a 400, as at Stripe.

    `equal` names parameters that a row's own field must equal, if they are given; `where` is any other condition.
    """
    wanted = [(FIELDS.get(name, name), params[name]) for name in equal if params.get(name) is not None]

    def matches(row: R) -> bool:
        return all(getattr(row, name) == value for name, value in wanted) and where(row)

    limit = limit_of(params)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise errors.bad_request("Give starting_after or ending_before, not both.", "ending_before")
    for param, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and shelf.get(cursor) is None:
            raise errors.no_such(shelf.noun, cursor, param, status=400)
    rows: Iterable[R] = shelf.oldest_first(before) if before else shelf.newest_first(after)
    found, more = _take(rows, limit, params.get("created") or {}, matches, newest_first=not before)
    if before:
        found.reverse()
    return as_list([render(row) for row in found], more, url)


def part(
    rows: Sequence[T],
    params: dict[str, Any],
    url: str,
    render: Callable[[T], Json],
    id_of: Callable[[T], str],
    noun: str,
) -> Json:
    """One page of rows that belong to one object, in their own order. An unknown cursor is a 400."""
    after, before = params.get("starting_after"), params.get("ending_before")
    limit = limit_of(params)
    places = {id_of(row): place for place, row in enumerate(rows)}
    for param, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and cursor not in places:
            raise errors.no_such(noun, cursor, param, status=400)
    if before:
        rows = rows[: places[before]]
        found, more = rows[-limit:], len(rows) > limit
    else:
        rows = rows[places[after] + 1 if after else 0 :]
        found, more = rows[:limit], len(rows) > limit
    return as_list([render(row) for row in found], more, url)


def limit_of(params: dict[str, Any]) -> int:
    limit: int = params.get("limit", LIMIT_DEFAULT)
    if not 1 <= limit <= LIMIT_MAX:
        raise errors.bad_request(f"Invalid limit: must be from 1 to {LIMIT_MAX}.", "limit", "parameter_invalid_integer")
    return limit


def bounds(moment: dict[str, int] | None) -> tuple[int, int]:
    """The first and the last second that a parameter such as `created` allows."""
    asked = moment or {}
    first = max(asked.get("gte", 0), asked.get("gt", -1) + 1)
    return first, min(asked.get("lte", 1 << 62), asked.get("lt", 1 << 62) - 1)


def _take(
    rows: Iterable[R], limit: int, created: dict[str, int], matches: Callable[[R], bool], *, newest_first: bool
) -> tuple[list[R], bool]:
    """Up to `limit` rows, and whether there are more."""
    first, last = bounds(created)
    found: list[R] = []
    for row in rows:
        if first <= row.created <= last and matches(row):
            if len(found) == limit:
                return found, True
            found.append(row)
        elif row.created < first and newest_first:
            # The clock never goes back, so all rows after this one are older.
            break
    return found, False
