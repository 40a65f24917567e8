"""Forgets Stripe's events that were matched long ago. What they started is in facts, and Stripe forgets them, too."""

import time

from sqlalchemy import Engine

from billing import database, statements

KEPT_DAYS = 30
"""As long as Stripe itself lists them (docs.stripe.com/api/events/list). An event that is sent again after that is read
anew, and does no harm: only Stripe's present state counts."""
PAGE = 5000

_FORGET = "SELECT billing.forget_events(make_interval(days => %(days)s), %(most)s)"


def forget_events(engine: Engine, *, within_s: float) -> int:
    """Remove events page by page, the oldest first, until none is old enough or the time is over. Returns how many."""
    until, forgotten = time.monotonic() + within_s, 0
    while time.monotonic() < until:
        with database.transaction(engine) as session:
            page = int(statements.run(session, _FORGET, days=KEPT_DAYS, most=PAGE).scalar_one())
        forgotten += page
        if page < PAGE:
            break
    return forgotten
