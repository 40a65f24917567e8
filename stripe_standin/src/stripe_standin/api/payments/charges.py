"""Charges: the bank's answer to an authorization, until when it can be captured, and the result."""

from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import Json, shown
from stripe_standin.parameters import PAGE, Table, expand, moment, text

GET = Table({"expand": expand(*paths("charge"))})
LIST = Table(
    {
        **PAGE,
        "created": moment,
        "customer": text,
        "payment_intent": text,
        "expand": expand(*paths("charge", data=True)),
    }
)


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.charges, call.ids[0], "id"))


def list_(call: Call) -> Json:
    return page(call.books.charges, call.params, "/v1/charges", "customer", "payment_intent")
