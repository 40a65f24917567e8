"""Older API versions: what an object looked like before a change, oldest reader first to notice.

A request's `Stripe-Version`, or a webhook endpoint's `api_version`, chooses how objects are shown. A row of `CHANGES`
says what undoes one change; they are undone from the newest to the oldest one that the reader has not seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .books import Books
from .history import API_VERSION
from .objects import Json


class Change(NamedTuple):
    """Since version `since` the objects called `name` are without what `undo` puts back, in place."""

    since: str
    name: str
    undo: Callable[[Json, Books], None]


def _invoice_paid(shown: Json, books: Books) -> None:
    shown["paid"] = shown["status"] == "paid"


CHANGES = (
    # docs.stripe.com/changelog/basil/2025-03-31: an invoice may have several payments.
    Change("2025-03-31", "invoice", _invoice_paid),
)


def older(version: str, than: str = API_VERSION) -> bool:
    """Whether a version such as 2026-10-28.endive came before a date or another version."""
    return version[:10] < than[:10]


def as_of(told: Any, version: str, books: Books) -> None:
    """Show everything in an answer, or in a snapshot, as `version` knew it; in place."""
    undone = [change for change in CHANGES if older(version, change.since)]
    if undone:
        _undo(told, undone, books)


def _undo(told: Any, undone: list[Change], books: Books) -> None:
    if isinstance(told, list):
        for each in told:
            _undo(each, undone, books)
    elif isinstance(told, dict):
        for each in list(told.values()):
            if isinstance(each, dict | list):
                _undo(each, undone, books)
        for change in undone:
            if told.get("object") == change.name:
                change.undo(told, books)
