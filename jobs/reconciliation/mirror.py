"""Stripe's lists (`jobs.reconciliation.lists`) are read page by page into the mirror: forward in time, from a cursor
that survives a crash.

A window of at most a day is read from its newest object to its oldest, because that is how Stripe lists; then the next
begins. It begins `OVERLAP` before the end of the last one, because Stripe may date an entry before it shows it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from billing import statements
from billing.database import Transact
from billing.facts import OWN
from billing.gateway import Answer, Budget, Gateway, Request, Response, boot_clock, encode
from billing.steps import Json, Unread, body_of
from billing.tables.stripe_records import StripeCursor
from jobs.reconciliation.lists import ENTRY, LEDGER, Listed, Row, of_entry

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


class NotRead(Exception):
    """A page of an account could not be read. What was read before it stays, and the next pass goes on from there."""

    def __init__(self, account: str, why: str, status: int | None = None) -> None:
        super().__init__(f"{account}: {why}")
        self.account, self.why, self.status = account, why, status


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


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
