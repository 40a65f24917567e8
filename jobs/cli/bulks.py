"""`billing bulks`: the files that were asked for."""

from typing import Annotated

import typer

from jobs.cli.output import ASKING, AsJson, clock, print_json, print_line, print_table


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
