"""Amounts as they are written on a command line: whole minor units, and a currency."""

import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from billing import Money


def is_whole(text: str) -> bool:
    """Whether this can be read as a whole number, and is no longer than any amount could be."""
    return re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) is not None


def minor_units(text: str) -> int:
    """For Typer, which puts the parameter's name before an error."""
    if not is_whole(text):
        raise typer.BadParameter("is in minor units, a whole number of up to 12 digits: 1999 is 19.99 USD")
    return int(text)


def money(minor: int, currency: str, *, amount_as: str = "--amount", currency_as: str = "--currency") -> "Money":
    """The amount. An error names the option as the operator wrote it."""
    from billing import Money
    from billing.errors import InvalidAmount, InvalidCurrency

    try:
        return Money(minor, currency)
    except (InvalidAmount, InvalidCurrency) as error:
        option = amount_as if error.subject == "amount" else currency_as
        raise typer.BadParameter(f"{option} {error.problem}") from None
