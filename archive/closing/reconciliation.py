"""Compares what Postgres holds of a month with what the archive says of it, batch by batch: facts, and captured money.

Each batch is one short statement over a range of ids, so a month of any size is compared without a long one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from archive.closing.periods import Period
from archive.format.manifests import Manifest
from billing.database import Transact
from billing.tables.facts import RETENTION_CLASS

PAGE = 50
"""Batches that one statement counts: of 10,000 facts each, it takes a fraction of a second."""


@dataclass(slots=True)
class Side:
    """What one of the two says: facts by class, and captured money in minor units by currency."""

    facts: Counter[str] = field(default_factory=Counter)
    captured: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Reconciliation:
    """Both sides of a month, and one line for each batch in which they differ."""

    postgres: Side = field(default_factory=Side)
    archive: Side = field(default_factory=Side)
    differences: list[str] = field(default_factory=list)


def reconcile(
    ask: Transact, month: Period, chains: dict[str, Sequence[Manifest]], progress: Callable[[int, int], None]
) -> Reconciliation:
    """Compare the batches of this month. `chains`: the verified manifests of each class, in order.

    `progress` is called with how many batches were compared, and how many there are.
    """
    found = Reconciliation()
    wanted = [
        manifest
        for name in sorted(chains)
        for manifest in chains[name]
        if month.first_day.isoformat() <= manifest.event_date < month.next_first_day.isoformat()
    ]
    for begin in range(0, len(wanted), PAGE):
        page = wanted[begin : begin + PAGE]
        ours = ask(lambda session, page=page: _counted(session, page))  # type: ignore[misc]
        for manifest in page:
            _compare(found, manifest, *ours.get((manifest.retention_class, manifest.number), (0, Counter())))
        progress(begin + len(page), len(wanted))
    return found


def _compare(found: Reconciliation, manifest: Manifest, facts: int, captured: Counter[str]) -> None:
    name = manifest.retention_class
    found.postgres.facts[name] += facts
    found.archive.facts[name] += manifest.rows
    found.postgres.captured += captured
    found.archive.captured += Counter(manifest.captured)
    if (facts, captured) != (manifest.rows, Counter(manifest.captured)):
        found.differences.append(
            f"{name} batch {manifest.number}: {facts} facts and {_money(captured)} in Postgres, "
            f"{manifest.rows} and {_money(manifest.captured)} in the archive"
        )


def _money(captured: Any) -> str:
    return ", ".join(f"{minor} {currency}" for currency, minor in sorted(captured.items())) or "no money"


def _counted(session: Session, page: Sequence[Manifest]) -> dict[tuple[str, int], tuple[int, Counter[str]]]:
    values = {"classes": [each.retention_class for each in page], "numbers": [each.number for each in page]}
    counted: dict[tuple[str, int], tuple[int, Counter[str]]] = {}
    for row in session.execute(_COUNTED, values):
        facts, captured = counted.get((row.retention_class, row.number), (0, Counter()))
        if row.currency is not None:
            captured = captured + Counter({row.currency: int(row.minor)})
        counted[row.retention_class, row.number] = facts + row.facts, captured
    return counted


# The money as the archive takes it: from the facts that say it was captured, if they name amount and currency. What was
# purged is counted in its batch, and its money is in the facts `batch.purged`.
_COUNTED = text(
    f"""
    WITH wanted AS (
        SELECT b.* FROM unnest(CAST(:classes AS text[]), CAST(:numbers AS bigint[])) AS w (class, number)
          JOIN billing.archive_batches AS b ON b.class = w.class AND b.number = w.number
    )
    SELECT b.class AS retention_class, b.number, f.currency, count(*) AS facts, sum(f.minor) AS minor
      FROM wanted AS b
      CROSS JOIN LATERAL (
           SELECT CASE WHEN captured THEN payload ->> 'currency' END AS currency,
                  CASE WHEN captured THEN (payload -> 'minor')::numeric END AS minor
             FROM (SELECT payload, topic = 'capture.captured' AND jsonb_typeof(payload -> 'minor') = 'number'
                                   AND jsonb_typeof(payload -> 'currency') = 'string' AS captured
                     FROM billing.facts
                    WHERE id BETWEEN b.first_fact AND b.last_fact AND batch_no = b.number
                      AND {RETENTION_CLASS} = b.class) AS mine) AS f
     GROUP BY b.class, b.number, f.currency
    UNION ALL
    SELECT class, number, NULL, purged_rows, NULL FROM wanted WHERE purged_rows > 0
    UNION ALL
    SELECT b.class, b.number, money.key, 0, money.value::numeric
      FROM wanted AS b
      JOIN billing.facts AS f ON f.entity_type = 'batch' AND f.entity_id = 'batch_' || b.class || '_' || b.number
           AND f.topic = 'batch.purged'
      CROSS JOIN LATERAL jsonb_each_text(f.payload -> 'captured') AS money
     WHERE b.purged_rows > 0
    """
)
