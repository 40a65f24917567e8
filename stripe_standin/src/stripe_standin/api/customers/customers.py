"""Customers, and the account itself."""

import re
from typing import Any

from stripe_standin import errors
from stripe_standin.call import Call
from stripe_standin.contacts import PHONE_MAX, address, email, shipping
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Customer, Json, people, shown
from stripe_standin.parameters import (
    PAGE,
    Reader,
    Table,
    expand,
    line_amount,
    list_of,
    merged,
    metadata,
    moment,
    natural,
    nested,
    one_of,
    short_text,
    text,
)

from . import balances, payment_methods

_expand = expand(*paths("customer"))
_TAX_EXEMPT = one_of("exempt", "none", "reverse")
_CUSTOMER: dict[str, Reader] = {
    "address": address,
    "balance": line_amount,
    "description": text,
    "email": email,
    "invoice_prefix": short_text(12),
    "invoice_settings": nested(Table({"default_payment_method": text})),
    "metadata": metadata,
    "name": short_text(256),
    "next_invoice_sequence": natural,
    "phone": short_text(PHONE_MAX),
    "preferred_locales": list_of(text, most=20),
    "shipping": shipping,
    "tax_exempt": lambda value, name: _TAX_EXEMPT(value or "none", name),
    "expand": _expand,
}

ACCOUNT = Table({"expand": expand()})
CREATE = Table({**_CUSTOMER, "payment_method": text})
UPDATE = Table(_CUSTOMER)
DELETE = Table({})
GET = Table({"expand": _expand})
LIST = Table({**PAGE, "created": moment, "email": text, "expand": expand(*paths("customer", data=True))})

_PLAIN = (
    *("address", "description", "email", "invoice_prefix", "name", "next_invoice_sequence", "phone"),
    *("preferred_locales", "shipping", "tax_exempt"),
)


def account(call: Call) -> Json:
    return people.account(call.books.account)


def create(call: Call) -> Json:
    asked = call.params
    customer_id = call.world.new_id("cus")
    method = None
    if asked.get("payment_method"):
        method = payment_methods.attachable(call, asked["payment_method"], "payment_method")
    customer = Customer(
        id=customer_id,
        created=call.now,
        livemode=call.books.livemode,
        email=None,
        name=None,
        phone=None,
        description=None,
        address=None,
        metadata=NO_METADATA,
        invoice_prefix=customer_id[-8:].upper(),
    )
    # The default may be the payment method of the same request, which is attached once the customer exists.
    default = asked.get("invoice_settings", {}).get("default_payment_method")
    if default is not None and (method is None or default != asked["payment_method"]):
        raise payment_methods.not_theirs(default, "invoice_settings[default_payment_method]")
    customer = call.books.customers.put(
        _asked(call, customer)._replace(default_payment_method=method.id if method is not None and default else None)
    )
    call.event("customer.created", customer)
    call.effect("customer.created", customer)
    if method is not None:
        payment_methods.keep(call, method, customer_id)
    if asked.get("balance"):
        balances.move(call, customer_id, asked["balance"], "usd", "initial")
    return shown(call.books.customers.get(customer_id) or customer)


def update(call: Call) -> Json:
    books, asked = call.books, call.params
    customer = _customer(call)
    changed = _asked(call, customer)
    if "default_payment_method" in asked.get("invoice_settings", {}):
        named = asked["invoice_settings"]["default_payment_method"]
        if named is not None:
            named = payment_methods.owned(call, named, customer.id, "invoice_settings[default_payment_method]").id
        changed = changed._replace(default_payment_method=named)
    if changed != customer:
        call.event("customer.updated", books.customers.put(changed))
    difference = asked.get("balance", customer.balance) - customer.balance
    if difference:
        balances.move(call, customer.id, difference, customer.currency or "usd", "adjustment")
    return shown(_customer(call))


def delete(call: Call) -> Json:
    """Delete the customer for good.

    Other objects keep its id, but its cards are detached (docs: api/customers/delete).
    """
    customer = _customer(call)
    payment_methods.forget(call, customer.id)
    call.books.customers.remove(customer.id)
    call.books.deleted_customers.add(customer.id)
    call.event("customer.deleted", customer)
    call.effect("customer.deleted", customer)
    return _deleted(customer.id)


def get(call: Call) -> Json:
    if call.ids[0] in call.books.deleted_customers:
        return _deleted(call.ids[0])
    return shown(call.books.find(call.books.customers, call.ids[0], "id"))


def list_(call: Call) -> Json:
    return page(call.books.customers, call.params, "/v1/customers", "email")


def _customer(call: Call) -> Customer:
    return call.books.find(call.books.customers, call.ids[0], "id")


def _asked(call: Call, customer: Customer) -> Customer:
    asked = call.params
    changes: dict[str, Any] = {name: asked[name] for name in _PLAIN if name in asked}
    if "metadata" in asked:
        changes["metadata"] = merged(customer.metadata, asked["metadata"])
    if "invoice_prefix" in asked and not re.fullmatch("[A-Z0-9]{3,12}", asked["invoice_prefix"] or ""):
        raise errors.bad_request("An invoice prefix has 3 to 12 uppercase letters or digits.", "invoice_prefix")
    return customer._replace(**changes)


def _deleted(customer_id: str) -> Json:
    return {"id": customer_id, "object": "customer", "deleted": True}
