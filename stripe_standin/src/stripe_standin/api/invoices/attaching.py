"""A payment that was made by itself is attached to an open invoice, which it pays in part or as a whole.

Sources: docs.stripe.com/api/invoices/attach_payment (one that has succeeded is credited at once);
docs.stripe.com/invoicing/partial-payments (same customer and currency, no more than what remains). Decided here: only a
payment that has succeeded can be attached.
"""

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.objects import InvoicePayment, Json, shown
from stripe_standin.parameters import Table, expand, text

from . import payments
from .changes import record, the_invoice
from .progress import settled

ATTACH = Table({"payment_intent": text, "expand": expand(*paths("invoice"))}, required=("payment_intent",))


def attach(call: Call) -> Json:
    invoice, books = the_invoice(call, "id"), call.books
    intent = books.find(books.intents, call.params["payment_intent"], "payment_intent", status=400)
    if invoice.status != "open":
        raise errors.wrong_state("You can only attach payments to open invoices. This invoice isn't open.")
    if (intent.customer, intent.currency) != (invoice.customer, invoice.currency):
        raise errors.wrong_state(
            "The PaymentIntent must have the customer and the currency of the invoice.", param="payment_intent"
        )
    if intent.status != "succeeded" or intent.invoice is not None:
        raise errors.wrong_state("This PaymentIntent cannot be attached to an invoice.", param="payment_intent")
    if intent.amount_received > invoice.remaining:
        raise errors.wrong_state(
            "The amount of the PaymentIntent is greater than what remains to be paid.", param="payment_intent"
        )
    taken = intent.amount_received
    payment = InvoicePayment(
        id=call.world.new_id("inpay"),
        created=call.now,
        livemode=invoice.livemode,
        invoice=invoice.id,
        intent=intent.id,
        currency=invoice.currency,
        requested=taken,
        status="paid",
        paid=taken,
        paid_at=call.now,
        is_default=False,
    )
    books.intents.put(intent._replace(invoice=invoice.id))
    call.event("invoice_payment.paid", books.invoice_payments.put(payment))
    invoice = invoice._replace(paid=invoice.paid + taken)
    if invoice.remaining:
        payments.keep_in_step(call, record(call, invoice, "invoice.updated"))
    else:
        settled(call, invoice._replace(attempted=True))
        payments.end(call, invoice, "automatic")
    return shown(the_invoice(call, "id"))
