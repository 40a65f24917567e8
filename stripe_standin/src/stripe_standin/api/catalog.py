"""Prices, tax rates and coupons: create and read. A price makes its product, of which only the id exists."""

from decimal import Decimal
from typing import Any

from stripe_standin import errors
from stripe_standin.call import Call, Route, Routes
from stripe_standin.objects import NO_METADATA, Coupon, Json, Price, TaxRate, shown
from stripe_standin.parameters import (
    Reader,
    Table,
    amount,
    boolean,
    currency,
    decimal,
    expand,
    merged,
    metadata,
    nested,
    one_of,
    short_text,
    text,
)


def percentage(places: int, least: str = "0") -> Reader:
    """A decimal from `least` to 100."""

    def reader(value: Any, name: str) -> Decimal:
        number = decimal(value, name)
        if not Decimal(least) <= number <= 100 or -int(number.as_tuple().exponent) > places:
            raise errors.bad_request(f"Invalid decimal: from {least} to 100, with up to {places} places", name)
        return number

    return reader


def unit_amount(value: Any, name: str) -> Decimal:
    """What one unit costs, in minor units; nothing is allowed."""
    number = decimal(value, name)
    if number < 0:
        raise errors.bad_request("Invalid non-negative decimal", name)
    return number


TAX_BEHAVIOR = one_of("exclusive", "inclusive", "unspecified")
_PRODUCT = nested(Table({"name": short_text(250)}, required=("name",)))
GET = Table({"expand": expand()})
PRICE = Table(
    {
        "currency": currency,
        "unit_amount": unit_amount,
        "unit_amount_decimal": unit_amount,
        "product_data": _PRODUCT,
        "nickname": text,
        "tax_behavior": TAX_BEHAVIOR,
        "metadata": metadata,
        "expand": expand(),
    },
    required=("currency", "product_data"),
)
TAX_RATE = Table(
    {
        "display_name": short_text(50),
        "percentage": percentage(4),
        "inclusive": boolean,
        "country": short_text(2),
        "description": text,
        "jurisdiction": short_text(50),
        "metadata": metadata,
        "expand": expand(),
    },
    required=("display_name", "percentage", "inclusive"),
)
COUPON = Table(
    {
        "id": short_text(200),
        "percent_off": percentage(2, "0.01"),
        "amount_off": amount,
        "currency": currency,
        "duration": one_of("once"),
        "name": short_text(40),
        "metadata": metadata,
        "expand": expand(),
    }
)


def create_price(call: Call) -> Json:
    asked = call.params
    price = Price(
        id=call.world.new_id("price"),
        created=call.now,
        livemode=call.books.livemode,
        currency=asked["currency"],
        unit_amount=f"{unit_asked(asked, ''):f}",
        product=call.world.new_id("prod"),
        tax_behavior=asked.get("tax_behavior", "unspecified"),
        nickname=asked.get("nickname"),
        metadata=merged(NO_METADATA, asked.get("metadata", {})),
    )
    return shown(call.books.prices.put(price))


def unit_asked(asked: Json, under: str) -> Decimal:
    """The price of a unit: one of the two parameters."""
    given = [name for name in ("unit_amount", "unit_amount_decimal") if name in asked]
    if len(given) != 1:
        raise errors.bad_request(
            "You must specify one of `unit_amount` or `unit_amount_decimal`.",
            f"{under}[unit_amount]" if under else "unit_amount",
        )
    unit: Decimal = asked[given[0]]
    return unit


def create_tax_rate(call: Call) -> Json:
    asked = call.params
    rate = TaxRate(
        id=call.world.new_id("txr"),
        created=call.now,
        livemode=call.books.livemode,
        display_name=asked["display_name"],
        percentage=f"{asked['percentage']:f}",
        inclusive=asked["inclusive"],
        country=asked.get("country"),
        description=asked.get("description"),
        jurisdiction=asked.get("jurisdiction"),
        metadata=merged(NO_METADATA, asked.get("metadata", {})),
    )
    return shown(call.books.tax_rates.put(rate))


def create_coupon(call: Call) -> Json:
    asked = call.params
    if ("percent_off" in asked) == ("amount_off" in asked):
        raise errors.bad_request("Must provide percent_off or amount_off.", "percent_off")
    if ("amount_off" in asked) != ("currency" in asked):
        raise errors.bad_request("Must provide currency when passing amount_off.", "currency")
    named = asked.get("id") or call.world.new_id("co")[3:11].upper()
    if call.books.coupons.get(named) is not None:
        raise errors.bad_request("Coupon already exists.", "id", "resource_already_exists")
    coupon = Coupon(
        id=named,
        created=call.now,
        livemode=call.books.livemode,
        percent_off=f"{asked['percent_off']:f}" if "percent_off" in asked else None,
        amount_off=asked.get("amount_off"),
        currency=asked.get("currency"),
        name=asked.get("name"),
        metadata=merged(NO_METADATA, asked.get("metadata", {})),
    )
    return shown(call.books.coupons.put(coupon))


ROUTES: Routes = {
    "POST /v1/prices": Route(PRICE, create_price),
    "GET /v1/prices/{id}": Route(GET, lambda call: shown(call.books.find(call.books.prices, call.ids[0], "price"))),
    "POST /v1/tax_rates": Route(TAX_RATE, create_tax_rate),
    "GET /v1/tax_rates/{id}": Route(
        GET, lambda call: shown(call.books.find(call.books.tax_rates, call.ids[0], "tax_rate"))
    ),
    "POST /v1/coupons": Route(COUPON, create_coupon),
    "GET /v1/coupons/{id}": Route(GET, lambda call: shown(call.books.find(call.books.coupons, call.ids[0], "coupon"))),
}
