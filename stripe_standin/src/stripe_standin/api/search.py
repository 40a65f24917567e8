"""Search: PaymentIntents, charges, customers and invoices, found by what they were a while ago.

An object is shown as it is now. It may no longer match the query, so the caller has to check it.
Source: docs.stripe.com/search (query fields; a status is matched as it is cached); stripe/stripe-js#663.
"""

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stripe_standin import errors, queries
from stripe_standin.books import Books, Shelf
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import limit_of
from stripe_standin.objects import Json, shown
from stripe_standin.parameters import Table, expand, integer, text
from stripe_standin.queries import NUMERIC, STRING, TOKEN, Field, Query, at

TOTAL_COUNT = "total_count"  # in the answer only if it is expanded (docs.stripe.com/api/pagination/search)


@dataclass(frozen=True)
class Search:
    """How one kind of object is searched for. `name` is its value of `object`."""

    name: str
    shelf: Callable[[Books], Shelf[Any]]
    fields: Mapping[str, Field]

    @property
    def things(self) -> str:
        return f"{self.name}s"

    @property
    def table(self) -> Table:
        expandable = expand(TOTAL_COUNT, *paths(self.name, data=True))
        return Table({"query": text, "limit": integer, "page": text, "expand": expandable}, required=("query",))

    def answer(self, call: Call) -> Json:
        asked = call.params
        limit = limit_of(asked)
        query = queries.parse(asked["query"], self.fields, self.things)
        below = _place(asked["page"], asked["query"]) if asked.get("page") else None
        found: list[Json] = []
        next_page = None
        last = 0
        for place, row in self._matching(call, query, below):
            if len(found) == limit:
                next_page = _token(last, asked["query"])
                break
            found.append(shown(row))
            last = place
        url = f"/v1/{self.things}/search"
        more = next_page is not None
        result = {"object": "search_result", "data": found, "has_more": more, "next_page": next_page, "url": url}
        if TOTAL_COUNT in asked.get("expand", ()):
            result[TOTAL_COUNT] = sum(1 for _ in self._matching(call, query, None))
            # This is no id to be expanded.
            asked["expand"] = [field for field in asked["expand"] if field != TOTAL_COUNT]
        return result

    def _matching(self, call: Call, query: Query, below: int | None) -> Iterator[tuple[int, Any]]:
        """Objects that matched when the index last looked, the newest first, each with its place among the rows."""
        behind = call.world.index.behind()
        for place, row in self.shelf(call.books).below(below):
            known = behind.get(row.id, row)
            if known is not None and query.matches(shown(known)):
                yield place, row


def _refunded(charge: Json) -> bool | None:
    """Null if nothing could be refunded."""
    refunded: bool = charge["refunded"]
    return refunded if charge["captured"] else None


_CARD = [f"payment_method_details.card.{name}" for name in ("brand", "exp_month", "exp_year", "fingerprint", "last4")]

CHARGES = Search(
    "charge",
    lambda books: books.charges,
    {
        **at(NUMERIC, "amount", "created"),
        **at(TOKEN, "billing_details.address.postal_code", "currency", "customer", "disputed", "metadata", "status"),
        **at(TOKEN, *_CARD),
        "refunded": Field(TOKEN, _refunded),
    },
)
CUSTOMERS = Search(
    "customer",
    lambda books: books.customers,
    {**at(NUMERIC, "created"), **at(STRING, "email", "name", "phone"), **at(TOKEN, "metadata")},
)
INVOICES = Search(
    "invoice",
    lambda books: books.invoices,
    {
        **at(NUMERIC, "created", "total"),
        **at(STRING, "number", "receipt_number", "status"),
        **at(TOKEN, "currency", "customer", "metadata"),
        **at(STRING, subscription="parent.subscription_details.subscription"),
        **at(TOKEN, last_finalization_error_code="last_finalization_error.code"),
        **at(TOKEN, last_finalization_error_type="last_finalization_error.type"),
    },
)
PAYMENT_INTENTS = Search(
    "payment_intent",
    lambda books: books.intents,
    {**at(NUMERIC, "amount", "created"), **at(TOKEN, "currency", "customer", "metadata", "status")},
)


def _token(place: int, query: str) -> str:
    """The token of the next page. It is valid for the same query only."""
    return urlsafe_b64encode(f"{place}.{zlib.crc32(query.encode())}".encode()).decode()


def _place(token: str, query: str) -> int:
    try:
        place = int(urlsafe_b64decode(token.encode()).partition(b".")[0])
    except ValueError:
        place = -1
    if place < 0 or _token(place, query) != token:
        raise errors.bad_request("This is no `next_page` of this search.", "page")
    return place
