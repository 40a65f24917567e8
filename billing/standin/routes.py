"""Which route is answered by whom, and what it accepts. A row here is all a new route needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .api import (
    balance,
    captures,
    charges,
    credit_notes,
    customer_balance,
    customers,
    events,
    intents,
    invoice_collection,
    invoice_items,
    invoice_lines,
    invoice_payments,
    invoices,
    payment_methods,
    payouts,
    refunds,
    search,
    webhook_endpoints,
)
from .call import Call
from .parameters import Table


class Route(NamedTuple):
    table: Table
    answer: Callable[[Call], dict[str, Any]]


ROUTES: dict[str, Route] = {
    "GET /v1/account": Route(customers.ACCOUNT, customers.account),
    "POST /v1/customers": Route(customers.CREATE, customers.create),
    "GET /v1/customers/{id}": Route(customers.GET, customers.get),
    "POST /v1/customers/{id}": Route(customers.UPDATE, customers.update),
    "DELETE /v1/customers/{id}": Route(customers.DELETE, customers.delete),
    "GET /v1/customers": Route(customers.LIST, customers.list_),
    "GET /v1/customers/{id}/payment_methods": Route(payment_methods.LIST_OF_CUSTOMER, payment_methods.list_of_customer),
    "GET /v1/customers/{id}/payment_methods/{id}": Route(payment_methods.GET, payment_methods.get_of_customer),
    "POST /v1/customers/{id}/balance_transactions": Route(customer_balance.CREATE, customer_balance.create),
    "GET /v1/customers/{id}/balance_transactions": Route(customer_balance.LIST, customer_balance.list_),
    "GET /v1/customers/{id}/balance_transactions/{id}": Route(customer_balance.GET, customer_balance.get),
    "POST /v1/payment_methods": Route(payment_methods.CREATE, payment_methods.create),
    "GET /v1/payment_methods/{id}": Route(payment_methods.GET, payment_methods.get),
    "GET /v1/payment_methods": Route(payment_methods.LIST, payment_methods.list_),
    "POST /v1/payment_methods/{id}": Route(payment_methods.UPDATE, payment_methods.update),
    "POST /v1/payment_methods/{id}/attach": Route(payment_methods.ATTACH, payment_methods.attach),
    "POST /v1/payment_methods/{id}/detach": Route(payment_methods.DETACH, payment_methods.detach),
    "POST /v1/payment_intents": Route(intents.CREATE, intents.create),
    "GET /v1/payment_intents": Route(intents.LIST, intents.list_),
    "GET /v1/payment_intents/{id}": Route(intents.GET, intents.get),
    "POST /v1/payment_intents/{id}": Route(intents.UPDATE, intents.update),
    "POST /v1/payment_intents/{id}/confirm": Route(intents.CONFIRM, intents.confirm),
    "POST /v1/payment_intents/{id}/capture": Route(captures.CAPTURE, captures.capture),
    "POST /v1/payment_intents/{id}/cancel": Route(captures.CANCEL, captures.cancel),
    "GET /v1/payment_intents/search": Route(search.PAYMENT_INTENTS.table, search.PAYMENT_INTENTS.answer),
    "GET /v1/charges": Route(charges.LIST, charges.list_),
    "GET /v1/charges/{id}": Route(charges.GET, charges.get),
    "GET /v1/charges/search": Route(search.CHARGES.table, search.CHARGES.answer),
    "GET /v1/customers/search": Route(search.CUSTOMERS.table, search.CUSTOMERS.answer),
    "GET /v1/invoices/search": Route(search.INVOICES.table, search.INVOICES.answer),
    "POST /v1/refunds": Route(refunds.CREATE, refunds.create),
    "GET /v1/refunds": Route(refunds.LIST, refunds.list_),
    "GET /v1/refunds/{id}": Route(refunds.GET, refunds.get),
    "POST /v1/refunds/{id}": Route(refunds.UPDATE, refunds.update),
    "POST /v1/refunds/{id}/cancel": Route(refunds.CANCEL, refunds.cancel),
    "GET /v1/balance": Route(balance.BALANCE, balance.balance),
    "GET /v1/balance_transactions": Route(balance.LIST, balance.list_),
    "GET /v1/balance_transactions/{id}": Route(balance.GET, balance.get),
    "GET /v1/payouts": Route(payouts.LIST, payouts.list_),
    "GET /v1/payouts/{id}": Route(payouts.GET, payouts.get),
    "POST /v1/invoices": Route(invoices.CREATE, invoices.create),
    "GET /v1/invoices": Route(invoices.LIST, invoices.list_),
    "GET /v1/invoices/{id}": Route(invoices.GET, invoices.get),
    "POST /v1/invoices/{id}": Route(invoices.UPDATE, invoices.update),
    "DELETE /v1/invoices/{id}": Route(invoices.DELETE, invoices.delete),
    "GET /v1/invoices/{id}/lines": Route(invoice_lines.LINES, invoice_lines.lines),
    "POST /v1/invoices/{id}/lines/{id}": Route(invoice_lines.UPDATE_LINE, invoice_lines.update_line),
    "POST /v1/invoices/{id}/add_lines": Route(invoice_lines.ADD_LINES, invoice_lines.add_lines),
    "POST /v1/invoices/{id}/update_lines": Route(invoice_lines.UPDATE_LINES, invoice_lines.update_lines),
    "POST /v1/invoices/{id}/remove_lines": Route(invoice_lines.REMOVE_LINES, invoice_lines.remove_lines),
    "POST /v1/invoices/{id}/finalize": Route(invoice_collection.FINALIZE, invoice_collection.finalize),
    "POST /v1/invoices/{id}/pay": Route(invoice_collection.PAY, invoice_collection.pay),
    "POST /v1/invoices/{id}/send": Route(invoice_collection.SEND, invoice_collection.send),
    "POST /v1/invoices/{id}/void": Route(invoice_collection.VOID, invoice_collection.void),
    "POST /v1/invoices/{id}/mark_uncollectible": Route(
        invoice_collection.MARK_UNCOLLECTIBLE, invoice_collection.mark_uncollectible
    ),
    "POST /v1/invoiceitems": Route(invoice_items.CREATE, invoice_items.create),
    "GET /v1/invoiceitems": Route(invoice_items.LIST, invoice_items.list_),
    "GET /v1/invoiceitems/{id}": Route(invoice_items.GET, invoice_items.get),
    "POST /v1/invoiceitems/{id}": Route(invoice_items.UPDATE, invoice_items.update),
    "DELETE /v1/invoiceitems/{id}": Route(invoice_items.DELETE, invoice_items.delete),
    "GET /v1/invoice_payments": Route(invoice_payments.LIST, invoice_payments.list_),
    "GET /v1/invoice_payments/{id}": Route(invoice_payments.GET, invoice_payments.get),
    "POST /v1/credit_notes": Route(credit_notes.CREATE, credit_notes.create),
    "GET /v1/credit_notes": Route(credit_notes.LIST, credit_notes.list_),
    "GET /v1/credit_notes/preview": Route(credit_notes.CREATE, credit_notes.preview),
    "GET /v1/credit_notes/{id}": Route(credit_notes.GET, credit_notes.get),
    "POST /v1/credit_notes/{id}": Route(credit_notes.UPDATE, credit_notes.update),
    "GET /v1/credit_notes/{id}/lines": Route(credit_notes.LINES, credit_notes.lines),
    "POST /v1/credit_notes/{id}/void": Route(credit_notes.VOID, credit_notes.void),
    "POST /v1/webhook_endpoints": Route(webhook_endpoints.CREATE, webhook_endpoints.create),
    "GET /v1/webhook_endpoints": Route(webhook_endpoints.LIST, webhook_endpoints.list_),
    "GET /v1/webhook_endpoints/{id}": Route(webhook_endpoints.GET, webhook_endpoints.get),
    "POST /v1/webhook_endpoints/{id}": Route(webhook_endpoints.UPDATE, webhook_endpoints.update),
    "DELETE /v1/webhook_endpoints/{id}": Route(webhook_endpoints.DELETE, webhook_endpoints.delete),
    "GET /v1/events": Route(events.LIST, events.list_),
    "GET /v1/events/{id}": Route(events.GET, events.get),
}


def find(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The row that answers, and the ids in the path. Every path is /v1/{things}[/{id}[/{verb}[/{id}]]]: no pattern
    is needed; a word after the things, such as `search`, is looked for before it is taken for an id."""
    exact = f"{method} {path}"
    if exact in ROUTES:
        return exact, ()
    match path.split("/"):
        case ["", "v1", things, id] if id:
            operation = f"{method} /v1/{things}/{{id}}"
        case ["", "v1", things, id, verb] if id:
            operation = f"{method} /v1/{things}/{{id}}/{verb}"
        case ["", "v1", things, id, verb, inner] if id and inner:
            operation = f"{method} /v1/{things}/{{id}}/{verb}/{{id}}"
            return (operation, (id, inner)) if operation in ROUTES else None
        case _:
            return None
    return (operation, (id,)) if operation in ROUTES else None
