"""`billing limits`: how fast Stripe may be called now, by account, and which account does not answer."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.output import ON_CALL, AsJson, clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.limits.shared import Standing


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(limits)


def limits(as_json: AsJson = False) -> None:
    """Show how fast each Stripe account may be called now, whether Stripe throttles it, and whether it answers.

    All workers share these limits through Redis. They slow down together when Stripe answers 429, and recover by
    themselves. An account that answers no call is called once every few seconds, until it does.

    \b
    Examples:
      billing limits
      billing limits --json
    """
    from jobs.cli.opening import open_process
    from jobs.limits.shared import standings
    from jobs.rq import bells

    runtime = open_process("cli")
    try:
        bells.check_stamp(runtime.redis, runtime.settings.environment)
        found = list(standings(runtime.redis, runtime.settings.environment, runtime.terms))
    finally:
        runtime.close()
    if as_json:
        print_json(found)
        return
    if not found:
        print_line(f"no account was called in the last hour; each may be called {runtime.terms.most:g} times a second")
        return
    print_table("", ("account", "per second", "at most", "tokens", "state"), [_row(each) for each in found])
    if any(each.silent_since for each in found):
        print_line("Stripe does not answer: nothing to do here; its first answer wakes what waits (status.stripe.com)")
    if any(each.throttled_since for each in found):
        print_line("Stripe answered 429; the rate recovers by itself. If it stays low, lower BILLING_STRIPE_RATE")


def _row(of: "Standing") -> tuple[str, ...]:
    state = "answers"
    if of.silent_since is not None:
        state = f"SILENT since {clock(of.silent_since)} UTC, next call {clock(of.next_call_at)}"
    elif of.throttled_since is not None:
        state = f"THROTTLED since {clock(of.throttled_since)} UTC"
    elif of.failures:
        state = f"{of.failures} failed since the last answer"
    return of.account, f"{of.rate:g}", f"{of.most:g}", f"{of.tokens:g}", state
