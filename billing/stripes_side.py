"""What Stripe says about one operation: its events, the money with its fees, and where its records differ from our
rows."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from billing.registration import Operation
from billing.states import DIFFERENCE
from billing.tables.differences import MoneyDifference
from billing.tables.entities import Entity
from billing.tables.received_events import ReceivedEvent
from billing.tables.stripe_records import StripeRecord

MOST = 50
"""So many records or events of one operation are shown, the newest."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of the inbox that was matched with the operation. `source`: a webhook, or the sweep of what webhooks
    missed."""

    at: datetime
    id: str
    type: str
    object_id: str | None
    created_at: datetime
    source: str


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
    """One difference, open or over. `what` says both sides. `subject`: the operation, or Stripe's id of what is not
    known here."""

    id: str
    kind: str
    state: str
    what: str
    subject: str
    stripe_id: str | None
    first_seen_at: datetime
    state_since: datetime
    closed_by: str | None
    closed_because: str | None

    @property
    def is_open(self) -> bool:
        return self.state == DIFFERENCE.first

    @property
    def told(self) -> str:
        """Both sides, and what to look for at Stripe."""
        return self.what if self.stripe_id is None else f"{self.what} (at Stripe: {self.stripe_id})"


def events_of(session: Session, entity_id: str) -> list[Heard]:
    """The events that were matched with this operation, the oldest first."""
    mine = select(ReceivedEvent).where(ReceivedEvent.matched_with == entity_id)
    found = session.scalars(mine.order_by(ReceivedEvent.received_at.desc()).limit(MOST)).all()
    return [
        Heard(each.received_at, each.id, each.type, each.object_id, each.created_at, each.source)
        for each in reversed(found)
    ]


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
    return [_differs(each) for each in session.scalars(found)]


def difference(session: Session, difference_id: str) -> Differs | None:
    """The difference with this id; None if there is none."""
    found = session.get(MoneyDifference, difference_id)
    return None if found is None else _differs(found)


def _differs(row: MoneyDifference) -> Differs:
    return Differs(
        id=row.id,
        kind=row.kind,
        state=row.state,
        what=row.what,
        subject=row.subject,
        stripe_id=row.stripe_id,
        first_seen_at=row.first_seen_at,
        state_since=row.state_since,
        closed_by=row.closed_by,
        closed_because=row.closed_because,
    )
