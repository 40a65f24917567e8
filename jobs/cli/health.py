"""`billing health`: whether a process of this machine is healthy; with `--trend`, whether the queues are as usual."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import RUNNING, AsJson, clock, print_json, print_line, print_table
from jobs.config import queues

if TYPE_CHECKING:
    from jobs.checkup.trend import Trend

ROLES = ("relay", "archiver", "web", *(f"worker-{queue}" for queue in queues.NAMES))


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=RUNNING)(health)


def health(
    role: Annotated[
        str | None, typer.Argument(metavar="[ROLE]", help=f"{', '.join(ROLES[:-1])} or {ROLES[-1]}", show_default=False)
    ] = None,
    alive: Annotated[
        bool, typer.Option("--alive", help="For a liveness probe: 0 also while it waits for its servers.")
    ] = False,
    trend: Annotated[
        bool, typer.Option("--trend", help="Instead of a process: compare what waits with this hour of earlier weeks.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="With --trend: draw the last week as SVG.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether a process on this machine is healthy; with --trend, what is unusual for this hour in the queues.

    Exit status 0 if its last heartbeat is at most 30 s old, else 1. A process that waits for a server before it starts
    is not ready: 1, and with --alive 0. It asks no server, so a container's health check can call it often.

    With --trend it compares the newest hourly snapshot of all queues with the same hour of earlier weeks: exit
    status 1 if something is unusual, or no snapshot came for two hours.

    \b
    Examples:
      billing health worker-captures
      billing health worker-captures --alive
      billing health --trend --plot week.svg
    """
    if trend:
        if role is not None or alive:
            raise typer.BadParameter("--trend is about all queues; leave out ROLE and --alive")
        _trend(plot, as_json)
        return
    if plot is not None:
        raise typer.BadParameter("--plot draws what --trend compares; add --trend")
    if role not in ROLES:
        given = "name a role" if role is None else f"{role!r} is not a role; choose one"
        raise typer.BadParameter(f"{given}: {', '.join(ROLES)}", param_hint="ROLE")
    _process(role, alive, as_json)


def _process(role: str, alive: bool, as_json: bool) -> None:
    from jobs.config.loading import load
    from jobs.process.health import YOUNG_S, State, health_of

    found = health_of(role, load().health_directory)
    healthy = found.state in ((State.BEATING, State.WAITING) if alive else (State.BEATING,))
    if as_json:
        print_json(
            {
                "role": role,
                "healthy": healthy,
                "state": found.state,
                "waits_for": found.waits_for,
                "age_s": found.age_s,
            }
        )
    else:
        age = f"its last heartbeat is {found.age_s or 0.0:.0f} s old"
        print_line(
            f"{role}: "
            + {
                State.ABSENT: "no such process runs on this machine",
                State.STALE: f"{age}, and {YOUNG_S:.0f} s are allowed",
                State.WAITING: f"not ready, it waits for {found.waits_for}; {age}",
                State.BEATING: age,
            }[found.state]
        )
    if not healthy:
        raise typer.Exit(1)


def _trend(plot: Path | None, as_json: bool) -> None:
    from archive.files import write_file
    from billing import database
    from jobs.checkup.trend import compare, snapshots
    from jobs.checkup.trend_plot import svg
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        known, now = patiently(runtime, lambda session: (snapshots(session), database.now(session)))
    found = compare(known, now)
    if plot is not None and known:
        write_file("--plot", plot, lambda there: there.write_text(svg(known), encoding="utf-8"))
    if as_json:
        print_json({"at": found.at, "too_old": found.too_old, "unusual": found.unusual, "compared": found.compared})
    else:
        _show(found)
        if plot is not None and known:
            print_line(f"the last week is drawn in {plot}")
    if found.too_old or found.unusual:
        raise typer.Exit(1)


def _show(found: "Trend") -> None:
    from jobs.checkup.trend import LEAST_WEEKS, SCHEDULE

    if found.at is None:
        print_line(f"there is no snapshot yet; a relay and a worker make one each hour, by the schedule {SCHEDULE}")
        return
    for each in found.unusual:
        print_line(f"UNUSUAL  {each.warning}")
        print_line(f"         next: {each.next}")
    if found.too_old:
        print_line(f"TOO OLD  the newest snapshot is of {clock(found.at)} UTC; look at the schedule {SCHEDULE}")
    if found.unusual or found.too_old:
        print_line("")
    columns = ("number", "now", "usual", "give or take", "weeks")
    rows = [
        (each.says, f"{each.now:,}", f"{each.usual.median:,.0f}", f"{each.usual.spread:,.0f}", each.usual.weeks)
        for each in found.compared
        if each.now or each.usual.median or each.usual.spread
    ]
    if rows:
        print_table(f"at {clock(found.at)} UTC, with this hour of earlier weeks", columns, rows)
    else:
        print_line(f"at {clock(found.at)} UTC nothing waited, as usual")
    weeks = max((each.usual.weeks for each in found.compared), default=0)
    if weeks < LEAST_WEEKS:
        print_line(f"from {weeks} earlier weeks nothing can be called unusual; {LEAST_WEEKS} are needed")
    elif not found.unusual:
        print_line("nothing is unusual")
