"""Which capture money is given back of, by any of its ids, and how much of it is left."""

from dataclasses import dataclass, fields

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from billing.errors import InvalidRequest, NotOurPayment, UnknownEntity
from billing.provider_ids import provider_id
from billing.states import FREES_THE_AUTHORIZATION, CaptureState
from billing.tables.entities import Capture
from billing.tables.schema import quoted
from billing.texts import opaque_id


@dataclass(frozen=True, slots=True)
class Refundable:
    """The capture of which money is given back."""

    id: str
    account: str | None
    state: str
    payment_intent: str
    currency: str
    correlation_id: str | None


def named(session: Session, account: str | None, **given: str | None) -> Refundable:
    """The capture with this `capture`, `payment_intent` or `charge`: exactly one of them is given. `account`: whose
    payment it is; None for our own, or for that of the named capture. Raises InvalidRequest, UnknownEntity and
    NotOurPayment."""
    names = {name: value for name, value in given.items() if value is not None}
    if len(names) != 1:
        raise InvalidRequest("capture", "must be given, or payment_intent or charge: one of the three")
    ((name, value),) = names.items()
    columns = [getattr(Capture, each.name) for each in fields(Refundable)]
    if name == "capture":
        capture_id = opaque_id("capture", value, 40)
        found = session.execute(select(*columns).where(Capture.id == capture_id)).one_or_none()
        if found is None:
            raise UnknownEntity(capture_id)
        if account not in (None, found.account):
            raise InvalidRequest("account", f"is not the one of the capture {capture_id}; leave it out")
        return Refundable(*found)
    value = provider_id(name, value)
    column = Capture.payment_intent if name == "payment_intent" else Capture.charge
    of_account = Capture.account.is_(None) if account is None else Capture.account == account
    # As the index has it: there may be millions of captures.
    occupying = text(f"captures.state NOT IN ({quoted(FREES_THE_AUTHORIZATION)})")
    rows = session.execute(select(*columns).where(column == value, of_account, occupying).order_by(Capture.id)).all()
    captured = [row for row in rows if row.state == CaptureState.CAPTURED]
    if len(captured) > 1:
        several = ", ".join(row.id for row in captured)
        raise InvalidRequest(name, f"was captured in several parts: {several}; say with `capture` which is meant")
    if not rows:
        raise NotOurPayment(value)
    return Refundable(*(captured or rows)[-1])


def left(session: Session, of: Refundable) -> int:
    """What may still be asked for of this capture, in minor units."""
    found = select(Capture.amount_minor - Capture.refunds_minor).where(Capture.id == of.id)
    return int(session.execute(found).scalar_one())
