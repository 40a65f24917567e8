"""Stripe's lists that are mirrored, and which records an item of each holds.

The ledger (balance transactions) is the list that leads: money cannot move at Stripe without an entry, and an entry is
dated when the money moves, not when its charge was authorized. Each entry comes with its charge, refund or payout, and
with the payment intent, whose metadata names our operation. What moves no money has lists of its own: invoices that are
only sent, and authorizations that were canceled. Of those the events are read, because an event is dated when it
happened, and names the key of the call that did it; a payment intent is listed by when it was made. So is an invoice,
which may be paid and end weeks later: its payments and its end are read from events, too. Credit notes are listed by
themselves, because most move no money; and that one is voided later, events tell.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.events import operation_of_key
from billing.steps import METADATA_KEY, Json

ENTRY = "balance_transaction"
EVENTS_KEPT = timedelta(days=29)
"""Stripe lists the events of 30 days (docs.stripe.com/api/events/list); a day for a pass that takes long."""

Row = dict[str, Any]
"""One record, by the columns of the mirror."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One of Stripe's lists. `kinds`: the operations that are compared with it. `rows`: the records that one item of it
    holds. `kept`: Stripe lists nothing that is older; None: it lists everything. `of_nobody`: what the ids of its own
    objects begin with, if one that names no operation is compared, too. `whole`: False of
    events, if another list is the one with which all operations of these kinds are compared."""

    name: str
    path: str
    asking: Mapping[str, Any]
    kinds: tuple[str, ...]
    rows: Callable[[Json], Iterator[Row]]
    kept: timedelta | None = None
    of_nobody: tuple[str, ...] = ()
    whole: bool = True

    def reaches(self, since: datetime, now: datetime) -> datetime:
        """From when on it can be read, if it is wanted since then."""
        return since if self.kept is None else max(since, now - self.kept)


def of_entry(item: Json) -> Iterator[Row]:
    """An entry of the ledger, and the charge, refund or payout that moved the money."""
    source = item.get("source")
    moved = source if isinstance(source, Mapping) and isinstance(source.get("id"), str) else {}
    yield _record(
        item,
        ENTRY,
        type=item.get("type"),
        amount_minor=item.get("amount"),
        fee_minor=item.get("fee"),
        net_minor=item.get("net"),
        source=moved.get("id") if isinstance(source, Mapping) else source,
        available_at=_moment(item["available_on"]) if type(item.get("available_on")) is int else None,
    )
    if (what := moved.get("object")) in ("charge", "refund", "payout"):
        yield _record(moved, str(what), amount_minor=moved.get("amount_captured" if what == "charge" else "amount"))


def of_invoice(item: Json) -> Iterator[Row]:
    yield _record(item, "invoice", amount_minor=item.get("total"))


def of_credit_note(item: Json) -> Iterator[Row]:
    """`source`: the invoice that it takes something off."""
    yield _record(item, "credit_note", amount_minor=item.get("amount"), source=item.get("invoice"))


def of_end(item: Json) -> Iterator[Row]:
    """The event itself, dated when it happened: how the invoice or the credit note `source` stood then. It stands in a
    row of its own, for events are listed from the newest to the oldest, and an older one must not change what the
    object is shown as."""
    data = item.get("data")
    ended = data.get("object") if isinstance(data, Mapping) else None
    if isinstance(ended, Mapping) and isinstance(ended.get("id"), str):
        happened = {"id": item["id"], "created": item.get("created"), "livemode": item.get("livemode")}
        about = {"type": item.get("type"), "amount_minor": ended.get("total"), "payment_intent": None}
        yield _record({**ended, **happened}, "event", source=ended["id"], **about)


def of_payment(item: Json) -> Iterator[Row]:
    """A payment of an invoice, dated when it was paid. `source`: the invoice. It names no operation; ours has the
    invoice. One that was made outside of Stripe has no payment intent."""
    data = item.get("data")
    payment = data.get("object") if isinstance(data, Mapping) else None
    if isinstance(payment, Mapping) and isinstance(payment.get("id"), str):
        within = payment.get("payment")
        made = within.get("payment_intent") if isinstance(within, Mapping) else None
        dated = {**payment, "created": item.get("created", 0), "payment_intent": made}
        yield _record(dated, "invoice_payment", amount_minor=payment.get("amount_paid"), source=payment.get("invoice"))


def of_cancellation(item: Json) -> Iterator[Row]:
    """The payment intent that an event says was canceled, and whose key did it."""
    data = item.get("data")
    intent = data.get("object") if isinstance(data, Mapping) else None
    if isinstance(intent, Mapping) and isinstance(intent.get("id"), str):
        happened = {"id": intent["id"], "created": item.get("created"), "livemode": item.get("livemode")}
        row = _record({**intent, **happened}, "payment_intent", amount_minor=intent.get("amount"))
        yield {**row, "operation_id": operation_of_key(item.get("request")), "payment_intent": intent["id"]}


LEDGER = Listed(
    "ledger",
    "/v1/balance_transactions",
    {"expand": ["data.source", "data.source.payment_intent"]},
    ("capture", "refund"),
    of_entry,
)
INVOICES = Listed("invoices", "/v1/invoices", {}, ("invoice",), of_invoice)
ENDS = ["invoice.paid", "invoice.voided", "invoice.marked_uncollectible"]
INVOICE_ENDS = Listed("invoice_ends", "/v1/events", {"types": ENDS}, ("invoice",), of_end, EVENTS_KEPT, whole=False)
INVOICE_PAYMENTS = Listed(
    *("invoice_payments", "/v1/events", {"types": ["invoice_payment.paid"]}, ("invoice",), of_payment, EVENTS_KEPT),
    whole=False,
)
CREDIT_NOTES = Listed("credit_notes", "/v1/credit_notes", {}, ("credit_note",), of_credit_note, of_nobody=("cn",))
VOIDED_NOTES = Listed(
    *("voided_credit_notes", "/v1/events", {"types": ["credit_note.voided"]}, ("credit_note",), of_end, EVENTS_KEPT),
    whole=False,
)
CANCELLATIONS = Listed(
    "cancellations", "/v1/events", {"types": ["payment_intent.canceled"]}, ("void",), of_cancellation, EVENTS_KEPT
)
LISTS = (LEDGER, INVOICES, INVOICE_ENDS, INVOICE_PAYMENTS, CREDIT_NOTES, VOIDED_NOTES, CANCELLATIONS)


def _record(item: Json, what: str, **more: Any) -> Row:
    intent = item.get("payment_intent")
    expanded = intent if isinstance(intent, Mapping) else {}
    return {
        "id": item["id"],
        "object": what,
        "livemode": item.get("livemode"),
        "state": item.get("status"),
        "currency": str(item["currency"]).upper() if "currency" in item else None,
        # A capture writes it on the intent; the charge was made before, and a refund has its own.
        "operation_id": (_operation(expanded) if what == "charge" else None) or _operation(item),
        "payment_intent": expanded.get("id") if expanded else intent,
        "created_at": _moment(item.get("created", 0)),
        **more,
    }


def _operation(item: Json) -> str | None:
    metadata = item.get("metadata")
    named = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    return named if isinstance(named, str) else None


def _moment(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()
