"""The API: one module for each kind of object, with the parameters of its routes and what they do.

A new route needs only a row in ROUTES.
"""

from stripe_standin.call import Route, Routes

from . import catalog, customers, events, invoices, ledger, payments, search, webhook_endpoints

ROUTES: Routes = {
    **customers.ROUTES,
    **payments.ROUTES,
    **ledger.ROUTES,
    **invoices.ROUTES,
    **catalog.ROUTES,
    "GET /v1/payment_intents/search": Route(search.PAYMENT_INTENTS.table, search.PAYMENT_INTENTS.answer),
    "GET /v1/charges/search": Route(search.CHARGES.table, search.CHARGES.answer),
    "GET /v1/customers/search": Route(search.CUSTOMERS.table, search.CUSTOMERS.answer),
    "GET /v1/invoices/search": Route(search.INVOICES.table, search.INVOICES.answer),
    "POST /v1/webhook_endpoints": Route(webhook_endpoints.CREATE, webhook_endpoints.create),
    "GET /v1/webhook_endpoints": Route(webhook_endpoints.LIST, webhook_endpoints.list_),
    "GET /v1/webhook_endpoints/{id}": Route(webhook_endpoints.GET, webhook_endpoints.get),
    "POST /v1/webhook_endpoints/{id}": Route(webhook_endpoints.UPDATE, webhook_endpoints.update),
    "DELETE /v1/webhook_endpoints/{id}": Route(webhook_endpoints.DELETE, webhook_endpoints.delete),
    "GET /v1/events": Route(events.LIST, events.list_),
    "GET /v1/events/{id}": Route(events.GET, events.get),
}
