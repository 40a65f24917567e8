"""An invoice follows its PaymentIntent, whatever changed that: the API, the invoice, or the clock."""

from collections.abc import Callable, Mapping

from stripe_standin.call import Call
from stripe_standin.history import Event
from stripe_standin.objects import Intent, Invoice, InvoicePayment

from .changes import record
from .progress import settled


def follow(call: Call, event: Event) -> None:
    """Called for every event. Most do not matter here, so it checks the type first."""
    step = _STEPS.get(event.type)
    if step is None or not isinstance(event.row, Intent) or event.row.invoice is None:
        return
    invoice = call.books.invoices.get(event.row.invoice)
    payment = call.books.invoice_payments.get(invoice.payment or "") if invoice is not None else None
    if invoice is not None and payment is not None and (payment.intent, payment.status) == (event.row.id, "open"):
        step(call, invoice, payment, event.row)


def _succeeded(call: Call, invoice: Invoice, payment: InvoicePayment, intent: Intent) -> None:
    taken = intent.amount_received
    payment = payment._replace(status="paid", paid=taken, paid_at=call.now)
    call.event("invoice_payment.paid", call.books.invoice_payments.put(payment))
    settled(call, _attempted(invoice, 1)._replace(paid=invoice.paid + taken))


def _failed(call: Call, invoice: Invoice, payment: InvoicePayment, intent: Intent) -> None:
    record(call, _attempted(invoice, 1), "invoice.payment_failed")


def _waits(call: Call, invoice: Invoice, payment: InvoicePayment, intent: Intent) -> None:
    record(call, _attempted(invoice, 0), "invoice.payment_action_required")


def _canceled(call: Call, invoice: Invoice, payment: InvoicePayment, intent: Intent) -> None:
    call.books.invoice_payments.put(payment._replace(status="canceled", canceled_at=call.now))


def _attempted(invoice: Invoice, attempts: int) -> Invoice:
    """After the first attempt, only Stripe's own retries count (the API's `attempt_count`)."""
    return invoice._replace(attempted=True, attempt_count=max(invoice.attempt_count, attempts))


_STEPS: Mapping[str, Callable[[Call, Invoice, InvoicePayment, Intent], None]] = {
    "payment_intent.succeeded": _succeeded,
    "payment_intent.payment_failed": _failed,
    "payment_intent.requires_action": _waits,
    "payment_intent.canceled": _canceled,
}
