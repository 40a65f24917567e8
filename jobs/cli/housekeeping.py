"""`billing housekeeping`: what is over long ago is removed."""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import RUNNING, Actor, AsJson, counted, print_json, print_line

MOST = 100_000
"""Operations that one run removes unless it is told otherwise: a few minutes' work."""


def add_to(app: typer.Typer) -> None:
    housekeeping = typer.Typer(
        no_args_is_help=True, help="Remove the work and the calls of operations that ended long ago and are archived."
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

    The operations themselves and their facts stay, and so does whatever is undecided, in quarantine, or not archived.
    It may run while captures are taken, be stopped, and be run again: docs/operate/housekeeping.md.

    \b
    Examples:
      billing housekeeping run --dry-run
      billing housekeeping run --actor grace
    """
    from jobs.cli.opening import opened
    from jobs.growth.clean_up import clean_up

    if dry_run:
        with opened() as runtime:
            days = runtime.settings.keep_days
            removed = clean_up(runtime.engine, at_least_days=days, only_count=True, most=most)
    else:
        with acting("housekeeping run", actor) as act:
            days = act.runtime.settings.keep_days
            removed = clean_up(act.runtime.engine, at_least_days=days, only_count=True, most=most)
            if removed.operations:
                with act.outside(about="ended operations", count=removed.operations):
                    removed = clean_up(act.runtime.engine, at_least_days=days, most=most)
    if as_json:
        print_json({"dry_run": dry_run, "removed": removed})
        return
    if not removed.operations:
        print_line(f"nothing to remove: no operation that ended {days} days ago is archived and still has its calls")
        return
    verb = "would be removed" if dry_run else "removed"
    print_line(
        f"{verb}: the work of {counted(removed.operations, 'operation')}: {counted(removed.work, 'piece')} of work, "
        f"{counted(removed.calls, 'call')}, {counted(removed.failures, 'kept failure')}"
    )
    if not removed.complete:
        print_line("there may be more: run it again")
