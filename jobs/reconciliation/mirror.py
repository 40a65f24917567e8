"""Stripe's lists are read page by page into the mirror: forward in time, from a cursor that survives a crash.

The ledger (balance transactions) is the list that leads: money cannot move at Stripe without an entry, and an entry is
dated when the money moves, not when its charge was authorized. Each entry comes with its charge, refund or payout, and
with the payment intent, whose metadata names our operation. What moves no money has lists of its own: invoices that are
only sent, and authorizations that were canceled. Of those the events are read, because an event is dated when it
happened, and names the key of the call that did it; a payment intent is listed by when it was made. So is an invoice,
which may be paid and end weeks later: its payments and its end are read from events, too. Credit notes are listed by
themselves, because most move no money; and that one is voided later, events tell.

A window of at most a day is read from its newest object to its oldest, because that is how Stripe lists; then the next
begins. It begins `OVERLAP` before the end of the last one, because Stripe may date an entry before it shows it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from billing import statements
from billing.database import Transact
from billing.events import operation_of_key
from billing.facts import OWN
from billing.gateway import Answer, Budget, Gateway, Request, Response, boot_clock, encode
from billing.steps import METADATA_KEY, Json, Unread, body_of
from billing.tables.stripe_records import StripeCursor

SQL = statements.beside(__file__)

PAGE = 100
"""Stripe lists no more at once."""
WINDOW = timedelta(days=1)
"""What is read and compared together after a long pause: it shows progress, and a crash repeats little."""
OVERLAP = timedelta(hours=2)
"""With asynchronous capture an entry may come up to an hour after its charge (docs.stripe.com/payments/
payment-intents/asynchronous-capture); as much again for clocks."""
READ_S = 8.0
"""One page. A scheduled pass stops ten seconds before its end, so that no read outlasts it."""
ENTRY = "balance_transaction"
EVENTS_KEPT = timedelta(days=29)
"""Stripe lists the events of 30 days (docs.stripe.com/api/events/list); a day for a pass that takes long."""

Row = dict[str, Any]


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


class NotRead(Exception):
    """A page of an account could not be read. What was read before it stays, and the next pass goes on from there."""

    def __init__(self, account: str, why: str, status: int | None = None) -> None:
        super().__init__(f"{account}: {why}")
        self.account, self.why, self.status = account, why, status


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


class Mirror:
    """The mirror of one account. `account`: None is that of our own key. `transact` runs a short transaction."""

    def __init__(self, gateway: Gateway, transact: Transact, account: str | None) -> None:
        self._gateway, self._transact, self._account = gateway, transact, account
        self.pages = 0

    @property
    def name(self) -> str:
        return self._account or OWN

    def cursor(self, listed: Listed, begin: datetime) -> StripeCursor:
        """How far this list was read; for one that never was, from this time on."""

        def read(session: Session) -> StripeCursor:
            values = {"account": self.name, "list": listed.name, "begin": begin}
            statements.run(session, SQL["begin_cursor"], **values)
            row = session.get_one(StripeCursor, (self.name, listed.name))
            session.expunge(row)
            return row

        return self._transact(read)

    def read_window(self, listed: Listed, cursor: StripeCursor, until: datetime, left_s: Callable[[], float]) -> bool:
        """Read the next window of this list, which ends at `until` at the latest, or go on with the one that was begun.

        False: the time was over before its end; what was read is kept. Raises NotRead.
        """
        end = cursor.window_until or min(until, cursor.covered_until + WINDOW)
        # Whole seconds, as Stripe counts. What was created in the last second of a window is in the next one, too.
        created = {"gte": _second(cursor.covered_until - OVERLAP), "lt": _second(end)}
        after = cursor.after_id
        while left_s() > 0:
            asked_at, items, more = self._page(listed, {**listed.asking, "created": created}, after)
            after = str(items[-1]["id"]) if items else None
            rows = [row for item in items for row in listed.rows(item)]
            done = {"covered_until": end, "window_until": None, "after_id": None}
            going_on = {"covered_until": cursor.covered_until, "window_until": end, "after_id": after}
            self._keep(rows, asked_at, listed, going_on if more else done)
            if not more:
                return True
        return False

    def read_payouts(self, left_s: Callable[[], float]) -> bool:
        """Note of every payout that has come which entries went out in it. False: the time was over. Raises NotRead."""
        while left_s() > 0:
            payout = self._transact(self._payout_to_read)
            if payout is None:
                return True
            self._read_payout(payout)
        return False

    def _payout_to_read(self, session: Session) -> str | None:
        return statements.run(session, SQL["payout_to_read"], account=self.name).scalar_one_or_none()

    def _read_payout(self, payout: str) -> None:
        after: str | None = None
        own: list[Row] = []
        asked_at, more = datetime.now(UTC), True
        while more:
            try:
                asked_at, items, more = self._page(LEDGER, {**LEDGER.asking, "payout": payout}, after)
            except NotRead as error:
                # Stripe knows the entries of automatic payouts only.
                if error.status != 400:
                    raise
                items, more = [], False
            after = str(items[-1]["id"]) if items else None
            rows = [{**row, "payout": payout} for item in items for row in of_entry(item) if row["object"] == ENTRY]
            own += [row for row in rows if row["source"] == payout]
            self._keep([row for row in rows if row["source"] != payout], asked_at)
        # Its own entry comes last: with it the payout counts as read.
        self._keep(own or [_without_entries(payout, asked_at)], asked_at)

    def _page(self, listed: Listed, asking: Mapping[str, Any], after: str | None) -> tuple[datetime, list[Json], bool]:
        parameters = {**asking, "limit": PAGE} | ({"starting_after": after} if after else {})
        asked_at, answer = datetime.now(UTC), self._get(f"{listed.path}?{encode(parameters)}")
        try:
            data = body_of(answer)
        except Unread as unread:
            status = answer.status if isinstance(answer, Response) else None
            raise NotRead(self.name, unread.why, status) from None
        items, more = data.get("data"), data.get("has_more")
        if not isinstance(items, list) or not isinstance(more, bool) or (more and not items):
            raise NotRead(self.name, f"{listed.path} answered with no list")
        if not all(isinstance(item.get("id"), str) for item in items):
            raise NotRead(self.name, f"{listed.path} listed an object without an id")
        self.pages += 1
        return asked_at, items, more

    def _get(self, path: str) -> Answer:
        until = boot_clock() + READ_S
        return self._gateway.send(Request("GET", path, account=self._account), Budget(until, until))

    def _keep(
        self,
        rows: Sequence[Row],
        asked_at: datetime,
        listed: Listed | None = None,
        read: Mapping[str, Any] | None = None,
    ) -> None:
        """Rows and cursor in one transaction: a page that is in the mirror is never read again, or not at all."""

        def write(session: Session) -> None:
            # Of two that show the same object on one page, the first: the newest entry is listed first.
            once = {row["id"]: row for row in reversed(rows)}
            values = {"rows": json.dumps(list(once.values())), "account": self.name, "seen_at": asked_at}
            statements.run(session, SQL["mirror"], **values)
            if listed is not None and read is not None:
                statements.run(session, SQL["read_on"], account=self.name, list=listed.name, **read)

        self._transact(write)


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


def _without_entries(payout: str, asked_at: datetime) -> Row:
    """In the place of the own entry of a payout of which Stripe lists no entries: a manual one."""
    return {
        "id": f"{payout}_entry",
        "object": ENTRY,
        "type": "payout_without_entries",
        "source": payout,
        "payout": payout,
        "created_at": asked_at.isoformat(),
    }


def _moment(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
