"""Which route is answered by whom, and what it accepts. A row here is all a new route needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .api import charges, customers, events, intents, invoices, payment_methods
from .call import Call
from .parameters import Table


class Route(NamedTuple):
    table: Table
    answer: Callable[[Call], dict[str, Any]]


ROUTES: dict[str, Route] = {
    "GET /v1/account": Route(customers.ACCOUNT, customers.account),
    "POST /v1/customers": Route(customers.CREATE, customers.create),
    "GET /v1/customers/{id}": Route(customers.GET, customers.get),
    "POST /v1/payment_methods": Route(payment_methods.CREATE, payment_methods.create),
    "GET /v1/payment_methods/{id}": Route(payment_methods.GET, payment_methods.get),
    "POST /v1/payment_methods/{id}/attach": Route(payment_methods.ATTACH, payment_methods.attach),
    "POST /v1/payment_intents": Route(intents.CREATE, intents.create),
    "GET /v1/payment_intents": Route(intents.LIST, intents.list_),
    "GET /v1/payment_intents/{id}": Route(intents.GET, intents.get),
    "POST /v1/payment_intents/{id}/confirm": Route(intents.CONFIRM, intents.confirm),
    "POST /v1/payment_intents/{id}/capture": Route(intents.CAPTURE, intents.capture),
    "POST /v1/payment_intents/{id}/cancel": Route(intents.CANCEL, intents.cancel),
    "GET /v1/charges/{id}": Route(charges.GET, charges.get),
    "POST /v1/invoices": Route(invoices.CREATE, invoices.create),
    "GET /v1/invoices": Route(invoices.LIST, invoices.list_),
    "GET /v1/invoices/{id}": Route(invoices.GET, invoices.get),
    "DELETE /v1/invoices/{id}": Route(invoices.DELETE, invoices.delete),
    "GET /v1/invoices/{id}/lines": Route(invoices.LINES, invoices.lines),
    "POST /v1/invoices/{id}/add_lines": Route(invoices.ADD_LINES, invoices.add_lines),
    "POST /v1/invoices/{id}/finalize": Route(invoices.FINALIZE, invoices.finalize),
    "POST /v1/invoices/{id}/send": Route(invoices.SEND, invoices.send),
    "GET /v1/events": Route(events.LIST, events.list_),
    "GET /v1/events/{id}": Route(events.GET, events.get),
}


def find(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The row that answers, and the ids in the path. Every path is /v1/{things}[/{id}[/{verb}]], so no pattern is
    needed; a word after the things, such as `search`, is looked for before it is taken for an id."""
    exact = f"{method} {path}"
    if exact in ROUTES:
        return exact, ()
    match path.split("/"):
        case ["", "v1", things, id] if id:
            operation = f"{method} /v1/{things}/{{id}}"
        case ["", "v1", things, id, verb] if id:
            operation = f"{method} /v1/{things}/{{id}}/{verb}"
        case _:
            return None
    return (operation, (id,)) if operation in ROUTES else None
