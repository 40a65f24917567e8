"""What Stripe's own records say about one operation: the money with its fees, and where they differ from our rows."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from billing.registration import Operation
from billing.states import DIFFERENCE
from billing.tables.differences import MoneyDifference
from billing.tables.entities import Entity
from billing.tables.stripe_records import StripeRecord

MOST = 50
"""So many records of one operation are shown, the newest."""


@dataclass(frozen=True, slots=True)
class Money:
    """One object of the mirror that `billing reconcile` keeps. An entry of the ledger has fee, net and payout."""

    at: datetime
    id: str
    object: str
    type: str | None
    state: str | None
    amount_minor: int | None
    fee_minor: int | None
    net_minor: int | None
    currency: str | None
    payout: str | None


@dataclass(frozen=True, slots=True)
class Differs:
    """One difference, open or over. `what` says both sides."""

    id: str
    kind: str
    state: str
    what: str
    first_seen_at: datetime
    state_since: datetime
    closed_by: str | None
    closed_because: str | None

    @property
    def is_open(self) -> bool:
        return self.state == DIFFERENCE.first


def money_of(session: Session, operation: Operation, row: Entity) -> list[Money]:
    """The objects that name this operation or are its own, and the entries that moved their money."""
    own = [each for column in operation.found_by.values() if (each := getattr(row, column.key))]
    # Of a payment intent there may be charges of others; each names the operation that captured it.
    mine = or_(StripeRecord.operation_id == row.id, StripeRecord.id.in_(own), StripeRecord.source.in_(own))
    found = session.scalars(select(StripeRecord).where(mine).order_by(StripeRecord.created_at.desc()).limit(MOST)).all()
    return [
        Money(
            at=each.created_at,
            id=each.id,
            object=each.object,
            type=each.type,
            state=each.state,
            amount_minor=each.amount_minor,
            fee_minor=each.fee_minor,
            net_minor=each.net_minor,
            currency=each.currency,
            payout=each.payout,
        )
        for each in sorted(found, key=lambda each: (each.created_at, each.id))
    ]


def differences_of(session: Session, entity_id: str) -> list[Differs]:
    """What a comparison found about this operation, the oldest first."""
    found = select(MoneyDifference).where(MoneyDifference.subject == entity_id).order_by(MoneyDifference.id)
    return [
        Differs(
            id=each.id,
            kind=each.kind,
            state=each.state,
            what=each.what,
            first_seen_at=each.first_seen_at,
            state_since=each.state_since,
            closed_by=each.closed_by,
            closed_because=each.closed_because,
        )
        for each in session.scalars(found)
    ]
