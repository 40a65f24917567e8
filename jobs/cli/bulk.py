"""`--from-file` of the commands that ask for something: one file, of any size, asked for row by row; and `billing
bulks`, which lists what was asked for so.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import Acting
from jobs.cli.output import (
    ASKING,
    AsJson,
    clock,
    counted,
    every_few_seconds,
    print_error,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from billing.bulks import Progress
    from billing.errors import TooBusy
    from jobs.bulk.checking import Checked, File

CONFIRM_FROM = 100
"""So many rows are asked for only if their number or their total is repeated."""
NAMED = 20
"""So many problems are shown."""


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


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ASKING)(bulks)


def bulks(
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="List at most this many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the files that were asked for, the newest first: by whom, how far, and whether it is done.

    A bulk that is not done waits for its command: the same one again goes on where it stands.

    \b
    Examples:
      billing bulks
      billing bulks --json
    """
    from billing.bulks import listed
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        found = patiently(runtime, lambda session: listed(session, most))
    if as_json:
        print_json(found)
        return
    if not found:
        print_line("no file was asked for yet")
        return
    print_table(
        "",
        ("bulk", "asks for", "begun (UTC)", "by", "reason", "rows", "new", "before", "refused", "state"),
        [
            (
                *(b.id, b.kind, clock(b.begun_at)[:-4], b.actor, b.reason),
                *(b.rows, b.asked, b.asked_before, b.refused),
                f"done {clock(b.ended_at)[:-4]}" if b.ended_at else f"NOT DONE, at line {b.done_upto}",
            )
            for b in found
        ],
    )


def ask_for(act: Acting, kind: str, given: FromFile, *, as_json: bool) -> None:
    """Check the file, and ask for its rows. Exit status 1 if a row is bad or was refused, or more has to be said."""
    from functools import partial

    from billing.bulks import bulk_id, default_id, find
    from billing.many import MOVABLE
    from jobs.bulk.checking import File, check
    from jobs.bulk.lines import digest_of
    from jobs.bulk.problems import Problems
    from jobs.process.patience import patiently

    transact = partial(patiently, act.runtime)
    with ExitStack() as open_files:
        stream = open_files.enter_context(_opened(given.path or "-"))
        digest = digest_of(stream)
        bulk = bulk_id(given.bulk_id) if given.bulk_id else default_id(kind, digest)
        file = File(stream, digest, MOVABLE[kind], bulk, act.runtime.settings.stripe_account, act.actor)
        begun = transact(lambda session: find(session, bulk, kind=kind, digest=digest, account=file.account))
        problems = Problems(open_files.enter_context(_written(given)))
        size = stream.seek(0, 2)
        with _progress("checking", size, as_bytes=True) as shown:
            # A dry run judges what is done, too: so it says again what was refused.
            after = 0 if given.dry_run or begun is None else begun.done_upto
            checked = check(file, transact, problems, lambda _, bytes_read: shown(bytes_read), after_line=after)
        _show_checked(given, file, checked, begun, as_json=as_json)
        done = begun
        if not given.dry_run and (begun is None or begun.ended_at is None):
            if checked.bad and not given.skip_bad:
                _give_up(given, file, checked, "correct them, or leave them out with --skip-bad", as_json=as_json)
            if begun is None:
                _confirm(given, file, checked, as_json=as_json)
            done = _carry_out(act, given, file, checked, begun)
    _show_done(given, file, checked, done, as_json=as_json)
    if problems.rows or (done is not None and done.refused):
        raise typer.Exit(1)


def _carry_out(
    act: Acting, given: FromFile, file: "File", checked: "Checked", begun: "Progress | None"
) -> "Progress | None":
    """Ask for what is left. None where there is nothing, and nothing was begun."""
    from functools import partial

    from billing import bulks
    from jobs.bulk.carrying_out import carry_out
    from jobs.bulk.room import Room
    from jobs.process.patience import patiently

    if not checked.rows and begun is None:
        return None
    transact = partial(patiently, act.runtime)
    reason = given.reason or ""
    wanted = bulks.Given(file.bulk, file.movable.kind, file.digest, file.account, checked.rows, act.actor, reason)
    tell = every_few_seconds()

    def busy(error: "TooBusy") -> None:
        tell(f"waiting for room: {error}")

    room = Room(transact, file.movable.queue, busy if given.wait else None)
    with act.outside(about=file.bulk, count=checked.rows):
        started = transact(lambda session: bulks.begin(session, wanted))
        done = started.done
        try:
            with _progress("asking", started.rows) as shown:
                shown(done)

                def progressing(rows: int) -> None:
                    nonlocal done
                    done = rows
                    shown(rows)

                return carry_out(file, checked, started, transact, room.wait_for, progressing)
        except BaseException:
            print_error(
                f"{file.bulk}: {done:,} of {started.rows:,} rows are done; the same command again goes on from there"
            )
            raise


# What is said.


def _show_checked(
    given: FromFile, file: "File", checked: "Checked", begun: "Progress | None", *, as_json: bool
) -> None:
    if as_json:
        return
    from jobs.bulk.checking import totals_shown

    for problem in checked.problems.kept[:NAMED]:
        print_error(f"line {problem.line}{problem.column and f', {problem.column}'}: {problem.why}")
    if (more := checked.problems.count - NAMED) > 0:
        where = f"all are in {given.errors}" if given.errors else "--errors FILE writes all"
        print_error(f"and {more:,} more; {where}")
    for line, remark in checked.remarks:
        print_error(f"line {line}: {remark}")
    if (more := checked.remarked - len(checked.remarks)) > 0:
        print_error(f"and {more:,} more lines with such an id")
    of = counted(checked.new, file.movable.kind)
    amount = totals_shown(checked.totals)
    print_line(f"{_name(given)}: {of} to ask for" + (f", {amount}" if amount else ""))
    if checked.without_amount and checked.totals:
        print_line(f"{counted(checked.without_amount, 'row')} of them without an amount: all that is left")
    if checked.before:
        print_line(f"{counted(checked.before, 'row')} asked for before, with the same parameters")
    if checked.bad:
        print_line(f"{counted(checked.bad, 'bad row')}")
    if begun is not None:
        state = f"was done {clock(begun.ended_at)} UTC" if begun.ended_at else f"is done up to line {begun.done_upto}"
        print_line(f"{begun.id}, begun by {begun.actor} {clock(begun.begun_at)} UTC, {state}")


def _show_done(given: FromFile, file: "File", checked: "Checked", done: "Progress | None", *, as_json: bool) -> None:
    if as_json:
        print_json(_as_data(given, file, checked, done))
    elif given.dry_run:
        confirm = f", with --confirm {checked.rows}" if checked.rows >= CONFIRM_FROM else ""
        print_line(f"nothing was asked for; without --dry-run this is bulk {file.bulk}{confirm}")
    elif done is None:
        print_line("nothing was asked for: no row is left")
    else:
        left_out = f", {counted(checked.bad, 'bad row')} left out" if checked.bad else ""
        print_line(
            f"{done.id}: {done.asked:,} newly asked for, {done.asked_before:,} asked for before, "
            f"{done.refused:,} refused{left_out}"
        )
        if done.refused:
            print_line("--dry-run says again why rows are refused")


def _as_data(given: FromFile, file: "File", checked: "Checked", done: "Progress | None") -> dict[str, Any]:
    return {
        "bulk": file.bulk,
        "kind": file.movable.kind,
        "digest": file.digest,
        "dry_run": given.dry_run,
        "new": checked.new,
        "asked_before": checked.before,
        "totals": dict(checked.totals),
        "bad": checked.bad,
        "problems": checked.problems.kept,
        "problems_left_out": checked.problems.count - len(checked.problems.kept),
        "remarks": [{"line": line, "remark": remark} for line, remark in checked.remarks],
        "progress": done,
    }


def _give_up(given: FromFile, file: "File", checked: "Checked", what_to_do: str, *, as_json: bool) -> None:
    """Nothing is asked for."""
    if as_json:
        print_json(_as_data(given, file, checked, None))
    print_error(f"nothing was asked for; {what_to_do}")
    raise typer.Exit(1)


def _confirm(given: FromFile, file: "File", checked: "Checked", *, as_json: bool) -> None:
    """Go on only if the number of rows, or their total, was repeated. Asks on a terminal."""
    import sys

    from jobs.bulk.checking import totals_shown

    if checked.rows < CONFIRM_FROM:
        return
    total, typed = totals_shown(checked.totals), given.confirm
    if typed is None and given.path != "-" and not as_json and sys.stdin.isatty():
        print_error(f"This asks for {counted(checked.rows, 'row')}. Type their number to go on:")
        typed = sys.stdin.readline()
    words = " ".join((typed or "").split())
    if words not in {str(checked.rows), total}:
        or_total = f", or --confirm '{total}'" if total else ""
        was = f", not {words}" if words else ""
        what = f"these are {counted(checked.rows, 'row')}{was}; to ask for them, repeat the command with --confirm"
        _give_up(given, file, checked, f"{what} {checked.rows}{or_total}", as_json=as_json)


def _name(given: FromFile) -> str:
    return "standard input" if given.path == "-" else str(given.path)


# Files and progress.


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The file, to be read twice: what cannot be, standard input or a pipe, is copied to disk first."""
    import shutil
    import sys
    import tempfile

    with ExitStack() as files:
        try:
            stream: Any = sys.stdin.buffer if path == "-" else files.enter_context(open(path, "rb"))
            if path == "-" or not stream.seekable():
                copy = files.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, copy)
                stream = copy
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise typer.BadParameter(f"--from-file {path}: {why}") from None
        yield stream


@contextmanager
def _written(given: FromFile) -> Iterator[IO[str] | None]:
    import os

    if given.errors is None:
        yield None
        return
    if given.path and os.path.exists(given.errors) and os.path.samefile(given.path, given.errors):
        raise typer.BadParameter("--errors would be written over the file that is read")
    try:
        file = open(given.errors, "w", encoding="utf-8", newline="")  # noqa: SIM115 - closed below
    except OSError as error:
        raise typer.BadParameter(f"--errors {given.errors}: {error.strerror or type(error).__name__}") from None
    with file:
        yield file


@contextmanager
def _progress(what: str, total: int, *, as_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, elsewhere a line every few seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        tell = every_few_seconds()
        yield lambda done: tell(f"{what}: {100 * done // max(total, 1)} %")
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what if as_bytes else f"{what} for {total:,} rows", total=total)
        yield lambda done: bar.update(task, completed=done)
