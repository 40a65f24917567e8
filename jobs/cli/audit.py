"""`billing audit`: who changed what by command, when, why, and whether it was done."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.moments import Moment, moment
from jobs.cli.output import ON_CALL, AsJson, clock, counted, print_json, print_line, print_table

if TYPE_CHECKING:
    from billing.audit import Audited


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(audit)


def audit(
    since: Moment = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did, as it is listed.")] = None,
    command: Annotated[str | None, typer.Option(help='Only this command, such as "switch pull".')] = None,
    about: Annotated[
        str | None, typer.Option(help="Only what was done to this: a scope, wrk_..., cap_..., inv_..., a bucket.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="List at most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List every command that changed something, the newest first: who, what, on what, how many, why, the outcome.

    A command is a fact before its change, or in the same transaction. One that was begun and not finished may have
    changed something: its process died, or still runs.

    \b
    Examples:
      billing audit --since 2026-11-25
      billing audit --command "switch pull" --actor grace
      billing audit --about cap_0198f0c2... --json
    """
    from billing.audit import Wanted, listed
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    wanted = Wanted(moment("--since", since), actor, command, about)
    with opened() as runtime:
        rows = patiently(runtime, lambda session: listed(session, wanted, most))
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("no such command" if wanted != Wanted() else "no command has changed anything yet")
        return
    print_table(
        "commands that changed something",
        ("when (UTC)", "who", "command", "about", "count", "reason", "outcome"),
        [(clock(r.at), r.actor, r.command, r.about, r.count, r.reason, _outcome(r)) for r in rows],
    )
    if len(rows) == most:
        print_line(f"these are the newest {most}; --most lists more")
    if open_ := sum(row.outcome == "begun" for row in rows):
        print_line(
            f"{counted(open_, 'command was', 'commands were')} begun and not finished: it still runs, or died and may "
            "have changed something; run it again, which is safe"
        )


def _outcome(row: "Audited") -> str:
    match row.outcome:
        case "begun":
            return "BEGUN, NOT FINISHED"
        case "failed":
            return f"FAILED {row.error or ''}".rstrip()
        case _:
            return row.outcome
