"""The steps of an invoice: finalized, charged, paid, overdue; on request, or by itself after an hour or at its due
date.

Source: docs.stripe.com/invoicing/integration/automatic-advancement-collection.
"""

from stripe_standin import errors
from stripe_standin.api.customers import balances, payment_methods
from stripe_standin.api.payments.authorizations import authorize
from stripe_standin.call import Call
from stripe_standin.objects import Customer, Invoice, PaymentMethod, shown
from stripe_standin.parameters import AMOUNT_MAX

from . import payments
from .changes import record, with_lines

DAY, HOUR = 86_400, 3_600
LEAST = {
    **dict.fromkeys(("usd", "aud", "brl", "cad", "chf", "eur", "inr", "jpy", "nzd", "sgd"), 50),
    "gbp": 30,
    "bgn": 100,
    "dkk": 250,
    "nok": 300,
    "sek": 300,
    "hkd": 400,
    "mxn": 1_000,
    "thb": 1_000,
    "aed": 200,
    "myr": 200,
    "pln": 200,
    "ron": 200,
    "czk": 1_500,
    "huf": 17_500,
}
"""The smallest charge in minor units, of an account that settles in this currency
(docs.stripe.com/currencies#minimum-and-maximum-charge-amounts). Here every account does; others have none."""


def finalized(call: Call, invoice: Invoice, *, then_in_s: int | None = None) -> Invoice:
    """Finalize a draft: give it a number, apply the balance, make its payment. `then_in_s`: when it advances by itself.

    If nothing remains to be paid, it is paid: Stripe does not keep such an invoice open. Nor one that is smaller than a
    charge may be: that is added to the customer's balance, for the next invoice (docs.stripe.com/api/invoices).
    """
    books = call.books
    customer = books.find(books.customers, invoice.customer, "customer", status=400)
    if invoice.automatic_tax:
        # Computed anew, because the customer may have moved.
        invoice = with_lines(invoice._replace(buyer=customer), invoice.lines)
        if not (customer.address or {}).get("country"):
            raise errors.tax_location_invalid()
    due, before, after = worth(customer, invoice)
    if due > AMOUNT_MAX:
        raise errors.wrong_state("Amount must be no more than 99999999.", code="amount_too_large")
    if invoice.total < 0 and not balances.holds(customer, invoice.currency):
        raise errors.wrong_state(
            "The total of this invoice is negative, and the customer's balance is in another currency."
        )
    days = invoice.days_until_due
    invoice = invoice._replace(
        status="open",
        buyer=customer,
        number=_numbered(call, customer, invoice),
        due=due,
        starting_balance=before,
        ending_balance=after,
        due_date=invoice.due_date if days is None else call.now + days * DAY,
        effective_at=invoice.effective_at or call.now,
        finalized_at=call.now,
        advances_at=None,
    )
    if after != before:
        kind = "invoice_too_small" if not due and after > 0 else "applied_to_invoice"
        balances.move(call, customer.id, after - before, invoice.currency, kind, invoice=invoice.id)
    if due:
        invoice = payments.begin(call, invoice)
        if then_in_s is not None:
            invoice = _advancing(call, invoice, call.now + then_in_s)
        if invoice.due_date is not None:
            call.world.agenda.note(max(invoice.due_date, call.now), overdue, books, invoice.id)
    record(call, invoice, "invoice.finalized", "invoice.finalized")
    return invoice if due else settled(call, invoice._replace(attempted=True))


def settled(call: Call, invoice: Invoice, effect: str = "invoice.paid") -> Invoice:
    """Mark it paid."""
    invoice = invoice._replace(status="paid", paid_at=call.now, auto_advance=False, advances_at=None)
    record(call, invoice, "invoice.paid", effect, invoice.paid)
    call.event("invoice.payment_succeeded", invoice)
    return invoice


def charge(call: Call, invoice: Invoice, method: PaymentMethod) -> None:
    """Ask the bank. The invoice gets the result through `following`.

    If the bank wants 3-D Secure, that is no decline here, even off session: the intent waits for the customer
    (stripe/stripe-node#628; docs.stripe.com/billing/subscriptions/event-destinations).
    """
    intent = payments.intent_of(call, invoice)
    assert intent is not None  # something remains to be paid, so there is an intent
    intent = authorize(call, intent._replace(payment_method=method.id), method, off_session=False)
    if intent.status == "requires_action":
        raise errors.invoice_requires_action(shown(intent))


def method_for(call: Call, invoice: Invoice, named: str | None) -> PaymentMethod | None:
    """The payment method in the request, or the invoice's, or the customer's default (docs: default_payment_method)."""
    customer = call.books.customers.get(invoice.customer)
    default = customer.default_payment_method if customer is not None else None
    chosen = named or invoice.default_payment_method or default
    return payment_methods.for_payment(call, chosen, invoice.customer) if chosen else None


def worth(customer: Customer, invoice: Invoice) -> tuple[int, int, int]:
    """The amount to be paid of a draft, and the customer's balance before and after that, in minor units."""
    if not balances.holds(customer, invoice.currency):
        return max(invoice.total, 0), 0, 0
    owed = invoice.total + customer.balance
    if owed < LEAST.get(invoice.currency, 0):
        return 0, customer.balance, owed
    return owed, customer.balance, 0


def _numbered(call: Call, customer: Customer, invoice: Invoice) -> str:
    books, number = call.books, invoice.number
    while number is None or (number != invoice.number and number in books.invoice_numbers):
        number = f"{customer.invoice_prefix}-{customer.next_invoice_sequence:04}"
        customer = books.customers.put(customer._replace(next_invoice_sequence=customer.next_invoice_sequence + 1))
    books.invoice_numbers.add(number)
    return number


def scheduled(call: Call, invoice: Invoice) -> Invoice:
    """Schedule a draft that advances by itself: an hour after it was made, plus a second (recorded twice)."""
    if not invoice.auto_advance:
        return invoice._replace(advances_at=None)
    if invoice.status == "draft":
        return _advancing(call, invoice, invoice.created + HOUR + 1)
    return _advancing(call, invoice, call.now + HOUR)


def advance(call: Call) -> None:
    """Finalize it if it is a draft, then charge or send it. There is one attempt: retries are not modeled."""
    invoice = call.books.invoices.get(call.ids[0])
    if invoice is None or invoice.advances_at is None or invoice.advances_at > call.now:
        return
    invoice = invoice._replace(advances_at=None)
    if invoice.status == "draft":
        try:
            invoice = finalized(call, invoice)
        except errors.StripeError:
            record(call, invoice, "invoice.finalization_failed")
            return
    else:
        call.books.invoices.put(invoice)
    if invoice.status != "open":
        return
    if invoice.collection_method == "send_invoice":
        record(call, invoice, "invoice.sent", "invoice.sent")
        return
    try:
        method = method_for(call, invoice, None)
        if method is not None:
            charge(call, invoice, method)
    except errors.StripeError:
        # There is no request to answer: the events show the result.
        return


def overdue(call: Call) -> None:
    invoice = call.books.invoices.get(call.ids[0])
    if invoice is not None and invoice.status == "open":
        call.event("invoice.overdue", invoice)


def _advancing(call: Call, invoice: Invoice, at: int) -> Invoice:
    call.world.agenda.note(max(at, call.now), advance, call.books, invoice.id)
    return invoice._replace(advances_at=at)
