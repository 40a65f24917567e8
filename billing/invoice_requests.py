"""Asking for an invoice: it is checked, and written once, in the caller's own transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import ids, request_ids, row_io
from billing.asking import CommonArguments, Differing, callers_session, common_arguments, write_once
from billing.errors import InvalidAmount, InvalidRequest
from billing.facts import new_fact
from billing.invoice_line_steps import LINES_OF_A_CALL
from billing.invoice_lines import Line
from billing.invoice_terms import TEXTS, AlreadyPaid, ChargeAutomatically, Collect, InvoiceTerms, SendInvoice
from billing.money import Money, known_currency, shown
from billing.provider_ids import provider_id
from billing.tables.entities import MAX_LINES, Invoice, InvoiceLine

FOR_NEWER_WORKERS = 2
"""The version of the fact, and of the contract, of an invoice that a worker from before them would refuse or carry out
wrongly: its lines take more than one call, or it has more than amounts and days."""
NO_TERMS = InvoiceTerms()
UNKNOWN_TEXT = "not known: restored from Stripe"
"""The text of a line that `billing recover` has made again of what Stripe shows."""


@dataclass(frozen=True, slots=True)
class InvoiceReceipt:
    """What was requested, true once the caller's transaction commits. `new` is False if it was requested before."""

    invoice_id: ids.InvoiceId
    request_id: str
    new: bool


def issue_invoice(
    session: Session,
    *,
    customer: str,
    lines: Iterable[Line],
    collect: Collect,
    request_id: str,
    correlation_id: str | None = None,
    account: str | None = None,
    actor: str = "application",
    currency: str | None = None,
    terms: InvoiceTerms = NO_TERMS,
) -> InvoiceReceipt:
    """Ask, inside the caller's own transaction, for an invoice to be drafted, finalized, and sent or charged by Stripe.

    `collect`: `SendInvoice`, and Stripe sends it; for a customer without an e-mail address Stripe refuses it, and it
    ends as `refused`. `ChargeAutomatically`, and Stripe charges the customer: it ends as `paid` or `unpaid`. One that
    leaves nothing to pay, because its total is 0 or a credit balance pays it, is neither, and ends as `paid`.
    `AlreadyPaid`, and nobody is asked for money: it is marked as paid. What was captured is invoiced by
    `invoice_capture`.

    1 to 250 lines, all in one currency; `currency` names it where no line does, because all have a price of Stripe's.
    `terms` are sent with it: texts, taxes, discounts, and the total that is expected. The same `request_id` again
    returns the same receipt. The request id is the default of `correlation_id`.

    Raises RequestReused (same request id, other parameters) and InvalidRequest before anything is written;
    the caller's transaction stays usable.
    """
    session = callers_session(session)
    customer = provider_id("customer", customer)
    common = common_arguments(request_id, correlation_id, account, actor)
    written, new = write_invoice(session, common, customer, collect, wanted_invoice(lines, collect, currency, terms))
    return InvoiceReceipt(ids.InvoiceId(written.id), common.request_id, new)


def write_invoice(
    session: Session,
    common: CommonArguments,
    customer: str,
    collect: Collect,
    wanted: "WantedInvoice",
    *,
    waits_for_capture: bool = False,
) -> tuple[Invoice, bool]:
    """Write what was checked, or find what was written under its request id; and whether it is new. Raises
    RequestReused. `waits_for_capture`: its only capture may not be over; the fact names it."""
    parameters = {"customer": customer, "currency": wanted.currency, "total_minor": wanted.known_minor}
    further = {"days_until_due": _days_of(collect), "terms": wanted.terms}
    row = Invoice(id=ids.new("inv"), correlation_id=common.correlation_id)
    written = write_once(
        session,
        row,
        common,
        parameters,
        further=further,
        differing=lambda first: _differing(session, first, wanted, collect),
    )
    assert written is not None, "nothing but its request id makes an invoice unique"
    if written is not row:
        return written, False
    session.execute(insert(InvoiceLine), [{"invoice_id": row.id, **line} for line in wanted.rows()])
    requested = new_fact(
        row,
        "requested",
        actor=common.actor,
        traceparent=common.traceparent,
        minor=wanted.known_minor,
        currency=wanted.currency,
        customer=customer,
        account=common.account,
        request_digest=request_ids.digest_of(common.request_id),
        lines=len(wanted.lines),
    )
    if wanted.needs_newer_workers:
        requested.version = FOR_NEWER_WORKERS
        requested.payload |= {"computed": True} if wanted.computed else {}
        requested.payload |= {"charged": True} if isinstance(collect, ChargeAutomatically) else {}
        requested.payload |= {"paid_already": True} if isinstance(collect, AlreadyPaid) else {}
        requested.payload |= {"capture": wanted.captures[0]} if waits_for_capture else {}
    # Not by the ORM, which would write and read back columns that an application's login has no rights to.
    row_io.save(session, (), [requested])
    row.total_minor = wanted.known_minor
    return row, True


@dataclass(frozen=True, slots=True)
class WantedInvoice:
    """What is asked for, checked without a database. `known_minor`: what those lines come to whose amount we know.
    `captures`: what each line was paid by, if it is paid already."""

    lines: Sequence[Line]
    currency: str
    known_minor: int
    terms: dict[str, Any] | None
    captures: Sequence[str] = ()

    @property
    def computed(self) -> bool:
        return bool((self.terms or {}).get("computed"))

    @property
    def needs_newer_workers(self) -> bool:
        """Whether an older worker would refuse it, or send something else than was asked."""
        plain = self.terms is None and all(line.details is None for line in self.lines)
        return not plain or len(self.lines) > LINES_OF_A_CALL

    def rows(self) -> list[dict[str, Any]]:
        """The lines as columns, but for the invoice's id."""
        return [
            {
                "position": position,
                "description": line.description,
                "amount_minor": line.minor,
                "details": self._details(position, line),
            }
            for position, line in enumerate(self.lines)
        ]

    def _details(self, position: int, line: Line) -> dict[str, Any] | None:
        return {**(line.details or {}), "capture": self.captures[position]} if self.captures else line.details


def wanted_invoice(
    lines: Iterable[Line],
    collect: Collect,
    currency: str | None = None,
    terms: InvoiceTerms = NO_TERMS,
    captures: Sequence[str] = (),
) -> WantedInvoice:
    """Check what is asked for. `captures`: what paid each line. Raises InvalidRequest."""
    lines = _read_once(lines)
    money = _currency(lines, currency)
    given: object = collect
    if not isinstance(given, SendInvoice | ChargeAutomatically | AlreadyPaid):
        ways = "billing.SendInvoice, billing.ChargeAutomatically or billing.AlreadyPaid"
        raise InvalidRequest("collect", f"must be {ways}, not {type(given).__name__}")
    if not isinstance(terms, InvoiceTerms):
        raise InvalidRequest("terms", f"must be billing.InvoiceTerms, not {type(terms).__name__}")
    wanted = WantedInvoice(lines, money, sum(line.minor or 0 for line in lines), terms.stored(collect, lines), captures)
    prices = any(line.price is not None for line in lines)
    if wanted.known_minor < 0 and not prices:
        raise InvalidAmount("lines", f"come to {shown(wanted.known_minor, money)}; an invoice's total is not negative")
    if wanted.known_minor > 0:
        Money(wanted.known_minor, money)
    if terms.total_minor is not None and not wanted.computed and terms.total_minor != wanted.known_minor:
        raise InvalidAmount("total_minor", f"is {terms.total_minor}, and the lines come to {wanted.known_minor}")
    return replace(wanted, known_minor=max(0, wanted.known_minor))


def _days_of(collect: Collect) -> int | None:
    return collect.days_until_due if isinstance(collect, SendInvoice) else None


def _read_once(lines: Iterable[Line]) -> list[Line]:
    """A generator can be read only once, and an endless one is not read to its end."""
    try:
        each = iter(lines)
    except TypeError:
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES} of billing.Line, not {type(lines).__name__}") from None
    return list(islice(each, MAX_LINES + 1))


def _currency(lines: Sequence[Line], given: str | None) -> str:
    if not 0 < len(lines) <= MAX_LINES:
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES}, not {'more' if lines else 'none'}")
    for line in lines:
        if not isinstance(line, Line):
            raise InvalidRequest("lines", f"must each be a billing.Line, not {type(line).__name__}")
    currencies = {line.currency for line in lines if line.currency is not None}
    if given is not None:
        currencies.add(known_currency("currency", given))
    if len(currencies) > 1:
        raise InvalidRequest("lines", f"must all be in one currency, not in {', '.join(sorted(currencies))}")
    if not currencies:
        raise InvalidRequest("currency", "must be named, because no line names it: all have prices of Stripe's")
    return currencies.pop()


def _differing(session: Session, first: Invoice, wanted: WantedInvoice, collect: Collect) -> Differing:
    """The fields in which the first request with this id differs. Texts are not repeated: an error is logged. Of an
    invoice that was made again after a restore, only the amounts of lines that Stripe has are known."""
    stored = session.execute(
        select(InvoiceLine.description, InvoiceLine.amount_minor, InvoiceLine.details)
        .where(InvoiceLine.invoice_id == first.id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    ).all()
    differing: dict[str, tuple[object, object]] = {}
    if len(stored) not in (0, len(wanted.lines)):
        differing["lines"] = len(stored), len(wanted.lines)
        return differing
    restored = all(line.description == UNKNOWN_TEXT for line in stored)
    for number, (was, now) in enumerate(zip(stored, wanted.rows(), strict=False)):
        if was.amount_minor != now["amount_minor"] and not (restored and now["amount_minor"] is None):
            differing[f"lines.{number}.amount_minor"] = was.amount_minor, now["amount_minor"]
        if restored:
            continue
        if was.description != now["description"]:
            differing[f"lines.{number}.description"] = _told(was.description), _told(now["description"], "another")
        differing |= _pairs(f"lines.{number}.", was.details or {}, now["details"] or {})
    if not restored:
        if first.days_until_due != _days_of(collect):
            differing["days_until_due"] = first.days_until_due, _days_of(collect)
        differing |= _pairs("", first.terms or {}, wanted.terms or {})
    return differing


def _pairs(before: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Differing:
    """The fields of two mappings that differ."""
    names = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    told = {name: (was.get(name), now.get(name)) for name in names if name not in _DERIVED}
    return {
        f"{before}{name}": (_told(first), _told(second, "another")) if name in TEXTS else (first, second)
        for name, (first, second) in told.items()
    }


_DERIVED = ("computed", "taxed")
"""What follows from the other terms, and from the lines."""


def _told(value: object, other: str = "a") -> str | None:
    """What is said of a text that may name a person."""
    if isinstance(value, str):
        return f"{other} text of {len(value)} characters"
    return None if value is None else f"{other} list of {len(value)}" if isinstance(value, list) else "a value"
