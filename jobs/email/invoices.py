"""The invoice that an e-mail shows, as Stripe has it at the moment when the e-mail is sent. It is kept nowhere.

Its texts may name people, so they are in no row, fact or job. What is read is checked as far as a mistake would reach
somebody: whose invoice it is, and where its link leads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from billing.currencies import CURRENCIES
from billing.gateway import Budget, Response
from billing.provider_ids import IdKind, is_id
from billing.stripe_gateway import StripeGateway
from billing.tables.entities import MAX_LINES
from jobs.email.outcomes import not_now, refused
from jobs.email.recipients import Unresolved, one_line

PAGE = 100
"""Lines that Stripe shows at once."""
HOSTS = frozenset({"invoice.stripe.com"})
"""Where the page of an invoice is (docs.stripe.com/invoicing/hosted-invoice-page). A link to anywhere else is left
out."""
SHOWN = "invoice"
"""The value of an e-mail's data that names the invoice which it shows."""
TEXT_MOST = 500

Shown = Mapping[str, Any]
"""An amount as the filters `money` and `unit` take it, a day, or None."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """`discount` is None where there is none. Amounts are what Stripe says, not what they come to here."""

    description: str = field(repr=False)
    quantity: int | None
    unit: Shown | None
    amount: Shown
    discount: Shown | None


@dataclass(frozen=True, slots=True)
class ShownInvoice:
    """What a template gets as `invoice`. `more`: so many lines are only on the invoice's page. `link`: that page."""

    number: str
    date: str | None
    due_date: str | None
    lines: Sequence[InvoiceLine] = field(repr=False)
    more: int
    subtotal: Shown
    discount: Shown | None
    tax: Shown | None
    total: Shown
    paid: Shown | None
    left: Shown
    is_paid: bool
    link: str | None = field(repr=False)


def read(stripe: StripeGateway, invoice: str, to: str, account: str | None, budget: Budget) -> ShownInvoice:
    """The invoice with this id of Stripe's, for this recipient. Raises Unresolved."""
    shown = _get(stripe, f"/v1/invoices/{invoice}" if is_id(IdKind.INVOICE, invoice) else "", account, budget)
    if shown.get("id") != invoice:
        raise Unresolved(not_now("invoice_not_read"))
    if shown.get("livemode") is not stripe.livemode:
        raise Unresolved(not_now("invoice_of_another_mode"))
    if to.startswith("cus_") and shown.get("customer") != to:
        raise Unresolved(refused("invoice_of_another_customer"))
    if shown.get("status") not in ("open", "paid", "uncollectible"):
        raise Unresolved(refused("invoice_not_open"))
    lines: list[Mapping[str, Any]] = []
    more = True
    while more and len(lines) < MAX_LINES:
        after = f"&starting_after={lines[-1].get('id')}" if lines else ""
        page = _get(stripe, f"/v1/invoices/{invoice}/lines?limit={PAGE}{after}", account, budget)
        found = page.get("data")
        if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
            raise Unresolved(not_now("invoice_not_read"))
        lines += found
        more = page.get("has_more") is True and bool(found)
    return shown_of(shown, lines[:MAX_LINES], more=more or len(lines) > MAX_LINES)


def _get(stripe: StripeGateway, path: str, account: str | None, budget: Budget) -> Mapping[str, Any]:
    if not path:
        raise Unresolved(refused("no_such_invoice"))
    answer, shown = stripe.read_whole(path, account, budget)
    if isinstance(answer, Response) and answer.status == 404 and answer.error_code == "resource_missing":
        raise Unresolved(refused("no_such_invoice"))
    if not isinstance(answer, Response) or answer.status != 200:
        raise Unresolved(not_now("invoice_not_read"))
    return shown


def shown_of(invoice: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *, more: bool = False) -> ShownInvoice:
    """As Stripe's API shows them (docs.stripe.com/api/invoices/object). Raises Unresolved for what is no invoice."""
    try:
        return _shown(invoice, lines, more=more)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unresolved(not_now("invoice_not_read")) from None


def _shown(invoice: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *, more: bool) -> ShownInvoice:
    currency = CURRENCIES[str(invoice["currency"]).upper()].code

    def amount(value: object) -> Shown:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError
        return {"minor": value, "currency": currency}

    discount = sum(each["amount"] for each in invoice.get("total_discount_amounts") or ())
    taxes = invoice.get("total_taxes") or ()
    tax, paid, left = sum(each["amount"] for each in taxes), invoice["amount_paid"], invoice["amount_remaining"]
    finalized = (invoice.get("status_transitions") or {}).get("finalized_at")
    return ShownInvoice(
        number=one_line(str(invoice.get("number") or "")),
        date=_day(invoice.get("effective_at") or finalized or invoice.get("created")),
        due_date=_day(invoice.get("due_date")),
        lines=[_line(each, currency) for each in lines],
        more=int(more),
        subtotal=amount(invoice["subtotal"]),
        discount=amount(-discount) if discount else None,
        tax=amount(tax) if taxes else None,
        total=amount(invoice["total"]),
        paid=amount(-paid) if paid else None,
        left=amount(left),
        is_paid=invoice.get("status") == "paid",
        link=link_of(invoice.get("hosted_invoice_url")),
    )


def _line(line: Mapping[str, Any], currency: str) -> InvoiceLine:
    discount = sum(each["amount"] for each in line.get("discount_amounts") or ())
    quantity, unit = line.get("quantity"), (line.get("pricing") or {}).get("unit_amount_decimal")
    return InvoiceLine(
        description=one_line(str(line.get("description") or ""))[:TEXT_MOST],
        quantity=quantity if type(quantity) is int else None,
        unit=_unit(unit, currency),
        amount={"minor": int(line["amount"]), "currency": currency},
        discount={"minor": -discount, "currency": currency} if discount else None,
    )


def _unit(said: object, currency: str) -> Shown | None:
    """In minor units, with up to 12 decimal places."""
    try:
        minor = Decimal(str(said)) if said is not None else None
    except InvalidOperation:
        return None
    return {"minor": minor, "currency": currency} if minor is not None and minor.is_finite() else None


def _day(seconds: object) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat() if type(seconds) is int else None


def link_of(url: object) -> str | None:
    """The address of the invoice's page, if it is one of Stripe's."""
    if (
        not isinstance(url, str)
        or not url.isascii()
        or not url.isprintable()
        or any(each in url for each in " \\\"'<>")
    ):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme == "https" and parts.netloc in HOSTS and len(url) <= 2000 else None
