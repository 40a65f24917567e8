"""`billing quarantine`: list the work that needs a decision, show it, assign it, and put it back with a reason."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import ON_CALL, Actor, AsJson, Reason, clock, counted, print_json, print_line, print_table
from jobs.cli.quarantine_filters import (
    ByAccount,
    ByAssignee,
    ByContract,
    ByReason,
    Count,
    Everything,
    OlderThan,
    Untouched,
    WorkIdOrFilters,
    Yes,
    filters,
    in_bulk,
    refuse_both,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.road.evidence import Failed
    from jobs.road.quarantine_list import Quarantined

PLACES_SHOWN = 5
"""The innermost places of an exception; `--json` has all."""

WorkId = Annotated[str, typer.Argument(metavar="WORK_ID", help="wrk_...")]


def add_to(app: typer.Typer) -> None:
    quarantine = typer.Typer(
        no_args_is_help=True, help="Work that needs a decision: list and show it, assign it, put it back."
    )
    quarantine.command("list")(list_quarantined)
    quarantine.command()(show)
    quarantine.command()(assign)
    quarantine.command()(replay)
    quarantine.command()(stats)
    app.add_typer(quarantine, name="quarantine", rich_help_panel=ON_CALL)


def list_quarantined(
    undecided: Annotated[
        bool,
        typer.Option("--undecided", help="List calls that could not be decided so far instead."),
    ] = False,
    reason_has: ByReason = None,
    contract: ByContract = None,
    older_than: OlderThan = None,
    assignee: ByAssignee = None,
    account: ByAccount = None,
    untouched: Untouched = False,
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
    wanted = filters(reason_has, contract, older_than, assignee, account, untouched)
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


def assign(
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="Who looks at it.")],
    work_id: WorkIdOrFilters = None,
    reason_has: ByReason = None,
    contract: ByContract = None,
    older_than: OlderThan = None,
    assignee: ByAssignee = None,
    account: ByAccount = None,
    untouched: Untouched = False,
    everything: Everything = False,
    yes: Yes = False,
    count: Count = None,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Say who looks at work in quarantine. The time of the first touch of each piece is kept.

    With filters instead of WORK_ID, the command prints how many pieces are meant, and changes nothing until it is
    repeated with that --count, or with --yes.

    \b
    Examples:
      billing quarantine assign wrk_0198f0c2... --to grace
      billing quarantine assign --untouched --reason-has conflict --to grace --count 12
    """
    from jobs.road import quarantine_list

    wanted = filters(reason_has, contract, older_than, assignee, account, untouched)
    refuse_both(work_id, wanted, everything=everything)
    with acting("quarantine assign", actor) as act:

        def change(session: "Session", each: str) -> quarantine_list.Quarantined:
            return quarantine_list.assign(session, each, assignee=to, actor=act.actor)

        if work_id is None:
            in_bulk(act, wanted, change, f"assigned to {to}", yes=yes, count=count, as_json=as_json)
            return
        row = act.inside(lambda session: change(session, work_id), about=work_id)
    if as_json:
        print_json(row)
    else:
        print_line(f"{work_id} is assigned to {row.assignee}; all about it: billing quarantine show {work_id}")


def replay(
    reason: Reason,
    work_id: WorkIdOrFilters = None,
    reason_has: ByReason = None,
    contract: ByContract = None,
    older_than: OlderThan = None,
    assignee: ByAssignee = None,
    account: ByAccount = None,
    untouched: Untouched = False,
    everything: Everything = False,
    yes: Yes = False,
    count: Count = None,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Put quarantined work back. Before it sends anything, it looks at what may have happened at Stripe.

    Attempts start again at 0. If the look finds the same as before, the work is quarantined again. Actor and reason
    are stored in a fact. With filters instead of WORK_ID, the command prints how many pieces are meant, and changes
    nothing until it is repeated with that --count, or with --yes.

    \b
    Examples:
      billing quarantine replay wrk_0198f0c2... \\
          --reason "refunded in Stripe's dashboard, INC-12"
      billing quarantine replay --reason-has "could not be settled" \\
          --older-than 2h --count 12 --reason "the disk has room again, INC-12"
    """
    from jobs.road import quarantine

    wanted = filters(reason_has, contract, older_than, assignee, account, untouched)
    refuse_both(work_id, wanted, everything=everything)
    with acting("quarantine replay", actor, reason) as act:

        def change(session: "Session", each: str) -> quarantine.Replayed:
            return quarantine.replay(session, each, actor=act.actor, reason=reason)

        if work_id is None:
            in_bulk(act, wanted, change, "ready again", yes=yes, count=count, as_json=as_json)
            return
        replayed = act.inside(lambda session: change(session, work_id), about=work_id)
    if as_json:
        print_json(replayed)
        return
    print_line(f"{work_id} is ready again, for {replayed.entity_id}")
    for sentence in replayed.done:
        print_line(f"  {sentence}")


def stats(as_json: AsJson = False) -> None:
    """Show how long work waited in quarantine until somebody touched it, in the last 30 days, and what waits now.

    The first `assign` or `replay` of each piece is its first touch.

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
