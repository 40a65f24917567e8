"""Amounts as they are written on a command line: whole minor units, and a currency."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from billing import Money


def minor_units(text: str) -> int:
    """For Typer, which puts the parameter's name before it."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"is in minor units, a whole number: 1999 is 19.99 USD; not {text!r}") from None


def money(minor: int, currency: str, *, amount_as: str = "--amount", currency_as: str = "--currency") -> "Money":
    """The amount; what is wrong with it is said under the name that the person used."""
    from billing import Money
    from billing.errors import InvalidAmount, InvalidCurrency

    try:
        return Money(minor, currency.upper())
    except InvalidCurrency:
        raise typer.BadParameter(f"{currency_as} {currency!r} is not a currency this service moves") from None
    except InvalidAmount as error:
        raise typer.BadParameter(f"{amount_as} {str(error).removeprefix('an amount ')}") from None
