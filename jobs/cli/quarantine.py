"""`billing quarantine`: list and show the work that needs a decision. What changes it is in `quarantine_changes`."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli import quarantine_changes
from jobs.cli.output import ON_CALL, AsJson, clock, counted, print_json, print_line, print_table
from jobs.cli.quarantine_filters import filters
from jobs.cli.shared_options import options_of

if TYPE_CHECKING:
    from jobs.road.evidence import Failed
    from jobs.road.quarantine_list import Filters, Quarantined

PLACES_SHOWN = 5
"""The innermost places of an exception; `--json` has all."""

WorkId = Annotated[str, typer.Argument(metavar="WORK_ID", help="wrk_...")]


def add_to(app: typer.Typer) -> None:
    quarantine = typer.Typer(
        no_args_is_help=True, help="Work that needs a decision: list and show it, assign it, put it back or end it."
    )
    quarantine.command("list")(list_quarantined)
    quarantine.command()(show)
    for change in (
        quarantine_changes.assign,
        quarantine_changes.replay,
        quarantine_changes.discard,
        quarantine_changes.conclude,
    ):
        quarantine.command()(change)
    quarantine.command()(stats)
    app.add_typer(quarantine, name="quarantine", rich_help_panel=ON_CALL)


@options_of(filters)
def list_quarantined(
    wanted: "Filters",
    undecided: Annotated[
        bool,
        typer.Option("--undecided", help="List calls that could not be decided so far instead."),
    ] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="List at most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the work that needs a decision, the longest waiting first, with the reason and who looks at it.

    OVERDUE: nobody has touched it for an hour. An undecided call is not in quarantine: the service asks Stripe about
    it again and again, and its work waits.

    \b
    Examples:
      billing quarantine list
      billing quarantine list --untouched --older-than 2h
      billing quarantine list --reason-has conflict --account acct_123
      billing quarantine list --undecided
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.quarantine_list import Filters, listed

    if undecided:
        _list_undecided(most, as_json)
        return
    with opened() as runtime:
        rows = patiently(runtime, lambda session: listed(session, most, wanted))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            "quarantined",
            ("work", "for", "contract", "attempts", "since", "looked at by", "reason"),
            [
                (row.id, row.entity_id, row.contract, row.attempts, clock(row.since), _owner(row), row.reason)
                for row in rows
            ],
        )
    else:
        print_line("nothing is in quarantine" if wanted == Filters() else "nothing in quarantine is meant by this")


def _owner(row: "Quarantined") -> str:
    return row.assignee or ("OVERDUE" if row.overdue else "nobody yet" if row.touched_at is None else "")


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


def stats(as_json: AsJson = False) -> None:
    """Show how long work waited in quarantine until somebody touched it, in the last 30 days, and what waits now.

    The first `assign`, `replay` or `discard` of each piece is its first touch.

    \b
    Example:
      billing quarantine stats
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.quarantine_list import touch_times

    with opened() as runtime:
        times = patiently(runtime, touch_times)
    if as_json:
        print_json(times)
        return
    if times.mean_s is not None and times.p90_s is not None:
        print_line(
            f"{counted(times.touched, 'piece')} of work touched in the last 30 days: "
            f"after {times.mean_s:.0f} s on average, 90 % within {times.p90_s:.0f} s"
        )
    else:
        print_line("no work was touched in the last 30 days")
    if times.oldest_untouched_s is not None:
        print_line(
            f"{counted(times.untouched, 'piece')} untouched now, {times.overdue} overdue, the oldest for "
            f"{times.oldest_untouched_s:.0f} s: billing quarantine list --untouched"
        )
    else:
        print_line("nothing in quarantine is untouched")
