"""The options with which a command asks for the rows of a file instead of one thing: `--from-file` and what belongs to
it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

CONFIRM_FROM = 100
"""So many rows are asked for only if their number or their total is repeated."""


@dataclass(frozen=True, slots=True)
class FromFile:
    """A file that is to be asked for, and how. `path` is None where one thing is asked for by options."""

    path: str | None
    reason: str | None
    bulk_id: str | None
    skip_bad: bool
    dry_run: bool
    confirm: str | None
    errors: str | None
    wait: bool


def from_file(
    path: Annotated[
        str | None,
        typer.Option(
            "--from-file", metavar="FILE", help="Ask for each row of a CSV or JSONL file; - is standard input."
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; a file needs it. It is stored in a fact.")] = None,
    bulk_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Your name for this file; by default made of its digest.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out, and ask for the others.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the file, and print what it asks for.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="TOTAL", help=f"From {CONFIRM_FROM} rows on: their number or total, as --dry-run shows."),
    ] = None,
    errors: Annotated[str | None, typer.Option(metavar="FILE", help="Write all that is wrong there, as CSV.")] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop where the queue has no room, instead of waiting for it.")
    ] = False,
) -> FromFile:
    """The options as one value. Raises typer.BadParameter."""
    if path is None and any((bulk_id, skip_bad, dry_run, confirm, errors, no_wait)):
        raise typer.BadParameter("--from-file is missing; the other options for files need it")
    if path is not None and not dry_run and not reason:
        raise typer.BadParameter("--reason is missing; it says why all of this file is asked for")
    return FromFile(path, reason, bulk_id, skip_bad, dry_run, confirm, errors, not no_wait)


def missing(command: str, options: Mapping[str, object]) -> typer.BadParameter:
    """What to raise where, without a file, one of these options is None."""
    name = next(name for name, value in options.items() if value is None).replace("_", "-")
    return typer.BadParameter(f"--{name} is missing; `billing {command} --help` shows an example")


def alone(**options: Any) -> None:
    """Beside a file none of these options means anything. Raises typer.BadParameter."""
    for name, value in options.items():
        if value:
            raise typer.BadParameter(f"--{name.replace('_', '-')} has no meaning beside --from-file")
