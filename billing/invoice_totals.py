"""What an invoice comes to at Stripe, compared with what was asked, before it can be finalized.

Of a plain invoice we know the total: the sum of its lines. Where prices, taxes or discounts are Stripe's, the total is,
too: it is recorded, with its parts, and must agree with them, with our amounts, and with the total that was expected.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from billing.differences import Difference, differences
from billing.invoice_terms import is_computed
from billing.steps import Json
from billing.tables.entities import Invoice


class Totals(NamedTuple):
    """In minor units. `tax` is what is added to the lines: inclusive tax is a part of them."""

    subtotal: int
    discount: int
    tax: int
    total: int


def totals_of(invoice: Json) -> Totals:
    """As Stripe shows them; an amount that is missing counts as 0, and so the total does not agree."""
    discounts, taxes = _amounts(invoice, "total_discount_amounts"), invoice.get("total_taxes")
    added = [each for each in taxes or () if isinstance(each, Mapping) and each.get("tax_behavior") == "exclusive"]
    tax = sum(_whole(each.get("amount")) for each in added)
    return Totals(_whole(invoice.get("subtotal")), sum(discounts), tax, _whole(invoice.get("total")))


def not_our_totals(row: Invoice, invoice: Json, lines: Sequence[Json]) -> list[Difference]:
    """In which sums Stripe's invoice, with these lines, is not what was asked."""
    if not is_computed(row):
        return differences(invoice, subtotal=row.total_minor, total=row.total_minor)
    terms, found = row.terms or {}, totals_of(invoice)
    wrong = differences(invoice, subtotal=sum(_whole(line.get("amount")) for line in lines))
    wrong += differences(invoice, total=found.subtotal - found.discount + found.tax)
    # A restored row does not know which terms it had.
    if "restored" not in terms and (discounts := len(_amounts(invoice, "total_discount_amounts"))) != len(
        terms.get("discounts", ())
    ):
        wrong.append(Difference("discounts", str(len(terms.get("discounts", ()))), str(discounts)))
    if "restored" not in terms and "taxed" not in terms and found.tax:
        wrong.append(Difference("tax", "none", str(found.tax)))
    if "total_minor" in terms and found.total != terms["total_minor"]:
        wrong.append(Difference("total", f"{terms['total_minor']} (total_minor)", str(found.total)))
    if found.total < 0:
        wrong.append(Difference("total", "at least 0", str(found.total)))
    return wrong


def record(row: Invoice, invoice: Json) -> dict[str, int]:
    """Keep in the row what Stripe reckoned, and return it for the fact. Nothing of a plain invoice, which we know."""
    if not is_computed(row):
        return {}
    found = totals_of(invoice)
    row.subtotal_minor, row.discount_minor, row.tax_minor = found.subtotal, found.discount, found.tax
    row.reckoned_minor = found.total
    return {"subtotal_minor": found.subtotal, "discount_minor": found.discount, "tax_minor": found.tax}


def _amounts(invoice: Json, name: str) -> list[int]:
    listed: Any = invoice.get(name)
    return [_whole(each.get("amount")) for each in listed or () if isinstance(each, Mapping)]


def _whole(value: object) -> int:
    return value if type(value) is int else 0
