"""Prices, tax rates, coupons, and the discounts that coupons give: what is stored of each, and how it is shown."""

from decimal import Decimal
from typing import NamedTuple

from .parts import Json, null


class Price(NamedTuple):
    """`unit_amount` is a decimal in minor units."""

    id: str
    created: int
    livemode: bool
    currency: str
    unit_amount: str
    product: str
    tax_behavior: str
    nickname: str | None
    metadata: dict[str, str]
    object: str = "price"


class TaxRate(NamedTuple):
    """`percentage` is a decimal with up to four places."""

    id: str
    created: int
    livemode: bool
    display_name: str
    percentage: str
    inclusive: bool
    country: str | None
    description: str | None
    jurisdiction: str | None
    metadata: dict[str, str]
    object: str = "tax_rate"


class Coupon(NamedTuple):
    """Either `percent_off`, a decimal with up to two places, or `amount_off` in minor units of `currency`."""

    id: str
    created: int
    livemode: bool
    percent_off: str | None
    amount_off: int | None
    currency: str | None
    name: str | None
    metadata: dict[str, str]
    times_redeemed: int = 0
    object: str = "coupon"


class Discount(NamedTuple):
    """A coupon on one invoice."""

    id: str
    coupon: Coupon


def price(row: Price) -> Json:
    unit = Decimal(row.unit_amount)
    return {
        **null("custom_unit_amount", "lookup_key", "recurring", "tiers_mode", "transform_quantity"),
        "id": row.id,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": row.created,
        "currency": row.currency,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "nickname": row.nickname,
        "product": row.product,
        "tax_behavior": row.tax_behavior,
        "type": "one_time",
        # Null if it has decimals (docs.stripe.com/api/prices/object).
        "unit_amount": int(unit) if unit == int(unit) else None,
        "unit_amount_decimal": row.unit_amount,
    }


def tax_rate(row: TaxRate) -> Json:
    return {
        **null("effective_percentage", "flat_amount", "jurisdiction_level", "state", "tax_type"),
        "id": row.id,
        "object": "tax_rate",
        "active": True,
        "country": row.country,
        "created": row.created,
        "description": row.description,
        "display_name": row.display_name,
        "inclusive": row.inclusive,
        "jurisdiction": row.jurisdiction,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "percentage": float(row.percentage),
        "rate_type": "percentage",
    }


def coupon(row: Coupon) -> Json:
    return {
        **null("duration_in_months", "max_redemptions", "redeem_by"),
        "id": row.id,
        "object": "coupon",
        "amount_off": row.amount_off,
        "created": row.created,
        "currency": row.currency,
        "duration": "once",
        "livemode": row.livemode,
        "metadata": row.metadata,
        "name": row.name,
        "percent_off": None if row.percent_off is None else float(row.percent_off),
        "times_redeemed": row.times_redeemed,
        "valid": True,
    }
