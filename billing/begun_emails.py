"""An e-mail that an operation starts by itself, once, in the transaction that learns why (`Operation.begins`)."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import ids, request_ids
from billing.facts import new_fact
from billing.tables.entities import Email, Entity
from billing.tables.facts import Fact


def request_id_of(operation: str, name: str) -> str:
    """The request id of this e-mail of an operation: of this service's making, so that there is one."""
    return f"{operation}:{name}"


def begun(row: Any, name: str, template: str, recipient: str, data: dict[str, Any]) -> tuple[Email, Fact]:
    """The e-mail called `name` of this operation's row, and the fact that starts its work."""
    email = Email(
        id=ids.new("eml"),
        account=row.account,
        correlation_id=row.correlation_id,
        version=0,
        request_id=request_id_of(row.id, name),
        template=template,
        recipient=recipient,
        data=data,
    )
    requested = new_fact(
        email,
        "requested",
        template=template,
        recipient=recipient,
        locale=None,
        account=email.account,
        request_digest=request_ids.digest_of(email.request_id),
    )
    return email, requested


def standing(session: Session, row: Entity, name: str) -> str | None:
    """The id and the state of this e-mail of an operation; None where none was begun."""
    same = Email.account.is_(None) if row.account is None else Email.account == row.account
    mine = select(Email.id, Email.state).where(same, Email.request_id == request_id_of(row.id, name))
    found = session.execute(mine).one_or_none()
    return f"{found.id} {found.state}" if found is not None else None
