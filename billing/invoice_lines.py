"""The lines of an invoice, as an application asks for them, as they are stored, as they are sent, and as Stripe shows
them.

A line has an amount; or a quantity of units and what one costs, which may be less than a minor unit; or a quantity of
one of Stripe's prices, whose amount only Stripe knows. Amounts are rounded half up, each line by itself, and compared
with Stripe's before the invoice is finalized: if Stripe rounds otherwise, nothing is finalized.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any, Literal

from billing.cards import may_hold_card_number
from billing.currencies import CURRENCIES
from billing.differences import Difference, differences
from billing.errors import InvalidAmount, InvalidRequest, InvalidText
from billing.money import Money, known_currency
from billing.provider_secrets import secret_in
from billing.tables.entities import MAX_DESCRIPTION, Invoice, InvoiceLine
from billing.texts import plain_text
from billing.timing import may_be_real

TaxBehavior = Literal["exclusive", "inclusive"]
PLACES = 12
"""Decimal places of a unit's price, and digits before them. Source: docs.stripe.com/api/invoices/add_lines."""
MAX_QUANTITY = 999_999_999
MAX_RATES = 10
"""Tax rates of a line, and of an invoice. Stripe's own limit is not documented."""
_PRODUCT_NAME = 250


@dataclass(frozen=True, slots=True)
class UnitAmount:
    """What one unit costs, in minor units with up to 12 decimal places: `UnitAmount("1.25", "USD")` is 1.25 cents.

    A Decimal, a text or a whole number, from 0 on. Raises InvalidAmount (a float, for one) and InvalidCurrency.
    """

    minor: Decimal
    currency: str

    def __init__(self, minor: Decimal | str | int, currency: str) -> None:
        object.__setattr__(self, "minor", _decimal("unit_amount", minor))
        object.__setattr__(self, "currency", known_currency("currency", currency))

    def times(self, quantity: int) -> int:
        """What so many cost, in minor units. Raises InvalidAmount where Stripe takes no such amount."""
        exact, currency = Fraction(self.minor) * quantity, CURRENCIES[self.currency]
        minor = int(exact + Fraction(1, 2))
        if minor > currency.most_minor:
            raise InvalidAmount("unit_amount", f"times quantity must be at most {currency.most_minor} minor units")
        if minor % currency.step:
            raise InvalidAmount(
                "unit_amount", f"times quantity must be divisible by {currency.step}, as {self.currency} is"
            )
        return minor


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it is for, in 1 to 500 characters of any language, and one of `amount`, `unit_amount` and `price`.

    `amount` is that of the whole line; with `credit` it is taken off. `unit_amount` and `price` (the id of one of
    Stripe's prices) are for one of `quantity` units. `tax_rates` are ids of Stripe's, and replace those of the invoice.
    `tax_behavior` says whether a unit's amount contains its tax. `period` is the time that is billed: its first moment,
    and its last. Line ends and tabs of a description are kept; docs/inputs.md says what is changed and what is refused.

    Raises InvalidText, InvalidAmount and InvalidRequest.
    """

    description: str
    amount: Money | None = None
    unit_amount: UnitAmount | None = None
    price: str | None = None
    quantity: int = 1
    credit: bool = False
    tax_rates: Sequence[str] = ()
    tax_behavior: TaxBehavior | None = None
    period: tuple[datetime, datetime] | None = None

    def __post_init__(self) -> None:
        description = plain_text("a line's description", self.description, MAX_DESCRIPTION, lines=True)
        object.__setattr__(self, "description", description)
        ways = [name for name in ("amount", "unit_amount", "price") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise InvalidRequest("a line", f"has one of amount, unit_amount and price, not {' and '.join(ways)}")
        # As objects, because whoever does not check types may pass anything.
        money: object = self.amount
        unit: object = self.unit_amount
        credit: object = self.credit
        if not ways or (money is not None and not isinstance(money, Money)):
            raise InvalidAmount("a line's amount", _wants_money(money))
        if unit is not None and not isinstance(unit, UnitAmount):
            raise InvalidAmount("a line's unit_amount", f"must be billing.UnitAmount, not {type(unit).__name__}")
        if self.price is not None:
            object.__setattr__(self, "price", stripes_id("price", self.price))
        object.__setattr__(self, "quantity", _quantity(self.quantity))
        if self.amount is not None and self.quantity != 1:
            raise InvalidRequest("quantity", "belongs to unit_amount or price; an amount is that of the whole line")
        if not isinstance(credit, bool) or (credit and money is None):
            raise InvalidRequest("credit", "must be True or False, and belongs to an amount")
        if self.tax_behavior not in (None, "exclusive", "inclusive"):
            raise InvalidRequest("tax_behavior", "must be 'exclusive' or 'inclusive'")
        if self.tax_behavior is not None and self.unit_amount is None:
            raise InvalidRequest("tax_behavior", "belongs to unit_amount; a price has its own, an amount the account's")
        object.__setattr__(self, "tax_rates", ids_of("tax_rates", self.tax_rates))
        if self.period is not None:
            object.__setattr__(self, "period", _period(self.period))
        if self.unit_amount is not None:
            self.unit_amount.times(self.quantity)

    @property
    def minor(self) -> int | None:
        """What it comes to, in minor units, below zero if it is a credit; None for a price, which only Stripe knows."""
        if self.unit_amount is not None:
            return self.unit_amount.times(self.quantity)
        if self.amount is None:
            return None
        return -self.amount.minor if self.credit else self.amount.minor

    @property
    def currency(self) -> str | None:
        """None for a price, which has that of its invoice."""
        money = self.amount or self.unit_amount
        return None if money is None else money.currency

    @property
    def details(self) -> dict[str, Any] | None:
        """What its row keeps beside description and amount; None if it has nothing else. It names no person."""
        kept: dict[str, Any] = {}
        if self.unit_amount is not None:
            kept["unit_amount"] = f"{self.unit_amount.minor:f}"
        if self.price is not None:
            kept["price"] = self.price
        if kept:
            kept["quantity"] = self.quantity
        if self.credit:
            kept["credit"] = True
        if self.tax_rates:
            kept["tax_rates"] = list(self.tax_rates)
        if self.tax_behavior is not None:
            kept["tax_behavior"] = self.tax_behavior
        if self.period is not None:
            kept["period"] = [int(moment.timestamp()) for moment in self.period]
        return kept or None


_IDS = {
    "price": (r"price_[A-Za-z0-9_]{1,200}", "a price, price_..."),
    "tax_rates": (r"txr_[A-Za-z0-9_]{1,200}", "tax rates, txr_..."),
    # Whoever makes a coupon may choose its id.
    "discounts": (r"[A-Za-z0-9_-]{1,200}", "coupons: letters, digits, _ and -"),
}


def stripes_id(name: str, given: object) -> str:
    """An id that is passed on to Stripe in a body. Raises InvalidText, which never repeats it."""
    shape, wanted = _IDS[name]
    if not isinstance(given, str) or re.fullmatch(shape, given, re.ASCII) is None:
        raise InvalidText(name, f"must be the id of {wanted}")
    if secret_in(given) is not None or may_hold_card_number(given):
        raise InvalidText(name, "must not hold a secret or a card number; leave it out")
    return str.__str__(given)


def ids_of(name: str, given: object, most: int = MAX_RATES) -> tuple[str, ...]:
    """Ids of Stripe's of one kind, each once. Raises InvalidRequest and InvalidText."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InvalidRequest(name, f"must be a list of ids, not {type(given).__name__}")
    named = tuple(stripes_id(name, each) for each in islice(given, most + 1))
    if len(named) > most or len(set(named)) < len(named):
        raise InvalidRequest(name, f"must be at most {most} ids, each once")
    return named


def parameters(row: Invoice, line: InvoiceLine) -> dict[str, Any]:
    """What is sent for it, but for its metadata."""
    details = line.details or {}
    sent: dict[str, Any] = {}
    if "unit_amount" in details:
        # Stripe makes a product of it, whose name is what the invoice shows.
        data = {"currency": row.currency.lower(), "unit_amount_decimal": details["unit_amount"]}
        data |= {"product_data": {"name": line.description[:_PRODUCT_NAME]}}
        data |= {name: details[name] for name in ("tax_behavior",) if name in details}
        sent |= {"price_data": data, "quantity": details["quantity"]}
    elif "price" in details:
        sent |= {"pricing": {"price": details["price"]}, "quantity": details["quantity"]}
    else:
        sent["amount"] = line.amount_minor
    sent["description"] = line.description
    if "tax_rates" in details:
        sent["tax_rates"] = details["tax_rates"]
    if "period" in details:
        sent["period"] = dict(zip(("start", "end"), details["period"], strict=True))
    return sent


_DETAILS: Mapping[str, Callable[[Any], bool]] = {
    "unit_amount": lambda value: isinstance(value, str) and re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value) is not None,
    "price": lambda value: isinstance(value, str) and re.fullmatch(_IDS["price"][0], value) is not None,
    "quantity": lambda value: type(value) is int and 0 < value <= MAX_QUANTITY,
    "credit": lambda value: value is True,
    "tax_rates": lambda value: are_ids("tax_rates", value),
    "tax_behavior": lambda value: value in ("exclusive", "inclusive"),
    "capture": lambda value: isinstance(value, str) and re.fullmatch(r"cap_[0-9a-z]{1,36}", value) is not None,
    "period": lambda value: isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value),
}


def are_ids(name: str, value: object) -> bool:
    """Whether this, of a row, is a list of such ids."""
    shape = _IDS[name][0]
    return isinstance(value, list) and all(isinstance(each, str) and re.fullmatch(shape, each) for each in value)


def details_fit(line: InvoiceLine) -> bool:
    """Whether a call can carry the details of this row, which an application can write without `Line`."""
    details = line.details or {}
    known = all(name in _DETAILS and _DETAILS[name](value) for name, value in details.items())
    return known and ("quantity" in details) == bool(details.keys() & {"unit_amount", "price"})


def not_as_asked(line: InvoiceLine, shown: Mapping[str, Any]) -> list[Difference]:
    """In what Stripe's line differs from ours: its amount, its quantity, its price."""
    details, wrong = line.details or {}, list[Difference]()
    if line.amount_minor is not None:
        wrong += differences(shown, amount=line.amount_minor)
    if "quantity" in details:
        wrong += differences(shown, quantity=details["quantity"])
    if "price" in details:
        pricing = shown.get("pricing")
        named = pricing if isinstance(pricing, Mapping) else {}
        wrong += differences(named, within="price_details", price=details["price"])
    return wrong


def _decimal(name: str, given: object) -> Decimal:
    wanted = f"must be a Decimal, text or whole number from 0 on, with up to {PLACES} digits on each side of the point"
    if isinstance(given, bool) or not isinstance(given, Decimal | str | int):
        raise InvalidAmount(name, f"{wanted}, not {type(given).__name__}")
    if isinstance(given, str) and re.fullmatch(r"\d{1,12}(\.\d{1,12})?", given, re.ASCII) is None:
        raise InvalidAmount(name, wanted)
    value = Decimal(given)
    # Exactly, whatever precision the application has set for its decimals.
    usual = value.is_finite() and -100 < value.adjusted() < PLACES
    smallest = Fraction(value) * 10**PLACES if usual else Fraction(-1 if value else 0)
    if smallest < 0 or smallest.denominator != 1:
        raise InvalidAmount(name, wanted)
    units, places = divmod(int(smallest), 10**PLACES)
    return Decimal(f"{units}.{places:0{PLACES}d}".rstrip("0").rstrip("."))


def _wants_money(given: object) -> str:
    return f"must be billing.Money, not {type(given).__name__}" + ("; or pass unit_amount or price" * (given is None))


def _quantity(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= MAX_QUANTITY:
        raise InvalidRequest("quantity", f"must be a whole number from 1 to {MAX_QUANTITY}")
    return int.__index__(given)


def _period(given: object) -> tuple[datetime, datetime]:
    wanted = "must be two times with a time zone, the first moment and the last"
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InvalidText("period", wanted)
    for moment in given:
        if not isinstance(moment, datetime) or moment.utcoffset() is None or not may_be_real(moment):
            raise InvalidText("period", f"{wanted}, in this century or the next")
    start, end = given
    if end < start:
        raise InvalidText("period", "must end at its start or later")
    return start, end
