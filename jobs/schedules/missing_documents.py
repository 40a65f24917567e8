"""Asks for the documents of invoices and credit notes that have none: of before documents were kept, and what a worker
of an older version finalized or issued."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine

from billing import database, documents


def request(engine: Engine, left_s: Callable[[], float]) -> Mapping[str, Any]:
    """A page at a time, each in a transaction of its own, while there is time; the next run goes on."""
    asked, after, done = 0, "", False
    while not done and left_s() > 0:
        with database.transaction(engine) as session:
            found, after = documents.request_missing(session, after=after)
        asked, done = asked + found, not after
    return {"asked": asked, "done": done}
