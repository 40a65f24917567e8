"""Who e-mails an invoice that is to be sent: Stripe, or this service. A setting says so for each account.

Where it is this service, nothing is sent by Stripe: the transaction that learns that an invoice is finalized writes the
row of its e-mail, once, and the invoice is `sent`, which means handed to whoever mails it. How that went, the e-mail's
own row says. The setting is read at that moment; an invoice that is finalized already is sent by Stripe.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from billing.begun_emails import begun, standing
from billing.call_settings import CallSettings
from billing.invoice_row import invoice_of, money_of, move
from billing.invoice_terms import is_sent
from billing.states import InvoiceState
from billing.steps import LoadedOperation
from billing.tables.entities import Entity, Invoice
from billing.tables.facts import Fact

TEMPLATE = "invoice"
NAME = "invoice_email"


def begin_with(loaded: LoadedOperation, new: Sequence[Fact], call_settings: CallSettings) -> list[Entity]:
    """As `Operation.begins`, of an invoice: its e-mail, once it is finalized, and not paid by that."""
    row = invoice_of(loaded)
    finalized = any(fact.topic == "invoice.finalized" for fact in new)
    if not finalized or row.state != InvoiceState.FINALIZED or not is_sent(row):
        return []
    if not call_settings.mails_invoices(row.account):
        return []
    email, requested = begun(row, NAME, TEMPLATE, row.customer, {"invoice": row.stripe_invoice})
    loaded.facts += [*move(loaded, InvoiceState.SENT, "sent", number=row.number, **money_of(row)), requested]
    return [email]


def shown(session: Session, row: Invoice) -> dict[str, Any]:
    """The e-mail that this service sends of it, and how that went; nothing where Stripe sends it."""
    email = standing(session, row, NAME)
    return {} if email is None else {"email": email}
