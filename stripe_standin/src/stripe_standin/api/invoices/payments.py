"""Invoice payments: the PaymentIntent of a final invoice, kept in step with what remains to be paid."""

from stripe_standin.api.payments.authorizations import release
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Intent, Invoice, InvoicePayment, Json, shown
from stripe_standin.parameters import PAGE, Table, expand, moment, nested, one_of, text

GET = Table({"expand": expand(*paths("invoice_payment"))})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "invoice": text,
        "payment": nested(Table({"type": one_of("payment_intent"), "payment_intent": text}, required=("type",))),
        "status": one_of("open", "paid", "canceled"),
        "expand": expand(*paths("invoice_payment", data=True)),
    }
)


def begin(call: Call, invoice: Invoice) -> Invoice:
    """Make a PaymentIntent for what remains to be paid. It waits for a payment method."""
    books = call.books
    intent = Intent(
        id=call.world.new_id("pi"),
        created=call.now,
        livemode=invoice.livemode,
        amount=invoice.remaining,
        currency=invoice.currency,
        status="requires_payment_method",
        capture_method="automatic",
        metadata=NO_METADATA,
        customer=invoice.customer,
        statement_descriptor=invoice.statement_descriptor,
        invoice=invoice.id,
    )
    payment = InvoicePayment(
        id=call.world.new_id("inpay"),
        created=call.now,
        livemode=invoice.livemode,
        invoice=invoice.id,
        intent=intent.id,
        currency=invoice.currency,
        requested=intent.amount,
    )
    books.intents.put(intent)
    books.invoice_payments.put(payment)
    call.event("payment_intent.created", intent)
    call.effect("payment_intent.created", intent, intent.amount)
    return invoice._replace(payment=payment.id)


def intent_of(call: Call, invoice: Invoice) -> Intent | None:
    """The PaymentIntent of the default payment, while that is open."""
    payment = call.books.invoice_payments.get(invoice.payment or "")
    if payment is None or payment.status != "open":
        return None
    return call.books.intents.get(payment.intent)


def keep_in_step(call: Call, invoice: Invoice) -> None:
    """Set the payment's amount to what remains (API: `is_default`, the default payment is synchronized with it)."""
    intent = intent_of(call, invoice)
    payment = call.books.invoice_payments.get(invoice.payment or "")
    if intent is None or payment is None:
        return
    if invoice.remaining:
        call.books.intents.put(intent._replace(amount=invoice.remaining))
        call.books.invoice_payments.put(payment._replace(requested=invoice.remaining))
    else:
        end(call, invoice, "automatic")


def end(call: Call, invoice: Invoice, reason: str) -> None:
    """Cancel the intent, because nothing remains to be paid by it. That cancels the payment, too (`following`)."""
    intent = intent_of(call, invoice)
    if intent is not None:
        release(call, intent, reason, "payment_intent.canceled")


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.invoice_payments, call.ids[0], "invoice_payment"))


def list_(call: Call) -> Json:
    asked = call.params
    intent = asked.get("payment", {}).get("payment_intent")
    return page(
        call.books.invoice_payments,
        asked,
        "/v1/invoice_payments",
        "invoice",
        "status",
        where=lambda payment: intent in (None, payment.intent),
    )
