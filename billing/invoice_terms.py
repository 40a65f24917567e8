"""What an invoice may ask for beside its lines: how it is collected, texts, taxes, discounts, and the total that is
expected.

Texts (memo, footer, custom fields) may name a person: they are in the row and in the call that sends them, in no fact,
no log and no archive, and an erasure removes them. Ids, amounts and times name nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from billing.errors import InvalidAmount, InvalidRequest, InvalidText
from billing.invoice_lines import Line, are_ids, ids_of
from billing.money import whole
from billing.provider_ids import IdKind, is_id, provider_id
from billing.tables.entities import MAX_DAYS, Invoice
from billing.texts import plain_text
from billing.timing import may_be_real

MAX_TEXT = 1500
"""Characters of memo and footer: ours, so that a row stays small."""
MAX_FIELDS, MAX_FIELD_NAME, MAX_FIELD_VALUE = 4, 40, 140
"""Source: docs.stripe.com/api/invoices/create, `custom_fields`."""
MAX_DISCOUNTS = 10
PURCHASE_ORDER = "PO number"
"""Stripe's API has no field for it, so it is the custom field of this name, the first one."""
TEXTS = ("memo", "footer", "custom_fields")
"""What may name a person."""


@dataclass(frozen=True, slots=True)
class SendInvoice:
    """Stripe e-mails the invoice; the customer pays within `days_until_due` days, or by `due_date`."""

    days_until_due: int | None = None
    due_date: datetime | None = None

    def __post_init__(self) -> None:
        days: object = self.days_until_due
        if self.due_date is not None:
            if days is not None:
                raise InvalidRequest("days_until_due", "and due_date exclude each other; pass one of them")
            moment: object = self.due_date
            if not isinstance(moment, datetime) or moment.utcoffset() is None or not may_be_real(moment):
                raise InvalidText("due_date", "must be a time with a time zone, in this century or the next")
            object.__setattr__(self, "due_date", moment.astimezone(UTC))
            return
        if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= MAX_DAYS:
            raise InvalidRequest("days_until_due", f"must be a whole number from 1 to {MAX_DAYS}")
        object.__setattr__(self, "days_until_due", int.__index__(days))


@dataclass(frozen=True, slots=True)
class ChargeAutomatically:
    """Stripe charges the customer once the invoice is final: `payment_method` (pm_...), or without it the customer's
    default one. Nothing is sent."""

    payment_method: str | None = None

    def __post_init__(self) -> None:
        if self.payment_method is not None:
            object.__setattr__(self, "payment_method", provider_id("payment_method", self.payment_method))


@dataclass(frozen=True, slots=True)
class AlreadyPaid:
    """The money was taken before, by a capture or outside of Stripe: nobody is asked for it. Once the invoice is final,
    it is marked as paid (out of band, in Stripe's words)."""


Collect = SendInvoice | ChargeAutomatically | AlreadyPaid
"""How what is owed comes in, or has come in."""
CHARGED = "charge_automatically"
"""What the terms of an invoice say under `collect` that Stripe charges. Without it, it is sent."""
ALREADY_PAID = "already_paid"
"""The same of one that is paid already; and what its metadata at Stripe says, so that it is known after a restore."""


@dataclass(frozen=True, slots=True)
class InvoiceTerms:
    """Sent with the draft, and part of what a repeated request must share.

    `memo` and `footer`: up to 1,500 characters. `custom_fields`: up to 4, names of up to 40 characters, values of up to
    140; `purchase_order` is one of them. `tax_rates` (ids) are for every line without its own; with `automatic_tax`
    Stripe Tax computes them. `discounts`: ids of coupons. `total_minor`: what the invoice must come to in the end; if
    Stripe reckons otherwise, it is refused before anything is finalized.

    Raises InvalidRequest, InvalidAmount and InvalidText.
    """

    memo: str | None = None
    footer: str | None = None
    custom_fields: Mapping[str, str] | None = None
    purchase_order: str | None = None
    tax_rates: Sequence[str] = ()
    automatic_tax: bool = False
    discounts: Sequence[str] = ()
    total_minor: int | None = None

    def __post_init__(self) -> None:
        for name in ("memo", "footer"):
            if (text := getattr(self, name)) is not None:
                object.__setattr__(self, name, plain_text(name, text, MAX_TEXT, lines=True))
        if self.purchase_order is not None:
            object.__setattr__(
                self, "purchase_order", plain_text("purchase_order", self.purchase_order, MAX_FIELD_VALUE)
            )
        if self.custom_fields is not None:
            object.__setattr__(self, "custom_fields", _fields(self.custom_fields))
        if len(self.fields()) > MAX_FIELDS:
            raise InvalidRequest("custom_fields", f"must be at most {MAX_FIELDS}, with the purchase_order among them")
        if not isinstance(self.automatic_tax, bool):
            raise InvalidRequest("automatic_tax", f"must be True or False, not {type(self.automatic_tax).__name__}")
        object.__setattr__(self, "tax_rates", ids_of("tax_rates", self.tax_rates))
        object.__setattr__(self, "discounts", ids_of("discounts", self.discounts, MAX_DISCOUNTS))
        if self.automatic_tax and self.tax_rates:
            raise InvalidRequest("automatic_tax", "and tax_rates exclude each other at Stripe; pass one of them")
        if self.total_minor is not None and whole("total_minor", self.total_minor) < 0:
            raise InvalidAmount("total_minor", "must not be negative")

    def fields(self) -> list[list[str]]:
        """The custom fields as pairs, in their order."""
        own = [] if self.purchase_order is None else [[PURCHASE_ORDER, self.purchase_order]]
        return own + [[name, value] for name, value in (self.custom_fields or {}).items()]

    def stored(self, collect: Collect, lines: Sequence[Line]) -> dict[str, Any] | None:
        """The column of the terms, due date included; None if there are none. `computed`: Stripe reckons the total,
        because only it knows prices, taxes or discounts; `taxed`: taxes. Raises InvalidRequest for lines that do not
        fit."""
        if self.automatic_tax:
            for number, line in enumerate(lines):
                if (why := _untaxable(line)) is not None:
                    raise InvalidRequest(f"lines.{number}", f"{why}, which Stripe Tax does not take")
        kept: dict[str, Any] = {
            "memo": self.memo,
            "footer": self.footer,
            "custom_fields": self.fields() or None,
            "tax_rates": list(self.tax_rates) or None,
            "automatic_tax": self.automatic_tax or None,
            "discounts": list(self.discounts) or None,
            "total_minor": self.total_minor,
            **_collected(collect),
        }
        kept["taxed"] = bool(self.tax_rates or self.automatic_tax or any(line.tax_rates for line in lines)) or None
        if kept["taxed"] or self.discounts or any(line.price is not None for line in lines):
            kept["computed"] = True
        return {name: value for name, value in kept.items() if value is not None} or None


def _collected(collect: Collect) -> dict[str, Any]:
    match collect:
        case SendInvoice(due_date=due):
            return {"due_date": None if due is None else int(due.timestamp())}
        case ChargeAutomatically(payment_method=method):
            return {"collect": CHARGED, "payment_method": method}
        case AlreadyPaid():
            return {"collect": ALREADY_PAID}


def is_charged(row: Invoice) -> bool:
    """Whether Stripe charges it, instead of sending it."""
    return (row.terms or {}).get("collect") == CHARGED


def is_sent(row: Invoice) -> bool:
    """Whether it is sent to its customer, who pays it then."""
    return not is_charged(row) and not is_paid_already(row)


def is_paid_already(row: Invoice) -> bool:
    """Whether nobody is asked for its money."""
    return (row.terms or {}).get("collect") == ALREADY_PAID


def metadata(row: Invoice) -> dict[str, str]:
    """What its metadata at Stripe says of how it is collected."""
    return {COLLECT_KEY: ALREADY_PAID} if is_paid_already(row) else {}


COLLECT_KEY = "billing_collect"


def collection_method(row: Invoice) -> str:
    """Stripe's word for how it is collected. One that is paid already has the method that needs no e-mail address and
    no due date: what is not advanced automatically, Stripe does not charge by itself either.
    Source: docs.stripe.com/api/invoices/object, `auto_advance`."""
    return "send_invoice" if is_sent(row) else CHARGED


def parameters(row: Invoice) -> dict[str, Any]:
    """What is sent with the draft: how it is collected, and the terms. A plain invoice has only the days."""
    terms = row.terms or {}
    sent: dict[str, Any] = {"collection_method": collection_method(row)}
    if "payment_method" in terms:
        sent["default_payment_method"] = terms["payment_method"]
    if "due_date" in terms:
        sent["due_date"] = terms["due_date"]
    if row.days_until_due is not None:
        sent["days_until_due"] = row.days_until_due
    for name, ours in (("description", "memo"), ("footer", "footer"), ("default_tax_rates", "tax_rates")):
        if ours in terms:
            sent[name] = terms[ours]
    if "custom_fields" in terms:
        sent["custom_fields"] = [{"name": name, "value": value} for name, value in terms["custom_fields"]]
    if "automatic_tax" in terms:
        sent["automatic_tax"] = {"enabled": True}
    if is_computed(row):
        # Without it, the draft would inherit the discount of its customer.
        sent["discounts"] = [{"coupon": coupon} for coupon in terms.get("discounts", ())] or ""
    return sent


def unfit(row: Invoice) -> str | None:
    """Why the terms of this row cannot be sent: they were written without `InvoiceTerms`. None if they can."""
    terms = row.terms or {}
    wrong = sorted(name for name, value in terms.items() if name not in _FIT or not _FIT[name](value))
    return "terms are not as billing.issue_invoice writes them" if wrong else None


def _are_fields(value: object) -> bool:
    pairs = isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    return pairs and all(isinstance(text, str) for pair in cast("list[list[object]]", value) for text in pair)


_FIT: Mapping[str, Callable[[Any], bool]] = {
    "memo": lambda value: isinstance(value, str),
    "footer": lambda value: isinstance(value, str),
    "custom_fields": _are_fields,
    "tax_rates": lambda value: are_ids("tax_rates", value),
    "automatic_tax": lambda value: value is True,
    "discounts": lambda value: are_ids("discounts", value),
    "total_minor": lambda value: type(value) is int,
    "due_date": lambda value: type(value) is int,
    "computed": lambda value: value is True,
    "taxed": lambda value: value is True,
    "restored": lambda value: value is True,
    "collect": lambda value: value in (CHARGED, ALREADY_PAID),
    "payment_method": lambda value: is_id(IdKind.PAYMENT_METHOD, value),
}


def is_computed(row: Invoice) -> bool:
    """Whether Stripe reckons its total."""
    return bool((row.terms or {}).get("computed"))


def _untaxable(line: Line) -> str | None:
    """Source: docs.stripe.com/api/invoices/create, `automatic_tax[enabled]`."""
    if line.tax_rates:
        return "has tax rates of its own"
    if line.credit:
        return "is a credit"
    if line.unit_amount is not None and line.tax_behavior is None:
        return "has a unit_amount without a tax_behavior"
    return None


def _fields(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InvalidRequest("custom_fields", f"must map texts to texts, not be {type(given).__name__}")
    kept = {}
    for number, (name, value) in enumerate(given.items(), start=1):
        key = plain_text(f"the name of custom field {number}", name, MAX_FIELD_NAME)
        kept[key] = plain_text(f"the value of custom field {number}", value, MAX_FIELD_VALUE)
    return kept
