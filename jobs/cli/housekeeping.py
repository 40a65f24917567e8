"""`billing housekeeping`: what is over long ago is removed."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import RUNNING, Actor, AsJson, amount, counted, print_error, print_json, print_line

if TYPE_CHECKING:
    from archive.purging.purger import Purged
    from jobs.growth.clean_up import Removed
    from jobs.process.runtime import Runtime

MOST = 100_000
"""Operations that one run removes unless it is told otherwise: a few minutes' work."""
FACTS_EACH = 5
"""So many times as many facts are removed: a capture has four or five."""


def add_to(app: typer.Typer) -> None:
    housekeeping = typer.Typer(
        no_args_is_help=True, help="Remove what belongs to operations that ended long ago and are archived."
    )
    housekeeping.command()(run)
    app.add_typer(housekeeping, name="housekeeping", rich_help_panel=RUNNING)


def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be removed.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="End after about so many operations.")] = MOST,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Remove the work and the calls of operations that ended 90 days ago (BILLING_KEEP_DAYS) and are archived.

    If BILLING_KEEP_FACTS_DAYS is set, it then removes the facts of operations that ended so long ago and whose work and
    calls are gone: batch by batch, after each row was compared with the archive. An archiver does that by itself, too.

    The operations themselves stay, and so does whatever is undecided, in quarantine, or not archived. It may run while
    captures are taken, be stopped, and be run again: docs/operate/housekeeping.md. Exit status 1 if a batch differs
    from the archive; nothing of it was removed.

    \b
    Examples:
      billing housekeeping run --dry-run
      billing housekeeping run --actor grace
    """
    from jobs.cli.opening import opened

    if dry_run:
        with opened() as runtime:
            days, removed = runtime.settings.keep_days, _remove(runtime, most, only_count=True)
            purged = _purge(runtime, most, only_count=True)
    else:
        with acting("housekeeping run", actor) as act:
            runtime = act.runtime
            days, removed = runtime.settings.keep_days, _remove(runtime, most, only_count=True)
            if removed.operations:
                with act.outside(about="ended operations", count=removed.operations):
                    removed = _remove(runtime, most)
            purged = _purge(runtime, most, only_count=True)
            if purged.facts:
                with act.outside(about="archived facts", count=purged.facts):
                    purged = _purge(runtime, most, actor=act.actor)
    if as_json:
        print_json({"dry_run": dry_run, "removed": removed, "purged": purged})
    else:
        _show(removed, purged, days, dry_run)
    if purged.troubles:
        raise typer.Exit(1)


def _remove(runtime: "Runtime", most: int, *, only_count: bool = False) -> "Removed":
    from jobs.growth.clean_up import clean_up

    return clean_up(runtime.engine, at_least_days=runtime.settings.keep_days, only_count=only_count, most=most)


def _purge(runtime: "Runtime", most: int, *, actor: str = "", only_count: bool = False) -> "Purged":
    """Nothing if facts stay, or there is no archive."""
    from archive.purging.purger import Purged
    from jobs.process import purging

    with purging.by_hand(runtime, actor, only_count=only_count) as purger:
        return Purged() if purger is None else purger.run(most=FACTS_EACH * most)


def _show(removed: "Removed", purged: "Purged", days: int, dry_run: bool) -> None:
    verb = "would be removed" if dry_run else "removed"
    if removed.operations:
        print_line(
            f"{verb}: the work of {counted(removed.operations, 'operation')}: {counted(removed.work, 'piece')} of work,"
            f" {counted(removed.calls, 'call')}, {counted(removed.failures, 'kept failure')}"
        )
    elif not purged.facts:
        print_line(f"nothing to remove: no operation that ended {days} days ago is archived and still has its calls")
    if purged.facts:
        sums = ", ".join(amount(minor, currency) for currency, minor in purged.captured.items())
        print_line(
            f"{verb}: {counted(purged.facts, 'fact')} of {counted(purged.batches, 'batch', 'batches')}, each compared "
            f"with the archive: captured {sums or 'nothing'}"
        )
    if purged.unprotected:
        print_line(
            f"kept: the facts of {counted(purged.unprotected, 'batch', 'batches')} whose copy in the archive is locked "
            "for less than a day; lock evidence for longer than BILLING_KEEP_FACTS_DAYS"
        )
    for trouble in purged.troubles:
        print_error(f"DIFFERS {trouble}; nothing of this page was removed: docs/operate/archive-lags.md")
    if not (removed.complete and purged.complete):
        print_line("there may be more: run it again")
