"""Commands that stop and continue sends: `billing switch`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.output import (
    ON_CALL,
    Actor,
    AsJson,
    Reason,
    clock,
    counted,
    print_json,
    print_line,
)
from jobs.cli.switch_output import (
    NOT_COUNTED,
    held,
    print_paced,
    print_pulled,
    stopped_in_time,
    switch_json,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from billing.switches import Unanswered
    from billing.tables.entities import Switch
    from jobs.process.runtime import Runtime

Scope = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE",
        help="everything, captures, voids, refunds, invoices, emails, documents, schedules, contract:NAME, queue:NAME, "
        "account:own, account:acct_... or currency:EUR",
    ),
]

Expires = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="30m, 2h or 1d from now, or a time such as 2026-11-25T10:00:00Z; from then on it counts as released.",
    ),
]

AtRate = Annotated[
    str | None,
    typer.Option(
        "--rate", metavar="RATE", help="Held work continues at 20/s, 100/min or 5/h; without it, all at once."
    ),
]

WATCHED_S = 1.0
"""A receipt waits at most so long for calls in flight: most end, and workers take back what no thread has begun."""


def add_to(app: typer.Typer) -> None:
    switch = typer.Typer(
        no_args_is_help=True,
        help="Stop and continue sends: while a switch is pulled, nothing new is sent in its scope.",
    )
    switch.command()(pull)
    switch.command()(release)
    switch.command("list")(list_switches)
    app.add_typer(switch, name="switch", rich_help_panel=ON_CALL)


def pull(scope: Scope, reason: Reason, actor: Actor = "", expires: Expires = None, as_json: AsJson = False) -> None:
    """Pull the switch: nothing new is sent in this scope from now on. Looks at Stripe go on.

    It shows how many operations and how much money are held. Calls that were prepared before and that no thread had
    begun are taken back, and listed. If others are still in flight after a second, it lists them, with the latest times
    at which they can start and end. It says how many calls are in doubt. Pulling twice shows the first pull, unless the
    second is for longer: it takes the switch over.

    \b
    Examples:
      billing switch pull captures --reason "duplicate orders, INC-12"
      billing switch pull account:acct_123 --reason "the merchant asks"
      billing switch pull currency:EUR --expires 2h --reason "wrong prices in the shop, INC-13"
    """
    from datetime import timedelta

    from billing import database, switches
    from jobs.cli.moments import duration, moment

    from_now = duration(expires) if expires is not None else None
    at = moment("--expires", expires) if from_now is None else None

    def pulled(session: "Session") -> switches.Pulled:
        expires_at = database.now(session) + from_now if from_now is not None else at
        return switches.pull_once(session, scope, actor=act.actor, reason=reason, expires_at=expires_at)

    with acting("switch pull", actor, reason) as act:
        row = act.inside(
            pulled,
            about=scope,
            count=lambda done: int(done.changed),
        ).switch
        now, left, taken = _watched(act.runtime, row)
        stopped = stopped_in_time(act.runtime, [row])
        timing = act.runtime.timing
    last_start = now + timedelta(seconds=timing.not_after_s)
    last_end = last_start + timedelta(seconds=timing.call_budget_s)
    if as_json:
        receipt: dict[str, Any] = {
            **switch_json(row, stopped),
            "unanswered": [
                {"operation_id": operation, "step": step, "lease_until": until} for operation, step, until in left.calls
            ],
            "taken_back": [{"operation_id": operation, "step": step} for operation, step in taken],
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
    if row.expires_at is not None:
        print_line(f"it expires at {clock(row.expires_at)} UTC, and counts as released from then on")
    print_line(held(stopped[scope]) if stopped else NOT_COUNTED)
    if taken:
        print_line(f"{counted(len(taken), 'call was', 'calls were')} taken back before anything of it was sent:")
        for operation, step in taken:
            print_line(f"  {operation} {step}")
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
    print_line(f"to continue: billing switch release {scope} --reason WHY")


def release(scope: Scope, reason: Reason, actor: Actor = "", at_rate: AtRate = None, as_json: AsJson = False) -> None:
    """Release the switch: held work continues, all at once or at a rate.

    At a rate, the most urgent held work continues first. Work that comes after the release does not wait.
    `billing switch list` shows what is left. Pulling the switch again stops it.

    \b
    Examples:
      billing switch release captures --reason "the shop is repaired, INC-12"
      billing switch release captures --rate 20/s --reason "the shop is repaired, INC-12"
    """
    from billing import switches
    from billing.errors import UnknownEntity
    from jobs.cli.rates import rate

    per_hour = rate("--rate", at_rate) if at_rate is not None else None
    with acting("switch release", actor, reason) as act:
        try:
            row = act.inside(
                lambda session: switches.release(session, scope, actor=act.actor, reason=reason, per_hour=per_hour),
                about=scope,
            )
        except UnknownEntity:
            raise typer.BadParameter(f"{scope} is not pulled; `billing switch list` shows what is") from None
        left = stopped_in_time(act.runtime, [row], only_held=True) if per_hour else None
    if as_json:
        print_json(switch_json(row, left))
    elif per_hour:
        count = counted(left[scope].operations, "held operation") if left else "held work"
        print_line(f"{scope} is released; {count} may continue at {at_rate}: billing switch list shows what is left")
    else:
        print_line(f"{scope} is released; held work continues")


def list_switches(as_json: AsJson = False) -> None:
    """List the switches that are pulled now, with the operations and the money that each one holds.

    Work in several of these scopes is counted for each. Below are the switches that were released at a rate, as long as
    work of theirs is left; in JSON, their state is `released`.

    \b
    Example:
      billing switch list
    """
    from sqlalchemy import func, or_, select

    from billing import database
    from billing.states import SwitchState
    from billing.tables.entities import Switch
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    not_over = or_(Switch.expires_at.is_(None), Switch.expires_at > func.clock_timestamp())
    listed = or_((Switch.state == SwitchState.PULLED) & not_over, Switch.release_per_hour.is_not(None))
    with opened() as runtime:
        now, rows = patiently(
            runtime,
            lambda session: (
                database.now(session),
                session.scalars(select(Switch).where(listed).order_by(Switch.pulled_at)).all(),
            ),
        )
        pulled = [row for row in rows if row.release_per_hour is None]
        paced = [row for row in rows if row.release_per_hour is not None]
        stopped, left = stopped_in_time(runtime, pulled), stopped_in_time(runtime, paced, only_held=True)
    if as_json:
        print_json([*(switch_json(row, stopped) for row in pulled), *(switch_json(row, left) for row in paced)])
        return
    if pulled:
        print_pulled(pulled, stopped)
    else:
        print_line("no switch is pulled")
    if paced:
        print_paced(paced, left, now)
    if stopped is None or left is None:
        print_line(NOT_COUNTED)


def _watched(runtime: "Runtime", row: "Switch") -> "tuple[datetime, Unanswered, list[tuple[str, str]]]":
    """The time, the calls that are unanswered then, and those that were taken back since the pull.

    Each time in a transaction of its own, so that it sees what other transactions committed after the switch.
    """
    import time

    from billing import database, switches
    from jobs.process.patience import patiently

    until = time.monotonic() + WATCHED_S
    while True:
        now, left = patiently(runtime, lambda session: (database.now(session), switches.unanswered(session, row.scope)))
        if not left.in_flight or time.monotonic() > until:
            return now, left, patiently(runtime, lambda session: switches.taken_back(session, row.scope, row.pulled_at))
        time.sleep(WATCHED_S / 5)
