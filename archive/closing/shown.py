"""How the values of the books are written for people, on the page and in the PDF alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from archive.closing.books import Books
from archive.queries import Answer, formats
from billing.currencies import CURRENCIES

WITH_STRIPE = (
    "What was captured here in this month, and what Stripe's own ledger dates into it. At its ends a payment may fall "
    "into two months: the two clocks differ, and an outcome that was in doubt is dated here when it was learned."
)
MOST_ROWS = 60
"""Rows of a part on paper. All are in its CSV."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One table. `numbers` are the places of the columns that are aligned to the right. `more`: rows left out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int]
    more: int = 0


def money(minor: int, currency: str) -> str:
    """1,234.50 EUR. Minor units where the currency is none that Stripe knows."""
    known = CURRENCIES.get(currency)
    if known is None:
        return f"{minor:,} minor units of {currency}"
    return f"{Decimal(minor).scaleb(-known.decimals):,} {currency}"


def amounts(captured: Mapping[str, int]) -> str:
    return "; ".join(money(minor, currency) for currency, minor in sorted(captured.items())) or "no money"


def of_answer(answer: Answer) -> Shown:
    """Its first rows. Amounts stand with their decimals, instead of in minor units."""
    columns, rows = formats.with_decimals(answer)
    kept = [
        place
        for place, column in enumerate(columns)
        if not (column.type == "money" and any(value is not None for value in _beside(answer, column.name)))
    ]
    taken = [[_cell(row[place]) for place in kept] for _, row in zip(range(MOST_ROWS), rows, strict=False)]
    numbers = {n for n, place in enumerate(kept) if columns[place].type in ("int", "money", "number")}
    names = [columns[place].name.replace("_", " ") for place in kept]
    return Shown(names, taken, frozenset(numbers), max(0, answer.table.num_rows - MOST_ROWS))


def _beside(answer: Answer, money_column: str) -> Iterator[Any]:
    """The decimals that stand beside a column of money: none if its currency is unknown in every row."""
    columns, rows = formats.with_decimals(answer)
    place = next(n for n, column in enumerate(columns) if column.name == money_column)
    return (row[place + 1] for row in rows)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case Decimal():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case _:
            return str(value).replace("+00:00", " UTC").replace("T", " ") if _is_time(str(value)) else str(value)


def _is_time(text: str) -> bool:
    return text[4:5] == text[7:8] == "-" and text[10:11] == "T" and text[:4].isdigit()


def reconciled(books: Books) -> Shown:
    """Both sides of the month: facts by class, and captured money by currency."""
    observed = books.closed.observed
    ours, theirs = observed["postgres"], observed["archive"]
    rows = [
        [f"facts: {name}", f"{ours['facts'].get(name, 0):,}", f"{count:,}"]
        for name, count in sorted(theirs["facts"].items())
    ]
    rows += [
        [f"captured: {currency}", money(ours["captured"].get(currency, 0), currency), money(minor, currency)]
        for currency, minor in sorted(theirs["captured"].items())
    ]
    return Shown(["", "Postgres", "archive"], rows, frozenset({1, 2}))


def with_stripe(books: Books) -> Shown:
    """By currency, what the archive says was captured, and Stripe's ledger, with its fees."""
    found = books.at_stripe or {}
    theirs = found.get("captured", {})
    rows = [
        [
            currency,
            *(money(side.get(currency, 0), currency) for side in (books.captured, theirs)),
            *_cost(found, currency),
        ]
        for currency in sorted({*books.captured, *theirs})
    ]
    return Shown(["", "captured here", "in Stripe's ledger", "fees", "net"], rows, frozenset({1, 2, 3, 4}))


def _cost(found: Mapping[str, Any], currency: str) -> Iterator[str]:
    return (money(found[name].get(currency, 0), currency) for name in ("fees", "net"))


def what_differs(books: Books) -> str:
    """Whether anything was open between us and Stripe, in a sentence."""
    found = books.at_stripe or {}
    open_ = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in found.get("open", {}).items())
    differs = f"open differences: {open_}" if open_ else "no difference is open"
    return f"Compared until {found.get('compared_until')} UTC; {differs}."


def heads(books: Books) -> Shown:
    """How far the archive was, by class."""
    rows = [[name, f"{number:,}", digest] for name, (number, digest) in sorted(books.closed.heads.items())]
    return Shown(["class", "newest manifest", "its digest"], rows, frozenset({1}))


def quarantine(books: Books) -> Shown:
    """Work that nobody had decided yet, with its owner."""
    rows = [[each["id"], each["since"], each["reason"], each["owner"] or "nobody"] for each in books.assignees]
    return Shown(["payment or invoice", "in quarantine since", "reason", "owner"], rows, frozenset())
