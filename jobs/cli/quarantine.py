"""`billing quarantine`: list the work that needs a decision, show it, and put it back with a reason."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import ON_CALL, Actor, AsJson, Reason, clock, counted, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.road.evidence import Failed

PLACES_SHOWN = 5
"""The innermost places of an exception; `--json` has all."""

WorkId = Annotated[str, typer.Argument(metavar="WORK_ID", help="wrk_...")]


def add_to(app: typer.Typer) -> None:
    quarantine = typer.Typer(no_args_is_help=True, help="Work that needs a decision: list, show, replay.")
    quarantine.command("list")(list_quarantined)
    quarantine.command()(show)
    quarantine.command()(replay)
    app.add_typer(quarantine, name="quarantine", rich_help_panel=ON_CALL)


def list_quarantined(
    undecided: Annotated[
        bool,
        typer.Option("--undecided", help="List calls that could not be decided so far instead."),
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="List at most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the work that needs a decision, the longest waiting first, with the reason.

    An undecided call is not in quarantine: the service asks Stripe about it again and again, and its work waits.

    \b
    Examples:
      billing quarantine list
      billing quarantine list --undecided
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.quarantine import listed

    if undecided:
        _list_undecided(most, as_json)
        return
    with opened() as runtime:
        rows = patiently(runtime, lambda session: listed(session, most))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            "quarantined",
            ("work", "for", "contract", "attempts", "since", "reason"),
            [(row.id, row.entity_id, row.contract, row.attempts, clock(row.since), row.reason) for row in rows],
        )
    else:
        print_line("nothing is in quarantine")


def _list_undecided(most: int, as_json: bool) -> None:
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.quarantine import undecided

    with opened() as runtime:
        calls = patiently(runtime, lambda session: undecided(session, most))
    if as_json:
        print_json(calls)
    elif calls:
        print_table(
            "undecided; billing explain ID shows everything",
            ("for", "step", "since", "sent at first", "looks", "looked at again"),
            [
                (c.entity_id, f"{c.step} g{c.generation}", clock(c.since), clock(c.sent), c.looks, clock(c.look_at))
                for c in calls
            ],
        )
    else:
        print_line("no call is undecided")


def show(work_id: WorkId, as_json: AsJson = False) -> None:
    """Show everything about one piece of work: how it failed, and what `billing explain` says about its operation.

    Each failure has the errors with their places, the calls as they stood then, and the version of the code.

    \b
    Example:
      billing quarantine show wrk_0198f0c2...
    """
    from jobs.cli import operators
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.quarantine import show as shown

    with opened() as runtime:
        found = patiently(runtime, lambda session: shown(session, work_id))
    story, failures = found.explanation, found.failures
    if as_json:
        explained = {each.name: getattr(story, each.name) for each in fields(story)} if story is not None else {}
        print_json({**explained, "quarantined": found.work, "failures": failures})
        return
    if story is not None:
        operators.show(story)
    else:
        print_line(f"{found.work.entity_id}: nothing more is known of it, only its work: {found.work.reason}")
    print_line("")
    print_line("failures" if failures else "no failure was kept: it was quarantined by an older version")
    for failed in failures:
        _show_failure(failed)


def _show_failure(failed: "Failed") -> None:
    what = "quarantined" if failed.quarantined else "an attempt failed"
    print_line(
        f"  {clock(failed.at)}  {what}: {failed.reason or 'no reason'} (attempts {failed.attempts}, "
        f"code {failed.code_version}, contracts {failed.contracts_version})"
    )
    for error in failed.errors:
        codes = [str(error[name]) for name in ("sqlstate", "constraint") if name in error]
        print_line(f"    raised {' '.join([error['kind'], *codes])}")
        for place in error["at"][-PLACES_SHOWN:]:
            print_line(f"      at {place}")
    for call in failed.calls:
        ids = ", ".join(call["request_ids"]) or "none"
        print_line(
            f"    {call['step']} g{call['generation']} was {call['state']}, {counted(call['sends'], 'send')}, "
            f"{call['unanswered']} unanswered, Stripe request ids: {ids}"
        )


def replay(work_id: WorkId, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Put quarantined work back. Before it sends anything, it looks at what may have happened at Stripe.

    Attempts start again at 0. If the look finds the same as before, the work is quarantined again. Actor and reason
    are stored in a fact.

    \b
    Example:
      billing quarantine replay wrk_0198f0c2... \\
          --reason "refunded in Stripe's dashboard, INC-12"
    """
    from jobs.road import quarantine

    with acting("quarantine replay", actor, reason) as act:
        replayed = act.inside(
            lambda session: quarantine.replay(session, work_id, actor=act.actor, reason=reason), about=work_id
        )
    if as_json:
        print_json(replayed)
        return
    print_line(f"{work_id} is ready again, for {replayed.entity_id}")
    for sentence in replayed.done:
        print_line(f"  {sentence}")
