"""What Stripe's own records say of a month, as the mirror had them when it was closed: totals, and what differs.

It is stored with the month, because the mirror goes on: a refund of the next month changes nothing here.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from archive.closing.periods import Period
from billing.database import Transact

SLICE = timedelta(hours=6)
"""One short statement for each, so a month of any size is added up without a long one."""


def observed(ask: Transact, month: Period) -> dict[str, Any] | None:
    """None if nothing was ever reconciled. `compared_until`: how far; a month that is not compared to its end says so.
    `captured`, `fees` and `net` by currency in minor units: of the entries of our operations that Stripe dates into the
    month. `open`: differences by class."""
    until, differences = ask(_standing)
    if until is None:
        return None
    totals = {name: Counter[str]() for name in ("captured", "fees", "net")}
    begin = month.since
    while begin < month.until:
        end = min(month.until, begin + SLICE)
        for row in ask(partial(_totals, since=begin, until=end)):
            for name, total in totals.items():
                total[row.currency] += int(getattr(row, name))
        begin = end
    by_currency = {name: dict(sorted(total.items())) for name, total in totals.items()}
    return {"compared_until": until, **by_currency, "open": differences}


def _standing(session: Session) -> tuple[str | None, dict[str, int]]:
    differences = {row.name: row.differences for row in session.execute(_OPEN)}
    return session.execute(_COMPARED_UNTIL).scalar_one(), differences


def _totals(session: Session, since: datetime, until: datetime) -> Sequence[Row[Any]]:
    return session.execute(_TOTALS, {"since": since, "until": until}).all()


_COMPARED_UNTIL = text(
    "SELECT to_char(min(compared_until) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM billing.stripe_cursors"
    " WHERE list <> 'archive'"
)
_TOTALS = text(
    """
    SELECT e.currency, sum(e.amount_minor) AS captured, sum(e.fee_minor) AS fees, sum(e.net_minor) AS net
      FROM billing.stripe_records AS e JOIN billing.stripe_records AS c ON c.id = e.source
     WHERE e.created_at >= :since AND e.created_at < :until AND e.object = 'balance_transaction'
       AND e.type IN ('charge', 'payment') AND c.operation_id IS NOT NULL
       AND e.account IN (SELECT account FROM billing.stripe_cursors)
     GROUP BY e.currency ORDER BY e.currency
    """
)
_OPEN = text(
    "SELECT class AS name, count(*) AS differences FROM billing.differences WHERE state = 'open' GROUP BY class"
    " ORDER BY class"
)
