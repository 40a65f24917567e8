"""What one account has in one mode: its objects, its events, its effects. No other mode sees them."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from . import errors
from .history import EFFECTS, Effect, Event
from .index import Index
from .objects import (
    BalanceChange,
    BalanceTransaction,
    Charge,
    Coupon,
    CreditNote,
    Customer,
    Endpoint,
    Intent,
    Invoice,
    InvoiceItem,
    InvoicePayment,
    PaymentMethod,
    Payout,
    Price,
    Refund,
    Row,
    TaxRate,
)


class Kept(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def created(self) -> int: ...


R = TypeVar("R", bound=Kept)


class Shelf(Generic[R]):
    """Rows in order of creation. A later version of a row replaces the earlier one.

    If its objects can be searched for, the index is called for every version.
    """

    def __init__(self, noun: str, index: Index | None = None) -> None:
        self.noun = noun
        self._index = index
        self._places: dict[str, int] = {}
        self._rows: list[R | None] = []

    def put(self, row: R) -> R:
        place = self._places.get(row.id)
        before = None
        if place is None:
            self._places[row.id] = len(self._rows)
            self._rows.append(row)
        else:
            before = self._rows[place]
            self._rows[place] = row
        if self._index is not None:
            self._index.changed(row.id, before)
        return row

    def get(self, row_id: str) -> R | None:
        place = self._places.get(row_id)
        return None if place is None else self._rows[place]

    def remove(self, row_id: str) -> None:
        self._rows[self._places.pop(row_id)] = None
        # Gaps at the end are cut off, so that rows made and removed again and again take no space.
        while self._rows and self._rows[-1] is None:
            self._rows.pop()

    def newest_first(self, after: str | None = None) -> Iterator[R]:
        """Every row created before `after` (or every row), the newest first. Raises KeyError if unknown."""
        for _, row in self.below(self._places[after] if after else len(self._rows)):
            yield row

    def below(self, place: int | None) -> Iterator[tuple[int, R]]:
        """Every row below `place` (or every row) with its place, which never changes, the highest first."""
        for each in range(len(self._rows) if place is None else min(place, len(self._rows)), 0, -1):
            row = self._rows[each - 1]
            if row is not None:
                yield each - 1, row

    def oldest_first(self, after: str) -> Iterator[R]:
        """Every row created after `after`, the oldest first. Raises KeyError if unknown."""
        for place in range(self._places[after] + 1, len(self._rows)):
            row = self._rows[place]
            if row is not None:
                yield row

    def __len__(self) -> int:
        return len(self._places)


class Books:
    """One account in one mode. `effects` and `index` are shared by all books of a world: effects have one order."""

    def __init__(self, account: str, livemode: bool, effects: list[Effect], index: Index) -> None:
        self.account = account
        self.livemode = livemode
        self.effects = effects
        self.customers = Shelf[Customer]("customer", index)
        self.payment_methods = Shelf[PaymentMethod]("PaymentMethod")
        self.intents = Shelf[Intent]("payment_intent", index)
        self.charges = Shelf[Charge]("charge", index)
        self.refunds = Shelf[Refund]("refund")
        self.balance_transactions = Shelf[BalanceTransaction]("balance transaction")
        self.payouts = Shelf[Payout]("payout")
        # By currency, the ids of the entries that have not gone out; and the last midnight for which a payout is noted.
        self.unpaid: dict[str, list[str]] = {}
        self.payday = 0
        self.deleted_customers: set[str] = set()
        self.balance_changes = Shelf[BalanceChange]("customer balance transaction")
        self.invoices = Shelf[Invoice]("invoice", index)
        self.invoice_items = Shelf[InvoiceItem]("Invoice Item")
        self.invoice_payments = Shelf[InvoicePayment]("invoice_payment")
        self.credit_notes = Shelf[CreditNote]("credit note")
        # The last previews, whose lines can be read.
        self.previews: dict[str, Invoice] = {}
        self.prices = Shelf[Price]("price")
        self.tax_rates = Shelf[TaxRate]("tax rate")
        self.coupons = Shelf[Coupon]("coupon")
        self.events = Shelf[Event]("event")
        self.endpoints = Shelf[Endpoint]("webhook endpoint")
        # By event, the endpoints to which it has not been delivered yet.
        self.undelivered: dict[str, set[str]] = {}
        self.invoice_numbers: set[str] = set()
        self.other_mode: Books | None = None

    def find(self, shelf: Shelf[R], row_id: str, param: str, *, status: int = 404) -> R:
        """The row with this id. Raises Stripe's refusal: 404 for an id in the path, 400 for one in a parameter."""
        row = shelf.get(row_id)
        if row is None:
            raise errors.no_such(shelf.noun, row_id, param, status=status, other_mode=self._seen_in(shelf, row_id))
        return row

    def _seen_in(self, shelf: Shelf[R], row_id: str) -> str | None:
        if self.other_mode is None:
            return None
        for other in vars(self.other_mode).values():
            if isinstance(other, Shelf) and other.noun == shelf.noun and other.get(row_id):
                return "live" if self.other_mode.livemode else "test"
        return None

    def note_effect(
        self, kind: str, row: Row, amount: int | None, created: int, request_id: str | None, key: str | None
    ) -> None:
        assert kind in EFFECTS, kind
        self.effects.append(Effect(kind, row, amount, self.account, created, request_id, key))
