"""Invoices of every kind, from a seed, and what each must come to, reckoned apart from billing: `bench.invoices` asks
for them.

Most invoices are short and some have 250 lines: their numbers of lines are spread evenly by the logarithm, and every
tenth stands at the border of a call. Amounts are whole, or a quantity of units that may cost less than a minor unit, or
Stripe's prices; some are credits. Half of the invoices have taxes, a discount, or both. The currencies have no, two and
three decimals.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import billing

CURRENCIES = {"EUR": 1, "USD": 1, "JPY": 1, "KRW": 1, "KWD": 10, "BHD": 10, "ISK": 100}
"""Each with what its amounts must be divisible by."""
MOST_OF_A_LINE = 200_000
"""Minor units: 250 of them with taxes are still a total of eight digits, which every card takes."""
BORDERS = (1, 99, 100, 101, 200, 201, 249, 250)
EXCLUSIVE, INCLUSIVE, PERCENT_OFF = ("19", "8.875", "0"), ("7", "20"), ("12.5", "33.33", "100")
FRACTIONS = ("12.3456", "0.5", "0.0125", "250", "0")
"""What one unit costs, in minor units, where a currency's amounts may end in any digit."""
FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
WORDS = ("seats", "Sitze", "席", "مقاعد", "a & b = <c>; 100 %")


@dataclass(frozen=True, slots=True)
class Catalog:
    """What exists at Stripe: tax rates and coupons by their percentage, prices by their currency and unit amount."""

    rates: Mapping[str, str]
    coupons: Mapping[str, str]
    prices: Mapping[tuple[str, str], str]


@dataclass(slots=True)
class Mixed:
    """One invoice to ask for, with the arguments of `billing.issue_invoice`, and what it must come to in minor units.
    `tax_within`: so much may the tax be off, because Stripe decides which line bears which part of a discount."""

    arguments: dict[str, Any]
    amounts: list[int] = field(default_factory=list)
    discount: int = 0
    tax: int = 0
    tax_within: int = 0

    @property
    def total(self) -> int:
        return sum(self.amounts) - self.discount + self.tax

    def fits(self, total: int) -> bool:
        return abs(total - self.total) <= self.tax_within


def half_up(value: Fraction) -> int:
    """Below zero, away from it."""
    size = int(abs(value) + Fraction(1, 2))
    return size if value >= 0 else -size


def units(currency: str) -> tuple[str, ...]:
    step = CURRENCIES[currency]
    return FRACTIONS if step == 1 else (str(step), str(25 * step), "0")


def made(make: Callable[[str, Mapping[str, Any]], str]) -> Catalog:
    """`make` makes an object of Stripe's on this path, with these parameters, and returns its id."""
    coupons = {each: f"OFF{number}" for number, each in enumerate(PERCENT_OFF)}
    for percent_off, coupon in coupons.items():
        make("/v1/coupons", {"id": coupon, "percent_off": percent_off})
    rate, price = {"display_name": "VAT"}, {"product_data": {"name": "support"}}
    return Catalog(
        {
            each: make("/v1/tax_rates", {**rate, "percentage": each, "inclusive": each in INCLUSIVE})
            for each in (*EXCLUSIVE, *INCLUSIVE)
        },
        coupons,
        {
            (currency, unit): make("/v1/prices", {**price, "currency": currency.lower(), "unit_amount_decimal": unit})
            for currency in CURRENCIES
            for unit in units(currency)
        },
    )


def invoices(seed: int, count: int, catalog: Catalog) -> Iterator[Mixed]:
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated
    for _ in range(count):
        yield _invoice(rng, catalog)


def _invoice(rng: random.Random, catalog: Catalog) -> Mixed:
    currency, taxed, discounted = rng.choice(sorted(CURRENCIES)), rng.random() < 0.3, rng.random() < 0.25
    mixed, lines = Mixed({"currency": currency}), list[billing.Line]()
    default = Fraction(0)
    terms: dict[str, Any] = {"memo": "Thank you.", "purchase_order": "4711"} if rng.random() < 0.3 else {}
    if taxed:
        percentage = rng.choice(EXCLUSIVE)
        default, terms["tax_rates"] = Fraction(percentage) / 100, [catalog.rates[percentage]]
    for number in range(_how_many(rng)):
        given, amount = _priced(rng, currency, catalog, 0 if discounted else _may_be_credited(mixed))
        rate = default
        if taxed and not discounted and rng.random() < 0.2:
            own = rng.choice((*EXCLUSIVE, *INCLUSIVE))
            given["tax_rates"] = [catalog.rates[own]]
            # What is inclusive adds nothing.
            rate = Fraction(0) if own in INCLUSIVE else Fraction(own) / 100
        if rng.random() < 0.1:
            given["period"] = (FIRST_DAY, FIRST_DAY + timedelta(days=29))
        lines.append(billing.Line(f"{rng.choice(WORDS)} {number}", **given))
        mixed.amounts.append(amount)
        mixed.tax += 0 if discounted else half_up(rate * amount)
    if discounted:
        percentage = rng.choice(PERCENT_OFF)
        terms["discounts"] = [catalog.coupons[percentage]]
        mixed.discount = half_up(Fraction(percentage) / 100 * sum(mixed.amounts))
        mixed.tax = half_up(default * (sum(mixed.amounts) - mixed.discount))
        mixed.tax_within = len(lines) if default and mixed.tax else 0
    mixed.arguments |= {"lines": lines, "terms": billing.InvoiceTerms(**terms), "collect": _due(rng)}
    return mixed


def _may_be_credited(mixed: Mixed) -> int:
    """A fifth of all that is billed, so that no tax can bring the total below zero."""
    billed = sum(amount for amount in mixed.amounts if amount > 0)
    return billed // 5 + sum(amount for amount in mixed.amounts if amount < 0)


def _how_many(rng: random.Random) -> int:
    return rng.choice(BORDERS) if rng.random() < 0.1 else int(251 ** rng.random())


def _due(rng: random.Random) -> billing.SendInvoice:
    if rng.random() < 0.2:
        return billing.SendInvoice(due_date=datetime.now(UTC) + timedelta(days=90))
    return billing.SendInvoice(days_until_due=rng.randint(1, 90))


def _priced(rng: random.Random, currency: str, catalog: Catalog, may_be_credited: int) -> tuple[dict[str, Any], int]:
    """What a line says of its money, and the minor units that it comes to."""
    step, kind = CURRENCIES[currency], rng.random()
    if kind < 0.1 and may_be_credited >= step:
        credit = step * rng.randint(1, may_be_credited // step)
        return {"amount": billing.Money(credit, currency), "credit": True}, -credit
    if kind < 0.5:
        amount = step * rng.randint(1, MOST_OF_A_LINE // step)
        return {"amount": billing.Money(amount, currency)}, amount
    unit = rng.choice(units(currency))
    quantity = rng.randint(1, int(min(5_000, MOST_OF_A_LINE / Fraction(unit)) if Fraction(unit) else 5_000))
    amount = half_up(Fraction(unit) * quantity)
    if kind < 0.7:
        return {"price": catalog.prices[currency, unit], "quantity": quantity}, amount
    return {"unit_amount": billing.UnitAmount(unit, currency), "quantity": quantity}, amount
