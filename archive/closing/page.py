"""The report of a month as one page of HTML: it loads nothing, and prints well."""

from collections.abc import Iterator
from html import escape

from archive.closing import shown
from archive.closing.books import Books
from archive.closing.shown import Shown

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem } p { margin: .3rem 0 .8rem }
.about { color: #5a6472 } .cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0 }
.card { border: 1px solid #d5dbe3; border-radius: .5rem; padding: .8rem 1rem; flex: 1 1 14rem }
.card b { display: block; font-size: 1.2rem }
.good { border-left: .3rem solid #2e7d4f } .look { border-left: .3rem solid #b26a00 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; width: 100% }
th { text-align: left; border-bottom: 2px solid #b9c2cd } th, td { padding: .25rem .6rem .25rem 0; vertical-align: top }
td { border-bottom: 1px solid #e8ecf0; overflow-wrap: anywhere }
.number { text-align: right; white-space: nowrap; padding-right: 1.4rem }
footer { color: #5a6472; font-size: .8rem; margin-top: 3rem; overflow-wrap: anywhere }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt } h2 { break-after: avoid } tr { break-inside: avoid }
}
"""


def page(books: Books) -> str:
    """The whole page. Every value is escaped: a reason or an actor may hold anything."""
    return "\n".join(_lines(books)) + "\n"


def _lines(books: Books) -> Iterator[str]:
    closed = books.closed
    title = f"{'Draft of the books' if books.draft else 'Books'} of {books.month.name}"
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{escape(title)}</h1>"
    verb = "It would be closed" if books.draft else "Closed"
    yield (
        f'<p class="about">{books.month.since:%Y-%m-%d} to {books.month.until:%Y-%m-%d}, 00:00 UTC. '
        f"{verb} on {closed.closed_at:%Y-%m-%d %H:%M} UTC by {escape(closed.actor)}. "
        f"Environment {escape(books.environment)}, installation {escape(books.installation)}.</p>"
    )
    yield from _cards(books)
    yield "<h2>Postgres and the archive</h2>"
    yield "<p>What the database held of this month when it was closed, and what the archive holds.</p>"
    yield _table(shown.reconciled(books))
    if books.at_stripe is not None:
        yield "<h2>Reconciled with Stripe</h2>"
        yield f"<p>{escape(shown.WITH_STRIPE)} {escape(shown.what_differs(books))}</p>"
        yield _table(shown.with_stripe(books))
    for part, answer in books.parts:
        yield f"<h2>{escape(part.heading)}</h2><p>{escape(part.means)}</p>"
        yield _table(shown.of_answer(answer), f"{answer.query}.csv")
    yield "<h2>Who looks after what</h2>"
    yield "<p>Work that was in quarantine when the month was closed: it waits for a decision.</p>"
    yield _table(shown.quarantine(books))
    yield "<h2>The archive</h2>"
    yield "<p>The newest manifest of each class when the month was closed. Its digest covers everything before it.</p>"
    yield _table(shown.heads(books))
    yield "<footer>Times are UTC. The queries, by their digests: "
    yield ", ".join(f"{escape(answer.query or '')} {answer.query_sha256[:12]}" for _, answer in books.parts)
    yield "</footer></body></html>"


def _cards(books: Books) -> Iterator[str]:
    yield '<div class="cards">'
    yield _card("captured", shown.amounts(books.captured), good=True)
    differences = len(books.closed.observed["differences"])
    agree = f"{differences} batches differ" if differences else "agree"
    yield _card("Postgres and the archive", agree, good=not differences)
    open_ = "; ".join(f"{heading}: {rows}" for heading, rows in books.exceptions) or "nothing"
    yield _card("to look at", open_, good=not books.exceptions)
    yield "</div>"


def _card(name: str, value: str, *, good: bool) -> str:
    return f'<div class="card {"good" if good else "look"}">{escape(name)}<b>{escape(value)}</b></div>'


def _table(table: Shown, csv: str = "") -> str:
    if not table.rows:
        return '<p class="about">None.</p>'
    kind = [' class="number"' if n in table.numbers else "" for n in range(len(table.columns))]
    head = "".join(f"<th{k}>{escape(name)}</th>" for k, name in zip(kind, table.columns, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{k}>{escape(cell)}</td>" for k, cell in zip(kind, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    more = f'<p class="about">and {table.more:,} more in {escape(csv)}</p>' if table.more else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}'
