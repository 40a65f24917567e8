"""What a command says about a file of requests: what is wrong with it, what it asks for, and how far it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobs.cli.from_file import CONFIRM_FROM, FromFile
from jobs.cli.output import clock, counted, every_few_seconds, print_error, print_json, print_line

if TYPE_CHECKING:
    from billing.bulks import Progress
    from jobs.bulk.checking import Checked, File

NAMED = 20
"""So many problems are shown."""


def show_checked(given: FromFile, file: "File", checked: "Checked", begun: "Progress | None", *, as_json: bool) -> None:
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
    print_line(f"{name_of(given)}: {of} to ask for" + (f", {amount}" if amount else ""))
    if checked.without_amount and checked.totals:
        print_line(f"{counted(checked.without_amount, 'row')} of them without an amount: {file.movable.without_amount}")
    if checked.before:
        print_line(f"{counted(checked.before, 'row')} asked for before, with the same parameters")
    if checked.bad:
        print_line(f"{counted(checked.bad, 'bad row')}")
    if begun is not None:
        state = f"was done {clock(begun.ended_at)} UTC" if begun.ended_at else f"is done up to line {begun.done_upto}"
        print_line(f"{begun.id}, begun by {begun.actor} {clock(begun.begun_at)} UTC, {state}")


def show_done(given: FromFile, file: "File", checked: "Checked", done: "Progress | None", *, as_json: bool) -> None:
    if as_json:
        print_json(as_data(given, file, checked, done))
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


def as_data(given: FromFile, file: "File", checked: "Checked", done: "Progress | None") -> dict[str, Any]:
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


def name_of(given: FromFile) -> str:
    return "standard input" if given.path == "-" else str(given.path)


@contextmanager
def progress(what: str, total: int, *, as_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """A function that is told how much of `total` is done: a bar on a terminal, elsewhere a line every few seconds."""
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
