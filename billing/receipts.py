"""Receipts that start by themselves: an e-mail to the customer once money was taken, or given back.

Whether this service sends them, a setting says for each account. The transaction that learns that a capture took the
money, or that a refund succeeded, writes the row of the e-mail, however it learns it: by the answer, a look, an event
or the sweep. Its request id is made of the operation's, so there is one. To whom: the customer of the payment, whose
id Stripe's answer to the capture names; the address is read when the e-mail is sent. A payment without a customer gets
none, which is a fact of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from billing.begun_emails import begun, standing
from billing.call_settings import CallSettings
from billing.facts import OWN, new_fact
from billing.provider_ids import IdKind, is_id
from billing.steps import Json, LoadedOperation
from billing.tables.entities import Capture, Entity, Invoice, Refund
from billing.tables.facts import Fact

NO_CUSTOMER = "no_customer"
"""Why: the payment has no customer at Stripe, or it was taken before its customer was kept."""
NAME = "receipt"


class Payer(NamedTuple):
    """The customer to whom a refund goes: a part of that refund."""

    customer: str


def customer_of(intent: Json) -> str | None:
    """The customer that Stripe's answer about a payment intent names; None if it names none."""
    found = intent.get("customer")
    return found if is_id(IdKind.CUSTOMER, found) else None


def payers(session: Session, rows: Sequence[Refund]) -> Iterator[tuple[str, Payer]]:
    """As `Operation.parts`: of refunds that have not ended, whose money it is. Nothing is read for the others."""
    under_way = [row.id for row in rows if not row.life.is_final(row.state)]
    if not under_way:
        return
    customer = func.coalesce(Capture.customer, Invoice.customer)
    of = select(Refund.id, customer).outerjoin(Capture, Capture.id == Refund.capture_id)
    found = of.outerjoin(Invoice, Invoice.id == Refund.invoice_id).where(
        Refund.id.in_(under_way), customer.is_not(None)
    )
    for owner, named in session.execute(found):
        yield owner, Payer(named)


def begins(
    ended_well: str, template: str, customer: Callable[[LoadedOperation], str | None]
) -> Callable[[LoadedOperation, Sequence[Fact], CallSettings], list[Entity]]:
    """`Operation.begins` of a kind that has receipts: one with this template, once a new fact has the topic
    `ended_well`."""

    def begin_with(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
        row: Any = loaded.row
        if not any(fact.topic == ended_well for fact in new) or not call_settings.mails_receipts(row.account):
            return []
        named = customer(loaded)
        if named is None:
            loaded.facts.append(new_fact(row, "no_receipt", account=row.account or OWN, why=NO_CUSTOMER))
            return []
        email, requested = begun(row, NAME, template, named, data_of(row))
        loaded.facts.append(requested)
        return [email]

    return begin_with


def payer(loaded: LoadedOperation) -> str | None:
    """The customer of this refund, as `payers` has found it."""
    return next((each.customer for each in loaded.parts if isinstance(each, Payer)), None)


def data_of(row: Any) -> dict[str, Any]:
    """What the receipt of this capture or refund shows: the amount, and the day (in UTC) on which it was known."""
    amount = {"minor": row.amount_minor, "currency": row.currency}
    return {"amount": amount, "date": row.state_since.astimezone(UTC).date().isoformat()}


def shown(session: Session, row: Entity) -> dict[str, Any]:
    """Its receipt, and how that went; nothing where none was begun."""
    receipt = standing(session, row, NAME)
    return {} if receipt is None else {"receipt": receipt}
