"""Reads an invoice from a JSON or TOML file: every field is checked, and an error names it by its path."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from billing import InvoiceTerms, Line
    from billing.invoice_terms import Collect

T = TypeVar("T")
MOST_BYTES = 1_000_000
_OF_TERMS = (
    *("memo", "footer", "custom_fields", "purchase_order", "tax_rates", "automatic_tax", "discounts", "total_minor"),
)
_SENT, _CHARGED = ("days_until_due", "due_date"), ("charge", "payment_method")
_FIELDS = ("customer", "currency", "request_id", "correlation_id", *_SENT, *_CHARGED, "lines", *_OF_TERMS)
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
    """What a file asks for. None: it does not say."""

    customer: str
    lines: "Sequence[Line]"
    collect: "Collect | None"
    currency: str | None
    request_id: str | None
    correlation_id: str | None
    terms: "InvoiceTerms"


def read(path: Path) -> InvoiceFile:
    """The invoice in this file. Raises BadParameter with the path of the field that is wrong."""
    from billing import InvoiceTerms

    content = _fields(path, _content(path), "", _FIELDS)
    currency = _text(path, content, "currency")
    listed = content.get("lines")
    if not isinstance(listed, list):
        raise _bad(path, "lines", f"must be a list, not {_kind(listed)}")
    lines = [_line(path, f"lines[{number}]", each, currency) for number, each in enumerate(listed)]
    terms = {name: content[name] for name in _OF_TERMS if name in content}
    customer = _text(path, content, "customer")
    if customer is None:
        raise _bad(path, "customer", "is missing")
    return InvoiceFile(
        customer=customer,
        lines=lines,
        collect=_collect(path, content),
        currency=currency,
        request_id=_text(path, content, "request_id"),
        correlation_id=_text(path, content, "correlation_id"),
        terms=told(path, "", lambda: InvoiceTerms(**terms)),
    )


def _collect(path: Path, content: Mapping[str, Any]) -> "Collect | None":
    """How what is owed comes in; None: the file does not say."""
    from billing import ChargeAutomatically, SendInvoice

    sent, charged = ([name for name in names if name in content] for names in (_SENT, _CHARGED))
    if not charged:
        due = _moment(path, "due_date", content["due_date"]) if "due_date" in content else None
        return told(path, "", lambda: SendInvoice(content.get("days_until_due"), due)) if sent else None
    if sent:
        raise _bad(path, charged[0], f"and {sent[0]} exclude each other: it is charged, or sent")
    if content.get("charge") is not True:
        raise _bad(path, "charge", "must be true where it stands, or stands a payment_method")
    return told(path, "", lambda: ChargeAutomatically(content.get("payment_method")))


def told(path: Path, place: str, make: Callable[[], T]) -> T:
    """What `make` returns. Raises BadParameter, which names the field at this place, for what it refuses."""
    from billing.errors import InvalidRequest

    try:
        return make()
    except InvalidRequest as error:
        field = _SUBJECTS.get(error.subject, error.subject)
        raise _bad(path, ".".join(filter(None, (place, field))), error.problem) from None


def _content(path: Path) -> object:
    try:
        with path.open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from None
    if len(body) > MOST_BYTES:
        raise typer.BadParameter(f"{path} has more than {MOST_BYTES:,} bytes, so it is no invoice of ours")
    try:
        text = body.decode("utf-8-sig")
        # A number with a point is a decimal, never a float.
        if path.suffix.lower() == ".toml":
            return tomllib.loads(text, parse_float=Decimal)
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise typer.BadParameter(f"{path} is no {kind} in UTF-8{where}") from None


def _line(path: Path, place: str, given: object, currency: str | None) -> "Line":
    from billing import Line, Money, UnitAmount

    asked = _fields(path, given, place, (*_OF_LINE, "period"))
    for name in ("amount_minor", "unit_amount"):
        if name in asked and currency is None:
            raise _bad(path, "currency", "is missing")
    values: dict[str, Any] = {name: value for name, value in asked.items() if name in _OF_LINE[3:]}
    if "amount_minor" in asked:
        values["amount"] = told(path, place, lambda: Money(asked["amount_minor"], str(currency)))
    if "unit_amount" in asked:
        values["unit_amount"] = told(path, place, lambda: UnitAmount(asked["unit_amount"], str(currency)))
    if "price" in asked:
        values["price"] = asked["price"]
    if "period" in asked:
        named = _fields(path, asked["period"], f"{place}.period", ("start", "end"))
        moments = [_moment(path, f"{place}.period.{name}", named.get(name)) for name in ("start", "end")]
        values["period"] = (moments[0], moments[1])
    return told(path, place, lambda: Line(asked.get("description"), **values))  # type: ignore[arg-type]


def _fields(path: Path, given: object, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise _bad(path, place, f"must be an object with fields, not {_kind(given)}")
    for name in given:
        if name not in known:
            raise _bad(path, f"{place}.{name}" if place else name, f"is not known; known are {', '.join(known)}")
    return given


def _text(path: Path, content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        raise _bad(path, name, f"must be text, not {_kind(value)}")
    return value


def _moment(path: Path, place: str, given: object) -> datetime:
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise _bad(path, place, "must be a time with its zone, such as 2026-12-31T23:00:00+01:00")
    return moment


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false", date: "a date"}
    return "nothing" if value is None else kinds.get(type(value), "a number")


def _bad(path: Path, place: str, problem: str) -> typer.BadParameter:
    return typer.BadParameter(f"{path.name}: {place} {problem}" if place else f"{path.name}: {problem}")
