"""`billing reconcile` and `billing differences`: our rows compared with Stripe's own records, and what differs."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.moments import Moment, moment
from jobs.cli.output import (
    FINANCE,
    Actor,
    AsJson,
    Reason,
    amount,
    clock,
    counted,
    print_error,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from jobs.reconciliation.differences import Found
    from jobs.reconciliation.passes import Report

DifferenceId = Annotated[str, typer.Argument(metavar="ID", help="dif_...")]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=FINANCE)(reconcile)
    differences = typer.Typer(
        no_args_is_help=True, help="Where our rows and Stripe's own records say different things: list, show, close."
    )
    differences.command("list")(list_differences)
    differences.command()(show)
    differences.command()(close)
    app.add_typer(differences, name="differences", rich_help_panel=FINANCE)


def reconcile(since: Moment = None, until: Moment = None, actor: Actor = "", as_json: AsJson = False) -> None:
    """Read on in Stripe's own records and in the archive, and compare them with our rows.

    It goes on where the last pass ended, with the schedule `reconcile_stripe` as with this command, and may be stopped
    and run again. Its result is rows: `billing differences list`. Nothing is changed at Stripe, so a restricted key
    that can only read is enough. What is younger than two hours, or in doubt, is not compared.

    --since reads and compares again from then on, also what lies before the first pass; --until ends there.

    Exit status 1 if a difference is open, or an account could not be read.

    \b
    Examples:
      billing reconcile
      billing reconcile --since 2026-10-01 --actor grace
    """
    from datetime import UTC

    from jobs.process import reconciling
    from jobs.process.patience import patiently

    begin, end = moment("--since", since), moment("--until", until)
    now = datetime.now(UTC)
    for option, given in (("--since", begin), ("--until", end)):
        if given is not None and given > now:
            raise typer.BadParameter(f"{option} lies in the future")
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter("--until is not after --since")
    with acting("reconcile", actor) as act:
        settings, transact = act.runtime.settings, partial(patiently, act.runtime)
        with reconciling.opened(settings, transact, print_error) as pass_, act.outside(about="stripe_records"):
            report = pass_.run(lambda: float("inf"), since=begin, until=end)
    if as_json:
        print_json(_as_json(report))
    else:
        _show_report(report)
    if report.open or report.unread:
        raise typer.Exit(1)


def _as_json(report: "Report") -> dict[str, Any]:
    return {**report.as_result(), "unread": report.unread}


def _show_report(report: "Report") -> None:
    done = report.counted
    print_line(f"{counted(report.pages, 'page')} read at Stripe, {counted(done.compared, 'operation')} compared")
    if report.compared_until is not None:
        print_line(f"everything until {clock(report.compared_until)[:-7]} UTC is compared")
    if report.in_doubt:
        print_line(
            f"{counted(report.in_doubt, 'operation')} under way or in doubt, and not compared: billing quarantine list "
            "--undecided"
        )
    if done.noticed:
        print_line(
            f"{counted(done.noticed, 'operation')} not over here, and Stripe shows the effect: a worker looks now"
        )
    if done.gone:
        print_line(f"{counted(done.gone, 'difference')} gone")
    if report.booked:
        entries = counted(report.booked, "entry", "entries")
        print_line(f"{entries} of Stripe's ledger told to the archive: fees, net and payouts")
    if report.archive.compared_until is not None:
        facts = counted(report.archive.facts, "archived fact")
        print_line(f"{facts} compared, until {clock(report.archive.compared_until)[:-7]} UTC")
    else:
        print_line(f"the archive is not compared: {report.archive.why}")
    for each in report.unread:
        print_line(f"NOT READ {each.account}: {each.why}; the next pass goes on there")
    if report.open:
        shown = ", ".join(f"{number} {name}" for name, number in report.open.items())
        print_line(f"{counted(sum(report.open.values()), 'difference')} open: {shown}: billing differences list")
    else:
        print_line("no difference is open")


def list_differences(
    class_: Annotated[str | None, typer.Option("--class", metavar="CLASS", help="Only those of this class.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are gone or closed.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="List at most this many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what differs, the longest open first, with its owner: finance, payments or operations.

    \b
    Examples:
      billing differences list
      billing differences list --class duplicate_effect
      billing differences list --all --json
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.reconciliation.differences import listed

    with opened() as runtime:
        rows = patiently(runtime, lambda session: listed(session, most, every=every, class_=class_))
    if as_json:
        print_json([_plain(each) for each in rows])
    elif rows:
        print_table(
            "differences; what to do: billing differences show ID",
            ("difference", "class", "about", "amount", "since", "owner", "state", "what"),
            [
                (
                    each.id,
                    each.class_,
                    each.subject,
                    amount(each.amount_minor, each.currency),
                    clock(each.since)[:-7],
                    each.owner,
                    each.state,
                    each.what,
                )
                for each in rows
            ],
        )
    else:
        print_line("no difference" if every else "no difference is open")


def show(difference_id: DifferenceId, as_json: AsJson = False) -> None:
    """Show one difference: both sides, what it means, and what its owner does next.

    \b
    Example:
      billing differences show dif_0198f0c2...
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.reconciliation.differences import shown

    with opened() as runtime:
        found = patiently(runtime, lambda session: shown(session, difference_id))
    if as_json:
        print_json(_plain(found))
        return
    of = f", {found.stripe_id} at Stripe" if found.stripe_id else ""
    money = amount(found.amount_minor, found.currency)
    print_line(f"{found.id}: {found.class_} of {found.subject}{of}{f', {money}' if money else ''}")
    print_line(f"  {found.what}")
    print_line(f"  {found.meaning}")
    print_line(f"  open since {clock(found.since)} UTC, last seen {clock(found.seen_at)} UTC; account {found.account}")
    if found.ended_at is not None:
        print_line(f"  {found.state} since {clock(found.ended_at)} UTC")
    if found.closed_by:
        print_line(f"  closed by {found.closed_by}: {found.closed_because}")
    if found.state == "open":
        print_line(f"  {found.owner}: {found.next_step.replace('ID', found.subject)}")
        print_line(f"  if that is how it must be: billing differences close {found.id} --reason WHY")


def close(difference_id: DifferenceId, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Close a difference that is as it must be, with the reason. It opens again if either side changes.

    What disappears closes by itself: the next pass finds it gone.

    \b
    Example:
      billing differences close dif_0198f0c2... --reason "refunded by hand, ticket 4711"
    """
    from jobs.reconciliation import differences

    with acting("differences close", actor, reason) as act:
        closed = act.inside(
            lambda session: differences.close(session, difference_id, actor=act.actor, reason=reason),
            about=difference_id,
            count=int,
        )
    if as_json:
        print_json({"id": difference_id, "closed": closed})
    elif closed:
        print_line(f"{difference_id} is closed; it opens again if either side changes")
    else:
        print_line(f"{difference_id} was not open; see billing differences show {difference_id}")


def _plain(found: "Found") -> dict[str, Any]:
    from dataclasses import asdict

    return {name.rstrip("_"): value for name, value in asdict(found).items()}
