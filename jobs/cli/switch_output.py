"""How switches are counted and shown by `billing switch`."""

from typing import TYPE_CHECKING, Any

from jobs.cli.output import amount, clock, counted, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from billing.switches import Stopped
    from billing.tables.entities import Switch
    from jobs.process.runtime import Runtime

COUNT_S = 3
"""Seconds after which counting is given up: a receipt must come at once, also with millions of waiting operations."""
NOT_COUNTED = f"what is held could not be counted within {COUNT_S} s; billing switch list counts again"


def stopped_in_time(
    runtime: "Runtime", rows: "Sequence[Switch]", *, only_held: bool = False
) -> "dict[str, Stopped] | None":
    """What each of these switches holds, by scope; None if there is too much to be counted in time."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    from billing import database, switches

    if not rows:
        return {}
    try:
        with database.transaction(runtime.engine) as session:
            session.execute(text(f"SET LOCAL statement_timeout = '{COUNT_S}s'"))
            return switches.stopped(session, {row.scope for row in rows}, only_held=only_held)
    except DBAPIError as error:
        if database.sqlstate(error) not in database.TOO_SLOW:
            raise
        return None


def held(stopped: "Stopped") -> str:
    if not stopped.operations:
        return "no operation is held"
    what = counted(stopped.operations, "operation is", "operations are")
    return f"{what} held, or will be before they are sent: {_money(stopped)}"


def _columns(stopped: "dict[str, Stopped] | None", scope: str) -> tuple[object, str]:
    return (stopped[scope].operations, _money(stopped[scope])) if stopped else ("?", "?")


def _money(stopped: "Stopped") -> str:
    return ", ".join(amount(minor, currency) for currency, minor in stopped.minor.items())


def switch_json(row: "Switch", stopped: "dict[str, Stopped] | None" = None) -> dict[str, Any]:
    names = "id scope state state_since actor reason probes pulled_at expires_at release_per_hour release_next_at"
    return {**{name: getattr(row, name) for name in names.split()}, "stopped": stopped and stopped.get(row.scope)}


def print_pulled(rows: "Sequence[Switch]", stopped: "dict[str, Stopped] | None") -> None:
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


def print_paced(rows: "Sequence[Switch]", left: "dict[str, Stopped] | None", now: "datetime") -> None:
    """When the last of it may continue, if nothing else stops any of it."""
    from datetime import timedelta

    from jobs.cli.rates import shown

    print_table(
        "released at a rate",
        ("scope", "since", "rate", "operations left", "money", "until about"),
        [
            (
                row.scope,
                clock(row.state_since),
                shown(row.release_per_hour),
                *_columns(left, row.scope),
                clock(now + timedelta(hours=left[row.scope].operations / row.release_per_hour)) if left else "?",
            )
            for row in rows
            if row.release_per_hour is not None
        ],
    )
