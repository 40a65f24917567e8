"""Charges: what the bank answered to an authorisation, and until when it may be captured."""

from . import shapes
from .call import Call
from .parameters import Table, expand
from .rows import Json

GET = Table({"expand": expand("customer", "payment_intent")})


def get(call: Call) -> Json:
    return shapes.charge(call.books.find(call.books.charges, call.ids[0], "id"))
