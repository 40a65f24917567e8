"""What the lines of an invoice come to: discounts, taxes and the total, in minor units.

From documentation: a discount lowers what is taxed (docs.stripe.com/billing/taxes/tax-rates); `subtotal` is before
discounts and exclusive tax, and inclusive tax is a part of it (docs.stripe.com/api/invoices/object); credits are not
discounted by default. Decided here: every amount is rounded by itself, half up; a discount is rounded once, and shared
among the lines in proportion, so that the shares add up to it; Stripe Tax knows one rate for each of a few countries.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from .objects import Discount, Invoice, Line, Tax, TaxRate
from .objects.invoice_items import by_rate

AUTOMATIC = {"DE": "19", "FR": "20", "GB": "20", "NL": "21", "ES": "21"}
"""Stripe Tax, as the stand-in has it: the percentage by the customer's country; of others no tax is collected."""


def rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_UP))


def shared(amount: int, among: Sequence[int]) -> list[int]:
    """The amount in parts, in proportion to these. They add up to it, and none is more than its own."""
    whole = sum(among)
    if not whole:
        return [0 for _ in among]
    parts = [amount * each // whole for each in among]
    # What is left goes to the largest remainders.
    by_remainder = sorted(range(len(among)), key=lambda n: -(amount * among[n] % whole))
    for n in by_remainder[: amount - sum(parts)]:
        parts[n] += 1
    return parts


def summed(invoice: Invoice, lines: Sequence[Line]) -> Invoice:
    """The draft with these lines, and all that they come to."""
    amounts = [line.item.amount for line in lines]
    left = [line.item.amount if line.item.discountable else 0 for line in lines]
    off: list[list[int]] = []
    for discount in invoice.discounts:
        parts = shared(_worth(discount, sum(left)), left)
        left = [each - part for each, part in zip(left, parts, strict=True)]
        off.append(parts)
    taxed = []
    for n, line in enumerate(lines):
        discounted = tuple(parts[n] for parts in off)
        taxes = _taxes(invoice, line, line.item.amount - sum(discounted))
        taxed.append(line._replace(discounted=discounted, taxes=taxes))
    every = [tax for line in taxed for tax in line.taxes]
    subtotal = sum(amounts)
    total = subtotal - sum(map(sum, off)) + sum(tax.amount for tax in every if not tax.inclusive)
    return invoice._replace(
        lines=tuple(taxed),
        subtotal=subtotal,
        discounted=tuple(map(sum, off)),
        taxes=by_rate(every),
        total=total,
        due=max(total, 0),
    )


def _worth(discount: Discount, of: int) -> int:
    coupon = discount.coupon
    if coupon.percent_off is not None:
        return rounded(Decimal(coupon.percent_off) * of / 100)
    return min(coupon.amount_off or 0, of)


def _taxes(invoice: Invoice, line: Line, taxable: int) -> tuple[Tax, ...]:
    rates = _rates(invoice, line)
    inside = sum((Decimal(rate.percentage) for rate in rates if rate.inclusive), Decimal(0))
    within = rounded(Decimal(100) * taxable / (100 + inside))
    return tuple(
        Tax(
            rate=rate.id,
            amount=rounded(Decimal(rate.percentage) * taxable / (100 + inside if rate.inclusive else 100)),
            inclusive=rate.inclusive,
            taxable=within if rate.inclusive else taxable,
            automatic=invoice.automatic_tax,
        )
        for rate in rates
    )


def _rates(invoice: Invoice, line: Line) -> Sequence[TaxRate]:
    if not invoice.automatic_tax:
        return line.item.tax_rates or invoice.default_tax_rates
    country = (invoice.buyer.address or {}).get("country")
    if country not in AUTOMATIC:
        return ()
    inclusive = line.item.tax_behavior == "inclusive"
    named = f"txr_automatic_{country}_{'inclusive' if inclusive else 'exclusive'}"
    return (TaxRate(named, 0, invoice.livemode, "VAT", AUTOMATIC[country], inclusive, country, None, None, {}),)


def credited(
    line: Line, discounts: Sequence[Discount], amount: int, before: int
) -> tuple[tuple[tuple[str, int], ...], tuple[Tax, ...]]:
    """What comes off with this amount of a line, before discounts and exclusive tax, once so much was `before`: of
    each discount by its id, and of each tax. In proportion; and all parts of a line add up to its own."""

    def part(of: int) -> int:
        whole = line.item.amount
        share = [rounded(Decimal(of) * each / whole) if whole else 0 for each in (before + amount, before)]
        return share[0] - share[1]

    off = tuple((its.id, part(each)) for each, its in zip(line.discounted, discounts, strict=True))
    taxes = tuple(each._replace(amount=part(each.amount), taxable=part(each.taxable)) for each in line.taxes)
    return off, taxes
