"""Expansion: an id in an answer replaced by the object it names."""

from collections.abc import Callable, Iterable
from typing import Any

from .books import Books
from .objects import Json, Row, shown

# Where each expandable field's object is kept.
SHELVES: dict[str, Callable[[Books, str], Row | None]] = {
    "latest_charge": lambda books, named: books.charges.get(named),
    "payment_intent": lambda books, named: books.intents.get(named),
    "customer": lambda books, named: books.customers.get(named),
    "payment_method": lambda books, named: books.payment_methods.get(named),
}


def expand(answer: Json, fields: Iterable[str], books: Books) -> None:
    """Replace each field's id in place; `data.x` means x of every element. The routes' tables chose the fields."""
    for field in fields:
        name = field.removeprefix("data.")
        elements: list[Any] = answer["data"] if field.startswith("data.") else [answer]
        for element in elements:
            named = element.get(name)
            row = SHELVES[name](books, named) if isinstance(named, str) else None
            if row is not None:
                element[name] = shown(row)
