"""Commands that stop and continue sends: `billing switch`."""

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
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from billing.switches import Stopped, Unanswered
    from billing.tables.entities import Switch
    from jobs.process.runtime import Runtime

Scope = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE",
        help="everything, captures, invoices, contract:NAME, queue:NAME, account:own, account:acct_... or currency:EUR",
    ),
]


Expires = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="30m, 2h or 1d from now, or a time such as 2026-11-25T10:00:00Z; from then on it counts as released.",
    ),
]

COUNT_S = 3
"""Seconds after which counting is given up: a receipt must come at once, also with millions of waiting operations."""
WATCHED_S = 1.0
"""A receipt waits at most so long for calls in flight: most end, and workers take back what no thread has begun."""
NOT_COUNTED = f"what is held could not be counted within {COUNT_S} s; billing switch list counts again"


def add_to(app: typer.Typer) -> None:
    switch = typer.Typer(
        no_args_is_help=True, help="The switches: while one is pulled, nothing new is sent in its scope."
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
        stopped = _stopped(act.runtime, [row])
        timing = act.runtime.timing
    last_start = now + timedelta(seconds=timing.not_after_s)
    last_end = last_start + timedelta(seconds=timing.call_budget_s)
    if as_json:
        receipt: dict[str, Any] = {
            **_switch(row, stopped),
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
    print_line(_held(stopped[scope]) if stopped else NOT_COUNTED)
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
    """List the switches that are pulled now, with the operations and the money that each one holds.

    Work in several of these scopes is counted for each.

    \b
    Example:
      billing switch list
    """
    from sqlalchemy import func, or_, select

    from billing.states import SwitchState
    from billing.tables.entities import Switch
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        rows = patiently(
            runtime,
            lambda session: session.scalars(
                select(Switch)
                .where(
                    Switch.state == SwitchState.PULLED,
                    or_(Switch.expires_at.is_(None), Switch.expires_at > func.clock_timestamp()),
                )
                .order_by(Switch.pulled_at)
            ).all(),
        )
        stopped = _stopped(runtime, rows)
    if as_json:
        print_json([_switch(row, stopped) for row in rows])
    elif rows:
        print_table(
            "pulled",
            ("scope", "since", "until", "by", "operations", "money", "reason"),
            [
                (
                    row.scope,
                    clock(row.pulled_at),
                    clock(row.expires_at) or "released",
                    row.actor,
                    *_columns(stopped, row.scope),
                    row.reason,
                )
                for row in rows
            ],
        )
        if stopped is None:
            print_line(NOT_COUNTED)
    else:
        print_line("no switch is pulled")


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


def _stopped(runtime: "Runtime", rows: "Sequence[Switch]") -> "dict[str, Stopped] | None":
    """What each of these switches holds, by scope; None if there is too much to be counted in time."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    from billing import database, switches

    try:
        with database.transaction(runtime.engine) as session:
            session.execute(text(f"SET LOCAL statement_timeout = '{COUNT_S}s'"))
            return switches.stopped(session, {row.scope for row in rows})
    except DBAPIError as error:
        if database.sqlstate(error) not in database.TOO_SLOW:
            raise
        return None


def _held(stopped: "Stopped") -> str:
    if not stopped.operations:
        return "no operation is held"
    what = counted(stopped.operations, "operation is", "operations are")
    return f"{what} held, or will be before they are sent: {_money(stopped)}"


def _columns(stopped: "dict[str, Stopped] | None", scope: str) -> tuple[object, str]:
    return (stopped[scope].operations, _money(stopped[scope])) if stopped else ("?", "?")


def _money(stopped: "Stopped") -> str:
    return ", ".join(amount(minor, currency) for currency, minor in stopped.minor.items())


def _switch(row: "Switch", stopped: "dict[str, Stopped] | None" = None) -> dict[str, Any]:
    names = ("id", "scope", "state", "state_since", "actor", "reason", "probes", "pulled_at", "expires_at")
    return {**{name: getattr(row, name) for name in names}, "stopped": stopped and stopped.get(row.scope)}
