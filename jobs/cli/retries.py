"""`billing retries`: how much work waits to be tried again, when, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import ON_CALL, AsJson, clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.road.retries import Retries


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(retries)


def retries(
    contract: Annotated[
        str, typer.Option(help="Only this one, as `billing contracts list` shows it.", metavar="NAME:VERSION")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what waits to be tried again, by contract: attempts used, waiting times, and the commonest reasons.

    Each reason is shown with its policy, which says what happens next. docs/operate/retries.md lists all policies and
    their errors.

    \b
    Examples:
      billing retries
      billing retries --contract take_capture:1
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently
    from jobs.road.retries import report

    with opened() as runtime:
        found = patiently(runtime, lambda session: report(session, contract or None))
    if as_json:
        print_json(found)
        return
    for each in found:
        _show(each)
    if not found:
        print_line("all work is done; nothing waits")


def _show(of: "Retries") -> None:
    print_line(f"{of.contract}: {', '.join(f'{count} {state}' for state, count in sorted(of.states.items()))}")
    used = ", ".join(f"{count} with {attempts}" for attempts, count in sorted(of.attempts.items()))
    print_line(f"  attempts: {used}")
    if of.next_due is not None:
        tries, wait = of.tries, of.wait_s
        print_line(f"  tries of what waits: half up to {tries.p50}, nine in ten up to {tries.p90}, at most {tries.max}")
        print_line(
            f"  next due {clock(of.next_due)} UTC; half within {wait.p50:.0f} s, nine in ten within {wait.p90:.0f} s, "
            f"all within {wait.max:.0f} s"
        )
    if of.reasons:
        columns = ("count", "state", "reason", "policy", "what happens")
        print_table("", columns, [(r.count, r.state, r.reason, r.policy, r.promise) for r in of.reasons])
