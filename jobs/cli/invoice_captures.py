"""`billing invoice captures`: invoices what was captured in one period by hand, or shows what would be."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import Acting, acting
from jobs.cli.output import Actor, AsJson, amount, counted, print_json, print_line, print_table

if TYPE_CHECKING:
    from billing.period_invoices import Made
    from jobs.schedules.invoicing import ByHand


def captures(
    period: Annotated[str, typer.Option(help="A month (2026-10), a week (2026-W44) or a day (2026-10-31).")],
    account: Annotated[
        str | None, typer.Option(help="acct_..., or own; else BILLING_STRIPE_ACCOUNT, else our own key's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing: show what would be invoiced.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Ask for the invoices of what was captured in a period that is over, as the schedule `invoice_captures` does.

    Customers with a capture that may still take money of this period wait for it, up to three days. What is on an
    invoice stays there; what became known later is on the next part of the period.

    \b
    Examples:
      billing invoice captures --period 2026-10 --dry-run
      billing invoice captures --account acct_123 --period 2026-W44
    """
    from billing.facts import OWN
    from jobs.schedules.invoicing import by_hand

    with acting("invoice captures", actor) as act:
        settings = act.runtime.settings
        named = account or settings.stripe_account or OWN
        done = by_hand(act.runtime.engine, settings.calendars, named, period, actor=act.actor, dry_run=dry_run)
        if not dry_run:
            _tell(act, done)
    print_json(_as_json(done, dry_run=dry_run)) if as_json else _print(done, dry_run=dry_run)


def _tell(act: Acting, done: "ByHand") -> None:
    """The fact that somebody did this. What was asked for is told by facts of its own."""
    act.inside(lambda _session: len(done.made), about=f"account:{done.account}", count=lambda made: made)


def _as_json(done: "ByHand", *, dry_run: bool) -> dict[str, Any]:
    return {
        "account": done.account,
        "period": done.period,
        "start": done.start.isoformat(),
        "end": done.end.isoformat(),
        "dry_run": dry_run,
        "invoices": [_one(each, dry_run=dry_run) for each in done.made],
        "waiting": [{"customer": each.customer, "currency": each.currency} for each in done.waiting],
    }


def _one(made: "Made", *, dry_run: bool) -> dict[str, Any]:
    group = made.group
    return {
        "invoice_id": None if dry_run else made.invoice_id,
        "customer": group.customer,
        "currency": group.currency,
        "part": made.part,
        "captures": made.captures,
        "minor": made.minor,
    }


def _print(done: "ByHand", *, dry_run: bool) -> None:
    rows = [
        (
            made.group.customer,
            amount(made.minor, made.group.currency),
            str(made.captures),
            str(made.part),
            "" if dry_run else made.invoice_id,
        )
        for made in done.made
    ]
    print_table("invoices", ("customer", "amount", "captures", "part", "invoice"), rows)
    for group in done.waiting:
        print_line(f"{group.customer} waits: a capture in {group.currency} may still take money of this period")
    asked = "would be asked for; nothing was written" if dry_run else "asked for"
    print_line(f"{counted(len(done.made), 'invoice')} of {done.period} ({done.account}) {asked}")
