"""The actions on an invoice: finalize, pay, send, void, mark uncollectible.

Transitions: docs.stripe.com/invoicing/integration/workflow-transitions; the texts of refusals are recorded ones.
"""

from stripe_standin import errors
from stripe_standin.api.customers import balances
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.objects import Invoice, Json, shown
from stripe_standin.parameters import Table, boolean, expand, text

from . import payments
from .changes import record, the_invoice
from .drafts import check_email
from .progress import HOUR, charge, finalized, method_for, settled, worth

_expand = expand(*paths("invoice"))
FINALIZE = Table({"auto_advance": boolean, "expand": _expand})
PAY = Table({"off_session": boolean, "paid_out_of_band": boolean, "payment_method": text, "expand": _expand})
SEND = Table({"expand": _expand})
VOID = Table({"expand": _expand})
MARK_UNCOLLECTIBLE = Table({"expand": _expand})

_NOT_OPEN = "You can only pass in open invoices. This invoice isn't open."
_NOT_SENT = (
    "This invoice cannot be sent right now. Please contact us via https://support.stripe.com/contact with details, "
    "so we can help."
)


def finalize(call: Call) -> Json:
    invoice = the_invoice(call, "id")
    if invoice.status != "draft":
        raise errors.wrong_state("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    invoice = invoice._replace(auto_advance=call.params.get("auto_advance", invoice.auto_advance))
    return shown(finalized(call, invoice, then_in_s=HOUR if invoice.auto_advance else None))


def pay(call: Call) -> Json:
    invoice, asked = the_invoice(call, "id"), call.params
    if invoice.status == "paid":
        raise errors.wrong_state("Invoice is already paid")
    if invoice.status == "void":
        raise errors.wrong_state(_NOT_OPEN)
    out_of_band = asked.get("paid_out_of_band", False)
    method = None if out_of_band else method_for(call, invoice, asked.get("payment_method"))
    if method is None and not out_of_band and _remains(call, invoice):
        raise errors.wrong_state("There is no `default_payment_method` set on this Customer or Invoice.")
    if invoice.status == "draft":
        invoice = finalized(call, invoice)
    if invoice.status != "paid":
        if method is None:
            _paid_out_of_band(call, invoice)
        else:
            charge(call, invoice, method)
    return shown(the_invoice(call, "id"))


def send(call: Call) -> Json:
    invoice = the_invoice(call)
    if invoice.status not in ("draft", "open"):
        raise errors.wrong_state(_NOT_SENT)
    if invoice.collection_method != "send_invoice":
        raise errors.wrong_state("You can only manually send an invoice if its collection method is 'send_invoice'.")
    if invoice.status == "draft":
        invoice = finalized(call, invoice)
    if invoice.status != "paid":
        check_email(call, invoice)
    return shown(invoice if invoice.status == "paid" else record(call, invoice, "invoice.sent", "invoice.sent"))


def void(call: Call) -> Json:
    invoice = the_invoice(call, "id")
    if invoice.status == "paid" or invoice.paid:
        # docs.stripe.com/invoicing/partial-payments: none with payments that are paid.
        raise errors.wrong_state("Invoices with `paid` payments cannot be voided.")
    if invoice.status not in ("open", "uncollectible"):
        raise errors.wrong_state(_NOT_OPEN)
    invoice = invoice._replace(status="void", auto_advance=False, advances_at=None, voided_at=call.now)
    record(call, invoice, "invoice.voided", "invoice.voided")
    payments.end(call, invoice, "void_invoice")
    applied = (invoice.ending_balance or 0) - invoice.starting_balance
    if applied and call.books.customers.get(invoice.customer):
        balances.move(call, invoice.customer, -applied, invoice.currency, "unapplied_from_invoice", invoice=invoice.id)
    return shown(invoice)


def mark_uncollectible(call: Call) -> Json:
    """Mark it uncollectible. It can still be paid or voided."""
    invoice = the_invoice(call, "id")
    if invoice.status == "uncollectible":
        raise errors.wrong_state("This invoice has already been marked uncollectible.")
    if invoice.status != "open":
        raise errors.wrong_state(_NOT_OPEN)
    invoice = invoice._replace(status="uncollectible", auto_advance=False, advances_at=None, uncollectible_at=call.now)
    return shown(record(call, invoice, "invoice.marked_uncollectible", "invoice.marked_uncollectible"))


def _paid_out_of_band(call: Call, invoice: Invoice) -> None:
    invoice = invoice._replace(paid=invoice.due, paid_out_of_band=invoice.remaining)
    invoice = settled(call, invoice, "invoice.paid_out_of_band")
    payments.end(call, invoice, "automatic")


def _remains(call: Call, invoice: Invoice) -> int:
    """The amount to be paid, or that will be when it is final."""
    customer = call.books.customers.get(invoice.customer)
    return invoice.remaining if invoice.status != "draft" or customer is None else worth(customer, invoice)[0]
