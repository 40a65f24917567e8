"""Customers, and the account itself."""

from billing.standin.call import Call
from billing.standin.objects import NO_METADATA, Customer, Json, people, shown
from billing.standin.parameters import Table, expand, merged, metadata, nested, short_text, text

from . import payment_methods

_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_address = nested(Table(dict.fromkeys(_ADDRESS, text)))

ACCOUNT = Table({"expand": expand()})
CREATE = Table(
    {
        "address": _address,
        "description": text,
        "email": short_text(512),
        "metadata": metadata,
        "name": short_text(256),
        "phone": short_text(20),
        "payment_method": text,
        "expand": expand(),
    }
)
GET = Table({"expand": expand()})


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
        email=asked.get("email"),
        name=asked.get("name"),
        phone=asked.get("phone"),
        description=asked.get("description"),
        address=asked.get("address"),
        metadata=merged(NO_METADATA, asked.get("metadata")),
        invoice_prefix=customer_id[-8:].upper(),
    )
    call.books.customers.put(customer)
    call.event("customer.created", customer)
    call.effect("customer.created", customer)
    if method is not None:
        payment_methods.keep(call, method, customer_id)
    return shown(customer)


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.customers, call.ids[0], "id"))
