"""Amounts as whole minor units, in a currency that Stripe takes."""

from dataclasses import dataclass

from billing.currencies import CURRENCIES, in_capitals, suggestion
from billing.errors import InvalidAmount, InvalidCurrency


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units: `Money(1999, "USD")` is $19.99, `Money(500, "JPY")` is ¥500.

    The currency may be in lower case, as Stripe's SDK has it; it is kept in capitals. docs/currencies.md lists
    all, with their decimals and limits.

    Raises InvalidAmount (no whole number, not positive, above the currency's maximum, not divisible by what the
    currency demands) and InvalidCurrency (not on Stripe's list; it says what may have been meant).
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "minor", whole("amount", self.minor))
        object.__setattr__(self, "currency", known_currency("currency", self.currency))
        currency = CURRENCIES[self.currency]
        if self.minor <= 0:
            raise InvalidAmount("amount", "must be positive")
        if self.minor > currency.most_minor:
            raise InvalidAmount("amount", f"must be at most {currency.most_minor} minor units of {currency.code}")
        if self.minor % currency.step:
            raise InvalidAmount(
                "amount",
                f"in {currency.code} must be divisible by {currency.step}, because Stripe takes no smaller part "
                f"of it; {self.minor} is not",
            )

    def __str__(self) -> str:
        return shown(self.minor, self.currency)


def whole(name: str, value: object) -> int:
    """The value as a plain int, if it is a whole number of minor units; else InvalidAmount."""
    # Python counts True as an int, but it is no amount.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidAmount(name, f"must be a whole number of minor units, not {type(value).__name__}")
    return int.__index__(value)


def known_currency(name: str, value: object) -> str:
    """The code in capitals, if it is a currency of Stripe's; else InvalidCurrency."""
    if not isinstance(value, str):
        raise InvalidCurrency(name, f"must be a currency's code such as 'USD', not {type(value).__name__}")
    code = in_capitals(value)
    if code not in CURRENCIES:
        raise InvalidCurrency(
            name,
            f"must be one of Stripe's presentment currencies, by its code of three letters"
            f"{suggestion(value)} (docs/currencies.md lists them)",
        )
    return CURRENCIES[code].code


def shown(minor: int, currency: str) -> str:
    """`19.99 USD`, `500 JPY`, `-5.120 KWD`. Raises KeyError for a currency that is not on the list."""
    places = CURRENCIES[currency].decimals
    units, part = divmod(abs(minor), 10**places)
    return f"{'-' * (minor < 0)}{units}" + (f".{part:0{places}d}" if places else "") + f" {currency}"


def money_problem(minor: int, currency: str) -> str | None:
    """Why these two columns of a row are not a valid `Money`; None if they are."""
    try:
        kept = Money(minor, currency)
    except (InvalidAmount, InvalidCurrency) as error:
        return str(error)
    return None if kept.currency == currency else "currency must be in capitals"
