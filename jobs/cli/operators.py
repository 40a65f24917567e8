"""Commands for the operator on call: explain one payment, and stop new sends."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.output import (
    ON_CALL,
    Actor,
    AsJson,
    Reason,
    amount,
    clock,
    counted,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from billing.explain import ExplainedFact, Explanation

Scope = Annotated[
    str, typer.Argument(metavar="SCOPE", help="everything, captures, invoices, account:own or account:acct_...")
]


def add_to(app: typer.Typer) -> None:
    switch = typer.Typer(
        no_args_is_help=True, help="The switches: while one is pulled, nothing new is sent in its scope."
    )
    switch.command()(pull)
    switch.command()(release)
    switch.command("list")(list_switches)
    app.command(rich_help_panel=ON_CALL)(explain)
    app.add_typer(switch, name="switch", rich_help_panel=ON_CALL)


def explain(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="cap_..., inv_..., pi_..., in_..., wrk_..., or a request id")
    ],
    as_json: AsJson = False,
) -> None:
    """Show everything about one capture or invoice: request, work, calls to Stripe, facts, and what happens next.

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
        story = patiently(runtime, lambda session: the_story(session, name))
    if as_json:
        print_json(story)
    else:
        show(story)


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
    print_line("")
    print_line("facts")
    for fact in story.facts:
        by = "" if fact.actor == "billing" else f", by {fact.actor}"
        aside = ", SET ASIDE: it could not be planned" if fact.set_aside else ""
        print_line(f"  {clock(fact.at)}  {fact.topic}: {fact.meaning}{by}{_details(fact, currency)}{aside}")


def pull(scope: Scope, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Pull the switch: nothing new is sent in this scope from now on. Looks at Stripe go on.

    It lists the calls that were prepared before and may be in flight, the latest times at which they can start and
    end, and how many calls are in doubt. Pulling twice shows the first pull.

    \b
    Examples:
      billing switch pull captures --reason "duplicate orders, INC-12"
      billing switch pull account:acct_123 --reason "the merchant asks"
    """
    from datetime import timedelta

    from billing import database, switches
    from jobs.process.patience import patiently

    with acting("switch pull", actor, reason) as act:
        row = act.inside(
            lambda session: switches.pull_once(session, scope, actor=act.actor, reason=reason),
            about=scope,
            count=lambda pulled: int(pulled.changed),
        ).switch
        # In a transaction of its own, so that it counts what is unanswered after the switch has committed.
        now, left = patiently(act.runtime, lambda session: (database.now(session), switches.unanswered(session, scope)))
        timing = act.runtime.timing
    last_start = now + timedelta(seconds=timing.not_after_s)
    last_end = last_start + timedelta(seconds=timing.call_budget_s)
    if as_json:
        receipt: dict[str, Any] = {
            **_switch(row),
            "unanswered": [
                {"operation_id": operation, "step": step, "lease_until": until} for operation, step, until in left.calls
            ],
            "in_flight": left.in_flight,
            "in_doubt": left.in_doubt,
            "last_could_start_at": last_start if left.in_flight else None,
            "last_could_end_at": last_end if left.in_flight else None,
        }
        print_json(receipt)
        return
    print_line(f"{scope} is pulled since {clock(row.pulled_at)} UTC by {row.actor}: {row.reason}")
    if row.reason != reason:
        print_line(f"it was pulled before, and keeps its first reason: {row.reason}")
    if left.in_flight:
        print_line(
            f"{counted(left.in_flight, 'call is', 'calls are')} in flight, prepared before; the last could start "
            f"until {clock(last_start)} and end until {clock(last_end)} UTC:"
        )
        for operation, step, until in left.calls:
            print_line(f"  {operation} {step}, lease until {clock(until)}")
        if left.in_flight > len(left.calls):
            print_line(f"  and {left.in_flight - len(left.calls)} more")
    else:
        print_line("no call is in flight")
    if left.in_doubt:
        print_line(f"{counted(left.in_doubt, 'call is', 'calls are')} in doubt; Stripe is asked, and nothing is sent")
    else:
        print_line("no call is in doubt")


def release(scope: Scope, reason: Reason, actor: Actor = "", as_json: AsJson = False) -> None:
    """Release the switch: held work continues.

    \b
    Example:
      billing switch release captures --reason "the shop is repaired, INC-12"
    """
    from billing import switches
    from billing.errors import UnknownEntity

    with acting("switch release", actor, reason) as act:
        try:
            row = act.inside(
                lambda session: switches.release(session, scope, actor=act.actor, reason=reason), about=scope
            )
        except UnknownEntity:
            raise typer.BadParameter(f"{scope} is not pulled; `billing switch list` shows what is") from None
    print_json(_switch(row)) if as_json else print_line(f"{scope} is released; held work continues")


def list_switches(as_json: AsJson = False) -> None:
    """List the switches that are pulled now.

    \b
    Example:
      billing switch list
    """
    from sqlalchemy import select

    from billing.states import SwitchState
    from billing.tables.entities import Switch
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        rows = patiently(
            runtime,
            lambda session: session.scalars(
                select(Switch).where(Switch.state == SwitchState.PULLED).order_by(Switch.pulled_at)
            ).all(),
        )
    if as_json:
        print_json([_switch(row) for row in rows])
    elif rows:
        print_table(
            "pulled",
            ("scope", "since", "by", "reason"),
            [(row.scope, clock(row.pulled_at), row.actor, row.reason) for row in rows],
        )
    else:
        print_line("no switch is pulled")


def _switch(row: Any) -> dict[str, Any]:
    names = ("id", "scope", "state", "state_since", "actor", "reason", "probes", "pulled_at")
    return {name: getattr(row, name) for name in names}


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
