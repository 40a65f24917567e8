"""Commands about what happens at fixed times: `billing schedule`, and `billing catalog`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.output import (
    RUNNING,
    Actor,
    AsJson,
    Reason,
    clock,
    counted,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from billing.schedules import Schedule
    from jobs.schedules.listing import LastRun, Listed

Name = Annotated[str, typer.Argument(metavar="NAME", help="as `billing schedule list` shows it")]


def add_to(app: typer.Typer) -> None:
    schedule = typer.Typer(no_args_is_help=True, help="What happens at fixed times: see it, run it now, pause it.")
    schedule.command("list")(list_schedules)
    schedule.command()(run)
    schedule.command()(pause)
    schedule.command()(resume)
    app.add_typer(schedule, name="schedule", rich_help_panel=RUNNING)
    app.command(rich_help_panel=RUNNING)(catalog)


def list_schedules(as_json: AsJson = False) -> None:
    """List the schedules with their last and next run: when, how long it took, what became of it. All times are UTC.

    \b
    Example:
      billing schedule list
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.schedules.listing import listed

    with opened() as runtime:
        rows = patiently(runtime, listed)
    if as_json:
        print_json(rows)
    else:
        print_table(
            "schedules",
            ("schedule", "when", "next", "last", "took", "what became of it"),
            [(each.name, f"{each.when} {each.zone}", _next(each), *_last(each.last)) for each in rows],
        )
        for each in rows:
            if each.not_made is not None:
                print_line(f"{each.name}: the tick of {clock(each.not_made)[:-7]} has no run: {_why_not(each)}")


def run(name: Name, actor: Actor = "", as_json: AsJson = False) -> None:
    """Have a schedule run now, once, beside its ticks. A worker of the queue `maintenance` carries it out.

    \b
    Example:
      billing schedule run snapshot_queues
    """
    from billing.errors import InvalidRequest
    from jobs.road import ticks

    schedule = _known(name)
    with acting("schedule run", actor) as act:
        try:
            made = act.inside(
                lambda session: ticks.ask_for(session, schedule, actor=act.actor), about=lambda run: run.id
            )
        except InvalidRequest as error:
            raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json({"id": made.id, "schedule": name, "at": made.at})
    else:
        print_line(f"{name} is asked for: {made.id}; see what becomes of it: billing schedule list")


def pause(name: Name, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Make no more ticks of a schedule, until it is resumed. What runs now ends; what waits is held.

    It pulls the switch of the schedule's contract, so `billing switch list` shows it, too. The ticks of the pause count
    as missed: the schedule says whether they are skipped, made up for by one run, or all made.

    \b
    Example:
      billing schedule pause report_catalog --reason "Postgres is short of disk, INC-14"
    """
    from billing import switches

    schedule = _known(name)
    with acting("schedule pause", actor, reason) as act:
        pulled = act.inside(
            lambda session: switches.pull_once(session, _scope(schedule), actor=act.actor, reason=reason),
            about=name,
            count=lambda done: int(done.changed),
        )
    row = pulled.switch
    if as_json:
        print_json({"schedule": name, "paused_since": row.pulled_at, "actor": row.actor, "reason": row.reason})
        return
    print_line(f"{name} is paused since {clock(row.pulled_at)} UTC by {row.actor}: {row.reason}")
    print_line(f"to go on: billing schedule resume {name} --reason WHY")


def resume(name: Name, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Make the ticks of a schedule again. Within a minute a relay sees it, and treats the missed ticks as it says.

    \b
    Example:
      billing schedule resume report_catalog --reason "there is disk again, INC-14"
    """
    from billing import switches
    from billing.errors import UnknownEntity

    schedule = _known(name)
    with acting("schedule resume", actor, reason) as act:
        try:
            act.inside(
                lambda session: switches.release(session, _scope(schedule), actor=act.actor, reason=reason), about=name
            )
        except UnknownEntity:
            raise typer.BadParameter(f"{name} is not paused; `billing schedule list` shows what is") from None
    if as_json:
        print_json({"schedule": name, "paused_since": None})
        return
    missed = {"skip": "are skipped", "once": "are made up for by one run", "every": "are all made"}
    print_line(f"{name} goes on; the ticks that it missed {missed[schedule.after_downtime]}")


def catalog(as_json: AsJson = False) -> None:
    """List every contract and schedule: whose it is, what for, how much it was used in 30 days, and what is obsolete.

    The schedule `report_catalog` stores the same once a month in a fact.

    \b
    Example:
      billing catalog
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.schedules import catalog

    with opened() as runtime:
        entries = patiently(runtime, catalog.read)
    if as_json:
        print_json(entries)
        return
    print_table(
        f"used in {catalog.WINDOW.days} days",
        ("kind", "name", "owner", "times", "last (UTC)", "what for", "obsolete"),
        [(e.kind, e.name, e.owner, e.volume, clock(e.last_use)[:-4], e.purpose, e.obsolete) for e in entries],
    )
    obsolete = sum(entry.obsolete is not None for entry in entries)
    print_line(f"{counted(obsolete, 'entry is', 'entries are')} obsolete" if obsolete else "nothing is obsolete")


def _known(name: str) -> "Schedule":
    from billing.schedules import BY_NAME

    if name not in BY_NAME:
        raise typer.BadParameter(f"no schedule is called {name}; there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def _scope(schedule: "Schedule") -> str:
    return f"contract:{schedule.name}"


def _why_not(each: "Listed") -> str:
    if each.after_downtime == "skip":
        return "no relay ran then, or it was paused; the next tick is made"
    return "a relay makes it within a minute; does one run? `billing health relay`"


def _next(each: "Listed") -> str:
    if each.paused is not None:
        return f"paused ({each.paused['scope']}: {each.paused['reason']})"
    return clock(each.next_at)[:-7]


def _last(last: "LastRun | None") -> tuple[Any, ...]:
    if last is None:
        return "", "", "it has not run yet"
    took = "" if last.took_s is None else f"{last.took_s:.1f} s"
    by = f", asked for by {last.asked_by}" if last.asked_by else ""
    missed = f", {counted(last.missed, 'tick')} before it missed" if last.missed else ""
    return clock(last.at)[:-7], took, f"{last.outcome}{by}{missed}"
