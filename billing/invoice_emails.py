"""Who e-mails an invoice that is to be sent: Stripe, or this service. A setting says so for each account.

Where it is this service, nothing is sent by Stripe: the transaction that learns that an invoice is finalized writes the
row of its e-mail, once, and the invoice is `sent`, which means handed to whoever mails it. How that went, the e-mail's
own row says. The setting is read at that moment; an invoice that is finalized already is sent by Stripe.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing import ids, request_ids
from billing.facts import new_fact
from billing.invoice_row import invoice_of, money_of, move
from billing.invoice_terms import is_sent
from billing.records import CallSettings
from billing.states import InvoiceState
from billing.steps import LoadedOperation
from billing.tables.entities import Email, Entity, Invoice
from billing.tables.facts import Fact

TEMPLATE = "invoice"
_NAME = "invoice_email"


def request_id_of(invoice: str) -> str:
    """The request id of its e-mail: of this service's making, so that there is one."""
    return f"{invoice}:{_NAME}"


def begin_with(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
    """As `Operation.begins`, of an invoice: its e-mail, once it is finalized, and not paid by that."""
    row = invoice_of(loaded)
    finalized = any(fact.topic == "invoice.finalized" for fact in new)
    if not finalized or row.state != InvoiceState.FINALIZED or not is_sent(row):
        return []
    if not call_settings.mails_invoices(row.account):
        return []
    email = Email(
        id=ids.new("eml"),
        account=row.account,
        correlation_id=row.correlation_id,
        version=0,
        request_id=request_id_of(row.id),
        template=TEMPLATE,
        recipient=row.customer,
        data={"invoice": row.stripe_invoice},
    )
    requested = new_fact(
        email,
        "requested",
        template=email.template,
        recipient=email.recipient,
        locale=None,
        account=email.account,
        request_digest=request_ids.digest_of(email.request_id),
    )
    loaded.facts += [*move(loaded, InvoiceState.SENT, "sent", number=row.number, **money_of(row)), requested]
    return [email]


def shown(session: Session, row: Invoice) -> dict[str, Any]:
    """The e-mail that this service sends of it, and how that went; nothing where Stripe sends it."""
    same = Email.account.is_(None) if row.account is None else Email.account == row.account
    mine = select(Email.id, Email.state).where(same, Email.request_id == request_id_of(row.id))
    found = session.execute(mine).one_or_none()
    return {"email": f"{found.id} {found.state}"} if found is not None else {}
