"""One invoice as an object of fields, of JSON or TOML: every field is checked, and an error names it by its path, such
as `lines[2].quantity`. A file of one invoice is read so, and each line of a file of many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, TypeVar

from billing import ChargeAutomatically, InvoiceTerms, Line, Money, SendInvoice, UnitAmount
from billing.errors import InvalidRequest
from billing.invoice_requests import wanted_invoice
from billing.invoice_terms import Collect

T = TypeVar("T")
_OF_TERMS = (
    *("memo", "footer", "custom_fields", "purchase_order", "tax_rates", "automatic_tax", "discounts", "total_minor"),
)
_SENT, _CHARGED = ("days_until_due", "due_date"), ("charge", "payment_method")
FIELDS = ("customer", "currency", "request_id", "correlation_id", *_SENT, *_CHARGED, "lines", *_OF_TERMS)
FIELDS_OF_A_ROW = (*FIELDS, "account")
"""In a file of many, each may name a connected account."""
_OF_LINE = ("description", "amount_minor", "unit_amount", "price", "quantity", "credit", "tax_rates", "tax_behavior")
# What an error of ours is about, as the field is called in a file.
_SUBJECTS = {
    "a line's description": "description",
    "a line's amount": "amount_minor",
    "a line's unit_amount": "unit_amount",
    "amount": "amount_minor",
    "a line": "",
}


@dataclass(frozen=True, slots=True)
class InvoiceFile:
    """What is asked for. None: it does not say."""

    customer: str
    lines: Sequence[Line]
    collect: Collect | None
    currency: str | None
    request_id: str | None
    correlation_id: str | None
    terms: InvoiceTerms


def invoice_of(content: object) -> InvoiceFile:
    """The invoice in this object. Raises InvalidRequest with the path of the field that is wrong."""
    asked = _fields(content, "", FIELDS)
    currency = _text(asked, "currency")
    listed = asked.get("lines")
    if not isinstance(listed, list):
        raise InvalidRequest("lines", f"must be a list, not {_kind(listed)}")
    lines = [_line(f"lines[{number}]", each, currency) for number, each in enumerate(listed)]
    terms = {name: asked[name] for name in _OF_TERMS if name in asked}
    customer = _text(asked, "customer")
    if customer is None:
        raise InvalidRequest("customer", "is missing")
    return InvoiceFile(
        customer=customer,
        lines=lines,
        collect=_collect(asked),
        currency=currency,
        request_id=_text(asked, "request_id"),
        correlation_id=_text(asked, "correlation_id"),
        terms=told("", lambda: InvoiceTerms(**terms)),
    )


def arguments_of(cells: Mapping[str, Any]) -> tuple[dict[str, Any], Money | None]:
    """What a row of a file of many asks `billing.issue_invoice` for, and what it comes to; None where Stripe reckons
    that. Raises InvalidRequest."""
    asked = invoice_of({name: cell for name, cell in cells.items() if name != "account"})
    account = _text(cells, "account")
    if asked.collect is None:
        raise InvalidRequest("days_until_due", "or due_date is missing, or charge")
    wanted = wanted_invoice(asked.lines, asked.collect, asked.currency, asked.terms)
    arguments = {field.name: getattr(asked, field.name) for field in fields(asked)} | {"account": account}
    amount = None if wanted.computed or not wanted.known_minor else Money(wanted.known_minor, wanted.currency)
    return {name: value for name, value in arguments.items() if value is not None}, amount


def told(place: str, make: Callable[[], T]) -> T:
    """What `make` returns. Raises InvalidRequest, which names the field at this place, for what it refuses."""
    try:
        return make()
    except InvalidRequest as error:
        field = _SUBJECTS.get(error.subject, error.subject)
        raise InvalidRequest(".".join(filter(None, (place, field))), error.problem) from None


def _collect(asked: Mapping[str, Any]) -> Collect | None:
    """How what is owed comes in; None: it does not say."""
    sent, charged = ([name for name in names if name in asked] for names in (_SENT, _CHARGED))
    if not charged:
        due = _moment("due_date", asked["due_date"]) if "due_date" in asked else None
        return told("", lambda: SendInvoice(asked.get("days_until_due"), due)) if sent else None
    if sent:
        raise InvalidRequest(charged[0], f"and {sent[0]} exclude each other: it is charged, or sent")
    if asked.get("charge") is not True:
        raise InvalidRequest("charge", "must be true where it stands, or stands a payment_method")
    return told("", lambda: ChargeAutomatically(asked.get("payment_method")))


def _line(place: str, given: object, currency: str | None) -> Line:
    asked = _fields(given, place, (*_OF_LINE, "period"))
    for name in ("amount_minor", "unit_amount"):
        if name in asked and currency is None:
            raise InvalidRequest("currency", "is missing")
    values: dict[str, Any] = {name: value for name, value in asked.items() if name in _OF_LINE[3:]}
    if "amount_minor" in asked:
        values["amount"] = told(place, lambda: Money(asked["amount_minor"], str(currency)))
    if "unit_amount" in asked:
        values["unit_amount"] = told(place, lambda: UnitAmount(asked["unit_amount"], str(currency)))
    if "price" in asked:
        values["price"] = asked["price"]
    if "period" in asked:
        named = _fields(asked["period"], f"{place}.period", ("start", "end"))
        moments = [_moment(f"{place}.period.{name}", named.get(name)) for name in ("start", "end")]
        values["period"] = (moments[0], moments[1])
    return told(place, lambda: Line(asked.get("description"), **values))  # type: ignore[arg-type]


def _fields(given: object, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise InvalidRequest(place, f"must be an object with fields, not {_kind(given)}")
    for name in given:
        if name not in known:
            raise InvalidRequest(f"{place}.{name}" if place else name, f"is not known; known are {', '.join(known)}")
    return given


def _text(asked: Mapping[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(name, f"must be text, not {_kind(value)}")
    return value


def _moment(place: str, given: object) -> datetime:
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidRequest(place, "must be a time with its zone, such as 2026-12-31T23:00:00+01:00")
    return moment


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false", date: "a date"}
    return "nothing" if value is None else kinds.get(type(value), "a number")
