"""The command with which the operator on call explains one payment."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import (
    ON_CALL,
    AsJson,
    amount,
    clock,
    counted,
    print_error,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from billing.explain import ExplainedFact, Explanation


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(explain)


def explain(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="cap_..., inv_..., pi_..., in_..., wrk_..., or a request id")
    ],
    as_json: AsJson = False,
) -> None:
    """Show everything about one capture or invoice: request, work, calls to Stripe, facts, and what happens next.

    Facts that left Postgres (BILLING_KEEP_FACTS_DAYS) are read from the archive, and checked against its manifests.

    \b
    Examples:
      billing explain cap_0198f0c2...
      billing explain pi_3PqR...        # by the PaymentIntent
      billing explain order-42 --json   # by your request id
    """
    from billing.explain import explain as the_story
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        story, missing = patiently(runtime, lambda session: the_story(session, name)), None
        if story.purged:
            from jobs.process.purging import from_the_archive

            story, missing = from_the_archive(runtime, story)
    if as_json:
        print_json(story)
    else:
        show(story)
    if missing is not None:
        print_error(f"{counted(story.purged, 'fact')} left Postgres and could not be read from the archive: {missing}")


def show(story: "Explanation") -> None:
    """Print the story as text. Amounts in full units, times in UTC."""
    now, asked = story.status, dict(story.request)
    money = amount(asked.pop("minor"), asked["currency"])
    print_line(
        f"{now.id}: {money}, {now.state} since {clock(now.since)} UTC" + (f" ({now.reason})" if now.reason else "")
    )
    print_line(f"next: {now.next}")
    if story.also:
        print_line(f"the same name also leads to: {', '.join(story.also)}")
    print_line("")
    print_line("asked")
    lines = asked.pop("lines", [])
    currency = asked.pop("currency")
    for label, value in asked.items():
        if value is not None:
            money_too = amount(value, currency) if label.endswith("_minor") else _shown(value)
            print_line(f"  {label.removesuffix('_minor')}: {money_too}")
    for line in lines:
        print_line(f"  line: {amount(line, currency)}")
    print_line("")
    print_table(
        "work",
        ("id", "contract", "state", "attempts", "due", "reason"),
        [(w.id, w.contract, w.state, w.attempts, clock(w.due_at), w.reason) for w in story.work],
    )
    print_line("")
    print_table(
        "provider calls",
        ("step", "generation", "state", "sends", "looks", "status", "Stripe request ids", "first sent", "conclusion"),
        [
            (
                call.step,
                f"g{call.generation}",
                call.state,
                call.sends,
                call.looks,
                call.answer_status,
                ", ".join(call.request_ids),
                clock(call.first_sent_at),
                call.conclusion or _open(call.learned, clock(call.look_at)),
            )
            for call in story.calls
        ],
    )
    for call in story.calls:
        print_line(f"key g{call.generation}: {call.key}")
    if now.final and not story.work:
        print_line("work and calls were removed long after the end; every attempt is among the facts")
    print_line("")
    print_line("facts")
    for fact in story.facts:
        by = "" if fact.actor in ("billing", "") else f", by {fact.actor}"
        aside = ", SET ASIDE: it could not be planned" if fact.set_aside else ""
        print_line(f"  {clock(fact.at)}  {fact.topic}: {fact.meaning}{by}{_details(fact, currency)}{aside}")
    if any(fact.archived for fact in story.facts):
        print_line(f"{counted(sum(fact.archived for fact in story.facts), 'fact')} of them read from the archive")


def _shown(value: object) -> str:
    from datetime import datetime

    return f"{clock(value)} UTC" if isinstance(value, datetime) else str(value)


def _open(learned: str, look_at: str) -> str:
    return f"open, last learned: {learned}" + (f", looked at {look_at}" if look_at else "")


def _details(fact: "ExplainedFact", currency: str) -> str:
    """The payload as text, with the amount in full units; in the request's currency if the payload names none."""
    payload = {name: value for name, value in fact.payload.items() if value not in (None, "", [], False)}
    words = []
    minor, its_currency = payload.get("minor"), payload.get("currency", currency)
    # Another program wrote any other value. It is shown as it is.
    if isinstance(minor, int) and isinstance(its_currency, str):
        words.append(amount(minor, its_currency))
        payload = {name: value for name, value in payload.items() if name not in ("minor", "currency")}
    words += [f"{name} {value}" for name, value in payload.items()]
    return f" ({', '.join(words)})" if words else ""
