"""The report of a month as PDF, to be filed: the same parts as the page, and the same bytes each time."""

import io
from collections.abc import Iterator
from typing import Any

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from archive.closing import shown
from archive.closing.books import Books
from archive.closing.shown import Shown

_MOST_CHARACTERS = 300
"""Of a cell: a longer text would not fit on one page. The whole is in the CSV."""


def pdf(books: Books) -> bytes:
    """The document. Its standard fonts know Latin letters; any other becomes a question mark."""
    sink = io.BytesIO()
    title = f"{'Draft of the books' if books.draft else 'Books'} of {books.month.name}"
    document = SimpleDocTemplate(
        sink,
        pagesize=landscape(A4),
        title=title,
        author=books.installation,
        # Otherwise the time of printing and a random number are in the file, and what this zlib makes of it.
        invariant=1,
        pageCompression=0,
        leftMargin=36,
        rightMargin=36,
        topMargin=36,
        bottomMargin=42,
    )

    def footer(canvas: Any, _: Any) -> None:
        canvas.setFont("Helvetica", 7)
        canvas.drawString(36, 24, _latin(f"{title}, {books.environment}, {books.installation}"))
        canvas.drawRightString(landscape(A4)[0] - 36, 24, f"page {canvas.getPageNumber()}")

    document.build(list(_story(books, title, document.width)), onFirstPage=footer, onLaterPages=footer)
    return sink.getvalue()


def _story(books: Books, title: str, width: float) -> Iterator[Any]:
    styles, closed = getSampleStyleSheet(), books.closed

    def text(words: str, style: str = "BodyText") -> Any:
        return Paragraph(_escaped(words), styles[style])

    yield text(title, "Title")
    verb = "It would be closed" if books.draft else "Closed"
    yield text(
        f"{books.month.since:%Y-%m-%d} to {books.month.until:%Y-%m-%d}, 00:00 UTC. {verb} on "
        f"{closed.closed_at:%Y-%m-%d %H:%M} UTC by {closed.actor}."
    )
    yield text(f"Captured: {shown.amounts(books.captured)}.")
    differences = len(closed.observed["differences"])
    yield text(f"Postgres and the archive {f'differ in {differences} batches' if differences else 'agree'}.")
    for heading, rows in books.exceptions:
        yield text(f"To look at: {heading}, {rows}.")
    yield text("Postgres and the archive", "Heading2")
    yield _table(shown.reconciled(books), width)
    if books.at_stripe is not None:
        yield text("Reconciled with Stripe", "Heading2")
        yield text(f"{shown.WITH_STRIPE} {shown.what_differs(books)}")
        yield _table(shown.with_stripe(books), width)
    for part, answer in books.parts:
        table = shown.of_answer(answer)
        yield text(part.heading, "Heading2")
        yield text(part.means)
        yield _table(table, width)
        if table.more:
            yield text(f"and {table.more:,} more in {answer.query}.csv")
    yield text("Who looks after what", "Heading2")
    yield _table(shown.quarantine(books), width)
    yield text("The archive", "Heading2")
    yield _table(shown.heads(books), width)
    yield Spacer(1, 12)


def _table(table: Shown, width: float) -> Any:

    left = ParagraphStyle("cell", fontSize=7, leading=8.5, splitLongWords=True, wordWrap="CJK")
    right = ParagraphStyle("number", parent=left, alignment=TA_RIGHT)
    if not table.rows:
        return Paragraph("None.", left)

    def line(cells: Any, bold: bool = False) -> list[Any]:
        return [
            Paragraph(f"<b>{_escaped(cell)}</b>" if bold else _escaped(cell), right if n in table.numbers else left)
            for n, cell in enumerate(cells)
        ]

    widest = [
        max(4, min(40, max(len(row[n]) for row in (table.columns, *table.rows)))) for n in range(len(table.columns))
    ]
    drawn = Table(
        [line(table.columns, bold=True), *map(line, table.rows)],
        colWidths=[width * each / sum(widest) for each in widest],
        repeatRows=1,
    )
    drawn.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 1, colors.grey),
                ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.lightgrey),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
            ]
        )
    )
    return drawn


def _escaped(text: str) -> str:
    """Paragraphs are written in a kind of XML."""
    short = text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…"
    return _latin(short).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latin(text: str) -> str:
    return text.encode("cp1252", "replace").decode("cp1252")
