"""Customers, their payment methods, and their credit balance."""

from stripe_standin.call import Route, Routes

from . import balances, customers, payment_methods

ROUTES: Routes = {
    "GET /v1/account": Route(customers.ACCOUNT, customers.account),
    "POST /v1/customers": Route(customers.CREATE, customers.create),
    "GET /v1/customers/{id}": Route(customers.GET, customers.get),
    "POST /v1/customers/{id}": Route(customers.UPDATE, customers.update),
    "DELETE /v1/customers/{id}": Route(customers.DELETE, customers.delete),
    "GET /v1/customers": Route(customers.LIST, customers.list_),
    "GET /v1/customers/{id}/payment_methods": Route(payment_methods.LIST_OF_CUSTOMER, payment_methods.list_of_customer),
    "GET /v1/customers/{id}/payment_methods/{id}": Route(payment_methods.GET, payment_methods.get_of_customer),
    "POST /v1/customers/{id}/balance_transactions": Route(balances.CREATE, balances.create),
    "GET /v1/customers/{id}/balance_transactions": Route(balances.LIST, balances.list_),
    "GET /v1/customers/{id}/balance_transactions/{id}": Route(balances.GET, balances.get),
    "POST /v1/payment_methods": Route(payment_methods.CREATE, payment_methods.create),
    "GET /v1/payment_methods/{id}": Route(payment_methods.GET, payment_methods.get),
    "GET /v1/payment_methods": Route(payment_methods.LIST, payment_methods.list_),
    "POST /v1/payment_methods/{id}": Route(payment_methods.UPDATE, payment_methods.update),
    "POST /v1/payment_methods/{id}/attach": Route(payment_methods.ATTACH, payment_methods.attach),
    "POST /v1/payment_methods/{id}/detach": Route(payment_methods.DETACH, payment_methods.detach),
}
