"""`billing close`: close a month, or show again the books of one that is closed."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.output import (
    FINANCE,
    Actor,
    AsJson,
    clock,
    counted,
    every_few_seconds,
    print_json,
    print_line,
)

if TYPE_CHECKING:
    from archive.closing.books import Books
    from archive.signing.signatures import Signer

Month = Annotated[str, typer.Argument(metavar="YYYY-MM", help="The month, in UTC.")]
Into = Annotated[
    Path,
    typer.Option("--into", metavar="DIRECTORY", help="Where the books are written, as books-YYYY-MM.zip."),
]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=FINANCE)(close)


def close(
    month: Month,
    reason: Annotated[str, typer.Option(help="Close it, and why; it is stored in a fact.")] = "",
    actor: Actor = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Close nothing: show what stands in the way, and write a draft.")
    ] = False,
    into: Into = Path(),
    as_json: AsJson = False,
) -> None:
    """Close a month: from then on Postgres refuses every new fact that is dated into it.

    It compares the month in Postgres with the archive, and writes the books as a ZIP: a report to read and to file
    (HTML, PDF), each part as CSV, and all of it as JSON. It cannot be undone. Without --reason it writes the books of a
    month that is closed again, byte for byte.

    It does not close a month that is not over, is not archived as a whole, or differs from its archive; it says what to
    do. The exit status is then 1.

    \b
    Examples:
      billing close 2026-10 --dry-run
      billing close 2026-10 --reason "October, approved by M. Curie" --actor marie
      billing close 2026-10 --into /srv/finance           (again, at any later time)
    """
    from archive.closing import bundle, drafting, periods
    from jobs.cli.acting import Acting, as_command
    from jobs.cli.opening import opened
    from jobs.config.loading import load
    from jobs.process import archiving, buckets
    from jobs.process.patience import patiently

    wanted = periods.period(month)
    if not (into.is_dir() and os.access(into, os.W_OK)):
        raise typer.BadParameter(f"--into {into}: no directory that can be written")
    command = as_command(load(), "close", actor, reason) if reason and not dry_run else None
    found: list[str] = []
    with opened() as runtime, buckets.opened(runtime.settings) as store:
        store.check(runtime.settings.environment)
        source, signer = archiving.source(runtime), archiving.signer(runtime.settings)
        cache, ask = archiving.cache(runtime.settings, store), partial(patiently, runtime)
        closed = ask(partial(periods.closed, month=wanted))
        if closed is not None:
            books = drafting.of_closed(cache, closed, wanted, source)
        elif command is None and not dry_run:
            raise typer.BadParameter(f"{wanted.name} is not closed; --reason closes it, --dry-run shows it before")
        else:
            found = ask(partial(periods.standing, month=wanted)).obstacles
            by = command.actor if command else "nobody"
            tell = every_few_seconds()
            books = drafting.draft(
                cache, ask, wanted, source, by, lambda done, of: tell(f"{done} of {of} batches compared")
            )
            found += [f"it differs from the archive: {line}" for line in books.closed.observed["differences"]]
            if command is not None and not found:
                # What can fail does so before the month is closed.
                bundle.files(books, signer)
                Acting(runtime, command).inside(partial(periods.close, closing=books.closed), about=wanted.name)
                closed = ask(partial(periods.closed, month=wanted))
                assert closed is not None, "it was closed just now"
                books = drafting.of_closed(cache, closed, wanted, source)
        _show(books, signer, into, found, as_json)
    if found:
        raise typer.Exit(1)


def _show(books: "Books", signer: "Signer | None", into: Path, obstacles: list[str], as_json: bool) -> None:
    from archive.closing import bundle, shown
    from archive.files import write_file

    contents = bundle.files(books, signer)
    path = into / f"books-{books.month.name}{'-draft' if books.draft else ''}.zip"
    write_file("--into", path, lambda there: there.write_bytes(bundle.zipped(books, contents)))
    differences = books.closed.observed["differences"]
    if as_json:
        print_json(_as_json(books, path, obstacles))
        return
    state = "not closed" if books.draft else f"closed on {clock(books.closed.closed_at)} UTC by {books.closed.actor}"
    print_line(f"{books.month.name} is {state}")
    print_line(f"captured: {shown.amounts(books.captured)}")
    agree = f"differ in {counted(len(differences), 'batch', 'batches')}" if differences else "agree"
    print_line(f"Postgres and the archive {agree}")
    if books.at_stripe is not None:
        print_line(f"Stripe's own records: {shown.what_differs(books)}")
    for heading, rows in books.exceptions:
        print_line(f"to look at: {heading}: {counted(rows, 'line')}")
    for line in obstacles:
        print_line(f"in the way: {line}")
    print_line(f"written: {path}")


def _as_json(books: "Books", path: Path, obstacles: list[str]) -> dict[str, Any]:
    return {
        "period": books.month.name,
        "closed": not books.draft,
        "closed_at": None if books.draft else books.closed.closed_at,
        "closed_by": None if books.draft else books.closed.actor,
        "captured": books.captured,
        "differences": books.closed.observed["differences"],
        "stripe": books.at_stripe,
        "to_look_at": dict(books.exceptions),
        "in_the_way": obstacles,
        "heads": books.closed.heads,
        "file": str(path),
    }
