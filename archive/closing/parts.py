"""The parts of a month's report: named queries over the archive, each with a heading and what to make of it.

`until` of every part is the end of the month, so a part says how things stood then. A proof that looks at the whole
archive reads it as it was when the month was closed: `newest` names the last manifest of each class. So the answers do
not change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from archive import queries
from archive.closing.periods import Period
from archive.copies.cache import Cache
from archive.queries import Answer


@dataclass(frozen=True, slots=True)
class Part:
    """One section. `in_month`: it asks for what happened in the month, and not for everything up to its end.

    `exceptions`: each row is something that a person should look at; no row is the best answer.
    """

    query: str
    heading: str
    means: str
    in_month: bool = True
    exceptions: bool = False


PARTS = (
    Part(
        "month_totals",
        "Control totals",
        "What was requested, captured, not captured, given back and invoiced, by account and currency. Each line "
        "counts what happened in this month: what was requested at its end may be captured in the next.",
    ),
    Part(
        "requested_and_captured",
        "Requested and captured",
        "What became of what was requested in this month, and why the captured money differs.",
    ),
    Part(
        "in_doubt",
        "In doubt at the end of the month",
        "Payments and invoices of which it was not known then what Stripe had done. Each needs to be followed up.",
        in_month=False,
        exceptions=True,
    ),
    Part(
        "lapsed_authorizations",
        "Lapsed authorizations",
        "Money that customers had authorized and that was not captured in time.",
        exceptions=True,
    ),
    Part(
        "invoices_by_state_and_age",
        "Invoices by state and age",
        "All invoices as they stood at the end of the month, and how old they were.",
        in_month=False,
    ),
    Part(
        "invoice_numbers",
        "Invoice numbers",
        "Every series of numbers up to the end of the month, with an explanation for each gap.",
        in_month=False,
    ),
    Part(
        "duplicate_proof",
        "Proof that nothing was captured twice",
        "How many captures, authorizations and successes at Stripe there are, by how often: `times` must be 1.",
    ),
    Part(
        "completeness",
        "Completeness of the archive",
        "Facts that are missing in the archive: no line is the proof that none is.",
        in_month=False,
        exceptions=True,
    ),
    Part(
        "operator_actions",
        "What people did",
        "Every command that changed something in this month, by person.",
    ),
)


def answered(cache: Cache, month: Period, newest: Mapping[str, int]) -> Iterator[tuple[Part, Answer]]:
    """Each part with its answer, one after another. Raises what `queries.ask` raises."""
    for part in PARTS:
        given = {"until": month.until.isoformat()}
        if part.in_month:
            given["since"] = month.since.isoformat()
        takes = {each.parameter.name for each in queries.load(part.query).parameters}
        asked = {name: text for name, text in given.items() if name in takes}
        yield part, queries.ask(cache, part.query, asked, newest=newest)
