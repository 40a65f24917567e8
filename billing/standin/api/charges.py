"""Charges: what the bank answered to an authorisation, and until when it may be captured."""

from billing.standin.call import Call
from billing.standin.objects import Json, shown
from billing.standin.parameters import Table, expand

GET = Table({"expand": expand("customer", "payment_intent")})


def get(call: Call) -> Json:
    return shown(call.books.find(call.books.charges, call.ids[0], "id"))
