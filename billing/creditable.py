"""What a credit note may take off: of which invoice, in which state, and how much of which of its lines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.errors import InvalidAmount, InvalidRequest, NotOpen, NotPaid, UnknownEntity
from billing.invoice_lines import UnitAmount
from billing.money import Money
from billing.states import IS_OPEN, InvoiceState
from billing.tables.entities import MAX_LINES, Invoice, InvoiceLine
from billing.texts import opaque_id


@dataclass(frozen=True, slots=True)
class CreditLine:
    """What is taken off one line of the invoice: `position` is its place, from 0; an `amount`, or a `quantity`.

    Raises InvalidAmount and InvalidRequest.
    """

    position: int
    amount: Money | None = None
    quantity: int | None = None

    def __post_init__(self) -> None:
        # As objects, because whoever does not check types may pass anything.
        position: object = self.position
        quantity: object = self.quantity
        if not _is_whole(position) or not 0 <= self.position < MAX_LINES:
            raise InvalidRequest("position", f"must be the place of a line on the invoice, 0 to {MAX_LINES - 1}")
        if (self.amount is None) == (quantity is None):
            raise InvalidRequest("a line", "has either an amount or a quantity")
        if self.amount is not None and not isinstance(self.amount, Money):
            raise InvalidAmount("amount", f"must be billing.Money, not {type(self.amount).__name__}")
        if quantity is not None and (not _is_whole(quantity) or self.quantity is None or self.quantity <= 0):
            raise InvalidRequest("quantity", "must be a whole number of units, 1 or more")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Credited(NamedTuple):
    """What of an invoice a request needs."""

    id: str
    account: str | None
    state: str
    currency: str
    stripe_invoice: str | None
    correlation_id: str | None
    final_minor: int
    computed: bool
    """Stripe adds taxes or takes off discounts, so its lines do not add up to what it comes to."""


def credited_invoice(session: Session, account: str | None, invoice: object) -> Credited:
    """The invoice with this id of ours. Raises UnknownEntity and InvalidRequest."""
    own = opaque_id("invoice", invoice, 40)
    row = session.execute(
        select(
            *(Invoice.id, Invoice.account, Invoice.state, Invoice.currency, Invoice.stripe_invoice),
            *(Invoice.correlation_id, Invoice.total_minor, Invoice.reckoned_minor),
            *(Invoice.discount_minor, Invoice.tax_minor),
        ).where(Invoice.id == own)
    ).one_or_none()
    if row is None:
        raise UnknownEntity(own)
    if account not in (None, row.account):
        raise InvalidRequest("account", f"is not the one of the invoice {own}; leave it out")
    final = row.total_minor if row.reckoned_minor is None else row.reckoned_minor
    return Credited(*row[:6], final, bool(row.discount_minor or row.tax_minor))


def check_state(of: Credited, settle: str) -> None:
    """Whether this settlement fits how the invoice stands here. Raises NotOpen and NotPaid."""
    if settle == "reduce":
        if of.state not in IS_OPEN or of.stripe_invoice is None:
            raise NotOpen(of.id, of.state)
    elif of.state != InvoiceState.PAID or of.stripe_invoice is None:
        raise NotPaid(of.id, of.state)


def credited_amount(
    session: Session, of: Credited, amount: Money | None, lines: Iterable[CreditLine] | None
) -> tuple[Money, dict[str, Any] | None]:
    """What is taken off, and the lines as they are stored. Raises InvalidRequest."""
    if amount is None and lines is None:
        raise InvalidRequest("amount", "or lines must be given")
    if amount is not None and not isinstance(amount, Money):
        raise InvalidAmount("amount", f"must be billing.Money, not {type(amount).__name__}")
    if amount is not None and amount.currency != of.currency:
        raise InvalidAmount("amount", f"{amount} cannot be taken off an invoice in {of.currency}")
    if lines is None:
        assert amount is not None, "one of the two is given"
        return amount, None
    named = _read_once(lines)
    if of.computed and amount is None:
        raise InvalidRequest(
            "amount",
            "must be given with lines of an invoice that has taxes or discounts: what they come to with these, as a "
            "preview shows it",
        )
    there = {line.position: line for line in _lines_of(session, of.id, [each.position for each in named])}
    stored: dict[str, Any] = {}
    for each in sorted(named, key=lambda line: line.position):
        found = there.get(each.position)
        if found is None:
            raise InvalidRequest(f"lines: position {each.position}", "is no line of this invoice")
        stored[str(each.position)] = _off(of, each, found)
    total = sum(line["minor"] for line in stored.values())
    if amount is not None and not of.computed and amount.minor != total:
        raise InvalidAmount("amount", f"is {amount.minor} minor units, and the lines add up to {total}; leave it out")
    if amount is not None:
        return amount, stored
    try:
        return Money(total, of.currency), stored
    except InvalidAmount as error:
        raise InvalidAmount("lines", f"come to an amount that {error.problem}") from None


def _read_once(lines: object) -> Sequence[CreditLine]:
    if isinstance(lines, str | Mapping) or not isinstance(lines, Iterable):
        raise InvalidRequest("lines", f"must be a list of billing.CreditLine, not {type(lines).__name__}")
    found = list(islice(lines, MAX_LINES + 1))
    if not 0 < len(found) <= MAX_LINES or not all(isinstance(each, CreditLine) for each in found):
        raise InvalidRequest("lines", f"must be 1 to {MAX_LINES} billing.CreditLine")
    if len({each.position for each in found}) < len(found):
        raise InvalidRequest("lines", "name one position twice; name each line once")
    return found


def _lines_of(session: Session, invoice_id: str, positions: Sequence[int]) -> Sequence[Any]:
    return session.execute(
        select(InvoiceLine.position, InvoiceLine.amount_minor, InvoiceLine.details).where(
            InvoiceLine.invoice_id == invoice_id, InvoiceLine.position.in_(positions)
        )
    ).all()


def _off(of: Credited, asked: CreditLine, line: Any) -> dict[str, Any]:
    """What is taken off this line, as it is stored. Raises InvalidRequest."""
    name, details = f"lines: position {asked.position}", line.details or {}
    if asked.amount is not None:
        if asked.amount.currency != of.currency:
            raise InvalidAmount(name, f"{asked.amount} cannot be taken off an invoice in {of.currency}")
        off = {"minor": asked.amount.minor}
    else:
        quantity = details.get("quantity", 1)
        if "unit_amount" not in details:
            raise InvalidRequest(name, "has no amount of a unit that is known here; give an amount instead")
        if asked.quantity is None or asked.quantity > quantity:
            raise InvalidRequest(name, f"has a quantity of {quantity}, and not {asked.quantity}")
        unit = UnitAmount(details["unit_amount"], of.currency)
        off = {"minor": unit.times(asked.quantity), "quantity": asked.quantity}
    if line.amount_minor is not None and line.amount_minor <= 0:
        raise InvalidRequest(name, "takes nothing off by itself: it is a credit, or comes to nothing")
    if line.amount_minor is not None and off["minor"] > line.amount_minor:
        raise InvalidAmount(name, f"has {line.amount_minor} minor units, and {off['minor']} were to be taken off")
    return off
