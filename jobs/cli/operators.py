"""The command with which the operator on call explains one payment."""

from typing import TYPE_CHECKING, Annotated, Any

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
    from billing.explain import Explanation
    from billing.explained_facts import ExplainedFact
    from billing.stripes_side import Differs
    from billing.timeline import Moment
    from jobs.process.runtime import Runtime

JSON_VERSION = 1
"""Of what `--json` prints. Fields are added under the same number; what is renamed or removed raises it."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(explain)


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Any id: cap_, void_, ref_, inv_, swi_, run_, wrk_, rec_, dif_, pi_, ch_, re_, in_, cus_, evt_, txn_, "
            "req_, an idempotency key, a request id or a correlation id",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show everything that an id leads to, on one timeline, with what holds it up and the next safe action.

    Any id will do: ours, Stripe's, that of one of Stripe's answers (req_), an idempotency key, or your own request or
    correlation id. It shows who asked, what was sent under which key, what was answered or not, facts, and in which
    object of the archive each is. Facts that left Postgres (BILLING_KEEP_FACTS_DAYS) are read from the archive.

    \b
    Examples:
      billing explain cap_0198f0c2...
      billing explain pi_3PqR...        # by the PaymentIntent
      billing explain req_xxQ1...       # by the id of Stripe's answer
      billing explain order-42 --json   # by your request id
    """
    from dataclasses import replace

    from archive.purging.places import objects
    from billing.explain import explain as the_story
    from billing.explain import with_objects
    from billing.timeline import timeline
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        found = patiently(runtime, lambda session: the_story(session, name))
        batches = {(fact.retention_class, fact.batch) for each in found.operations for fact in each.facts if fact.batch}
        keys = patiently(runtime, lambda session: objects(session, batches))
        told = [_whole(runtime, with_objects(story, keys)) for story in found.operations]
    found = replace(found, operations=[story for story, _ in told])
    if as_json:
        print_json({"version": JSON_VERSION, **_fields(found), "timeline": timeline(found.operations)})
    else:
        if found.difference is not None:
            _show_difference(found.difference, ours=bool(told))
        for number, (story, _) in enumerate(told):
            if number:
                print_line("")
            show(story, alone=len(told) == 1)
        if len(told) > 1:
            print_line("")
            print_timeline(timeline(found.operations))
        if found.more:
            print_line(f"it leads to {found.more} older ones, too, which are not shown")
    for story, missing in told:
        if missing is not None:
            purged = counted(story.purged, "fact")
            print_error(f"{purged} left Postgres and could not be read from the archive: {missing}")


def _show_difference(found: "Differs", *, ours: bool) -> None:
    print_line(f"{found.id}: {found.kind}, {found.state} since {clock(found.state_since)} UTC: {found.told}")
    if found.closed_because:
        print_line(f"closed by {found.closed_by}: {found.closed_because}")
    if not ours:
        print_line(f"it is about {found.subject}, and no operation of ours is known for that")
    print_line(f"do: billing differences show {found.id}  # both sides, what it means, and what its owner does next")
    print_line("")


def _whole(runtime: "Runtime", story: "Explanation") -> "tuple[Explanation, str | None]":
    """With the facts that left Postgres, and why some are missing. Only then what reads the archive is loaded."""
    if not story.purged:
        return story, None
    from jobs.process.purging import from_the_archive

    return from_the_archive(runtime, story)


def show(story: "Explanation", *, alone: bool = True) -> None:
    """Print the story as text; `alone`: with a timeline of its own. Amounts in full units, times in UTC."""
    from billing.timeline import timeline

    now, asked = story.status, dict(story.request)
    currency = asked.pop("currency", None)
    money = amount(asked.pop("minor", None), currency)
    state = f"{now.state} since {clock(now.since)} UTC" + (f" ({now.reason})" if now.reason else "")
    print_line(f"{now.id}: {f'{money}, ' if money else ''}{state}")
    print_line(f"next: {now.next}")
    print_line(f"why: {story.advice.why}")
    # Copied as a whole it is still the command alone.
    print_line(f"do: {f'{story.advice.command}  # ' if story.advice.command else ''}{story.advice.do}")
    print_line("")
    print_line("asked")
    lines = asked.pop("lines", [])
    for label, value in asked.items():
        if value is not None:
            money_too = amount(value, currency) if label.endswith("_minor") else _shown(value)
            # Who wonders why an order was not taken a second time reads it here: nothing else is stored of it.
            once = " (repeated with other parameters, it is refused)" if label == "request_id" else ""
            print_line(f"  {label.removesuffix('_minor')}: {money_too}{once}")
    for line in lines:
        print_line(f"  line: {amount(line, currency)}")
    if story.work:
        print_line("")
        print_table(
            "work",
            ("id", "contract", "state", "attempts", "due", "reason"),
            [(w.id, w.contract, w.state, w.attempts, clock(w.due_at), w.reason) for w in story.work],
        )
    if story.calls:
        print_line("")
        print_table(
            "provider calls",
            ("call", "state", "sends", "looks", "status", "Stripe request ids", "first sent", "conclusion"),
            [
                (
                    f"{call.step} g{call.generation}",
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
    if now.final and story.request.get("request_id") and not story.work:
        print_line("work and calls were removed long after the end; every attempt is among the facts")
    _show_archive(story)
    if alone:
        print_line("")
        print_timeline(timeline([story]))


def print_timeline(moments: "list[Moment]") -> None:
    """One line each. Where there are several operations, each line names its own."""
    several = len({moment.of for moment in moments}) > 1
    print_line("timeline")
    for moment in moments:
        by = "" if moment.by in ("billing", "") else f", by {moment.by}"
        of = f"{moment.of}  " if several else ""
        what = "" if moment.what == "fact" else f"{moment.what}: "
        print_line(f"  {clock(moment.at)}  {of}{what}{moment.text}{by}{_details(moment.details)}")


def _show_archive(story: "Explanation") -> None:
    """Which object holds which facts. A fact that waits for the archiver is in none."""
    by_object: dict[str, list[ExplainedFact]] = {}
    for fact in story.facts:
        if fact.object is not None:
            by_object.setdefault(f"{fact.object} (batch {fact.retention_class} {fact.batch})", []).append(fact)
    if by_object:
        print_line("")
        print_line("archive")
    for place, facts in by_object.items():
        numbers = ", ".join(str(fact.version) for fact in facts)
        print_line(f"  {place}: fact{'s' if len(facts) > 1 else ''} {numbers}")
    if any(fact.archived for fact in story.facts):
        print_line(f"{counted(sum(fact.archived for fact in story.facts), 'fact')} of them read from the archive")


def _fields(value: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {each.name: getattr(value, each.name) for each in fields(value)}


def _shown(value: object) -> str:
    from datetime import datetime

    return f"{clock(value)} UTC" if isinstance(value, datetime) else str(value)


def _open(learned: str, look_at: str) -> str:
    return f"open, last learned: {learned}" + (f", looked at {look_at}" if look_at else "")


def _details(told: dict[str, Any]) -> str:
    """The payload as text, with the amount in full units."""
    payload = {name: value for name, value in told.items() if value not in (None, "", [], False)}
    words = []
    minor, currency = payload.get("minor"), payload.get("currency")
    # Another program wrote any other value. It is shown as it is.
    if isinstance(minor, int) and isinstance(currency, str):
        words.append(amount(minor, currency))
        payload = {name: value for name, value in payload.items() if name not in ("minor", "currency")}
    words += [f"{name} {value}" for name, value in payload.items()]
    return f" ({', '.join(words)})" if words else ""
