"""The books of one closed month as values: what the JSON, the page and the PDF are made of.

They hold what Postgres stored when the month was closed, and answers over the archive as it was then. So the books of a
month are the same, byte for byte, as long as the archive holds those facts and the queries are the same; `query_sha256`
says which they were.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.closing.parts import Part
from archive.closing.periods import Period
from archive.format import sealed
from archive.queries import Answer
from archive.signing.signatures import Signer
from billing.tables.closed_periods import ClosedPeriod

FORMAT = "billing-closed-month/1"


@dataclass(frozen=True, slots=True)
class Books:
    """`closed` is its row in Postgres, or how that would be if the month were closed now: then `draft` is True."""

    month: Period
    environment: str
    installation: str
    closed: ClosedPeriod
    parts: Sequence[tuple[Part, Answer]]
    draft: bool = False

    @property
    def captured(self) -> dict[str, int]:
        """Captured money by currency in minor units, over all accounts."""
        totals: Counter[str] = Counter()
        for row in self._rows("month_totals"):
            if row["what"] == "capture captured" and row["currency"] is not None and row["minor"] is not None:
                totals[row["currency"]] += row["minor"]
        return dict(sorted(totals.items()))

    @property
    def exceptions(self) -> list[tuple[str, int]]:
        """Headings of what a person should look at, with how many lines there are; without those that have none."""
        found = [(part.heading, answer.table.num_rows) for part, answer in self.parts if part.exceptions]
        return [(heading, rows) for heading, rows in found if rows]

    @property
    def assignees(self) -> Sequence[Mapping[str, Any]]:
        """Work that was in quarantine when the month was closed, each with who looks after it."""
        return list(self.closed.observed.get("quarantine", ()))

    @property
    def at_stripe(self) -> Mapping[str, Any] | None:
        """What Stripe's own records said (`archive.closing.at_stripe`); None if nothing was reconciled, or an older
        version closed the month."""
        found: Mapping[str, Any] | None = self.closed.observed.get("stripe")
        return found

    def _rows(self, query: str) -> list[dict[str, Any]]:
        return next((answer.named_rows for part, answer in self.parts if part.query == query), [])


def as_json(books: Books, files: Mapping[str, bytes], signer: Signer | None) -> bytes:
    """The books as canonical JSON, and a second line with its signature if there is a signer.

    `files`: the other files of the bundle. It names their digests, so the signature covers them, too.
    """
    closed = books.closed
    value = {
        "format": FORMAT,
        "period": closed.period,
        "since": books.month.since.isoformat(),
        "until": books.month.until.isoformat(),
        "environment": books.environment,
        "installation": books.installation,
        "draft": books.draft,
        "closed_at": closed.closed_at.isoformat(),
        "closed_by": closed.actor,
        "heads": closed.heads,
        "observed": closed.observed,
        "captured": books.captured,
        "parts": [
            {
                "query": answer.query,
                "query_sha256": answer.query_sha256,
                "heading": part.heading,
                "parameters": dict(answer.parameters),
                "rows": answer.named_rows,
            }
            for part, answer in books.parts
        ],
        "files": {name: hashlib.sha256(body).hexdigest() for name, body in sorted(files.items())},
    }
    line = sealed.line(value)
    return sealed.body(line, None if signer is None else signer.sign(line))
