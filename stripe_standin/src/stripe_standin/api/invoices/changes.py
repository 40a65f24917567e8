"""Find an invoice, change it, record the change: what the modules of invoices share."""

from stripe_standin import errors
from stripe_standin.api.customers import balances
from stripe_standin.call import Call
from stripe_standin.objects import Invoice, Line
from stripe_standin.sums import summed


def the_invoice(call: Call, param: str = "invoice") -> Invoice:
    """The invoice in the path. `param` is the name in the refusal, which differs between routes (recorded)."""
    return call.books.find(call.books.invoices, call.ids[0], param)


def editable(invoice: Invoice) -> Invoice:
    if invoice.status != "draft":
        raise not_editable()
    return invoice


def not_editable() -> errors.StripeError:
    return errors.wrong_state("Invalid invoice: This invoice is no longer editable", code="invoice_not_editable")


def with_lines(invoice: Invoice, lines: tuple[Line, ...]) -> Invoice:
    return summed(invoice, lines)


def with_balance(call: Call, invoice: Invoice) -> Invoice:
    """A draft shows the customer's present balance (API: `starting_balance`)."""
    customer = call.books.customers.get(invoice.customer)
    if invoice.status != "draft" or customer is None:
        return invoice
    return invoice._replace(starting_balance=customer.balance if balances.holds(customer, invoice.currency) else 0)


def record(call: Call, invoice: Invoice, event: str, effect: str | None = None, amount: int | None = None) -> Invoice:
    """Store this version, and make its event and its effect, whose amount is `amount` or the invoice's total."""
    invoice = with_balance(call, invoice)
    call.books.invoices.put(invoice)
    call.event(event, invoice)
    if effect is not None:
        call.effect(effect, invoice, invoice.total if amount is None else amount)
    return invoice
