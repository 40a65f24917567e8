"""Which captures stand on which invoices: what an export of ours, and one of the archive, says of that.

Each is a line beside those of the effects. Of ours it names a place of an invoice twice: by the row of the capture that
is invoiced there, and by the line of the invoice. A proof compares the two, and both with the archive.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from archive.proving.exports import Line
from archive.proving.kinds import asked_at
from billing import invoices, statements

SQL = statements.beside(__file__)

KIND = invoices.OPERATION.kind
"""The kind of requests that have such places."""
TOPIC = "capture.invoiced"
"""The fact that tells the archive on which invoice a capture is."""
PURGED = 0
"""The number of the batch of a fact that is no longer in Postgres: it is in the archive, in a batch that is over."""


def places(session: Session, of: Sequence[str]) -> Mapping[str, list[Line]]:
    """The places of these invoices that are a capture's, by invoice; empty for one that is of none.

    `batch`: of the fact that tells of it; null if no archiver has taken it yet. `taken`: what the capture took, if its
    state is that it took it.
    """
    found: dict[str, list[Line]] = {}
    for row in statements.run(session, SQL["places"], invoices=list(of)) if of else ():
        batch = row.batch if row.in_postgres or not row.told else PURGED
        place = {
            "invoice": row.invoice,
            "position": row.position,
            **{name: getattr(row, name) for name in ("capture", "minor", "currency", "account", "state")},
            **{name: getattr(row, name) for name in ("taken", "taken_in", "line_of", "line_minor")},
            "batch": batch,
        }
        found.setdefault(row.invoice, []).append(place)
    return found


def told(facts: Iterator[tuple[str, int | None, str | None, Mapping[str, Any]]]) -> Iterator[Line]:
    """What the archive tells: for each such fact of a capture (id, minor, currency, payload) its place."""
    for capture, minor, currency, payload in facts:
        invoice = payload.get("invoice")
        yield {
            "told_of": capture,
            "invoice": invoice,
            "line": payload.get("line"),
            "minor": minor,
            "currency": currency,
            "asked": asked_at(invoice),
        }
