"""`billing queues`: how long work waits on each queue, against its SLO, and what is held back for that."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from jobs.cli.output import ON_CALL, AsJson, clock, print_json, print_line, print_table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(queues)


def queues(as_json: AsJson = False) -> None:
    """Show how long work waits on each queue, against its SLO; what is held back; and how many more have room.

    Exit status 0 if every queue is in time; 1 if one is not, or if no relay measures them. docs/operate/backpressure.md
    says what to do.

    \b
    Example:
      billing queues
    """
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        found = patiently(runtime, _read)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(each["problem"] for each in found):
        raise typer.Exit(1)


def _read(session: "Session") -> list[dict[str, Any]]:
    from billing import database
    from billing.admission import room_of
    from jobs.config.queues import QUEUES
    from jobs.road import load

    now, loads, started = database.now(session), load.read(session), load.recently_started(session)
    held_back = load.held_back(loads)
    found = []
    for queue in QUEUES:
        known, recent = loads.get(queue.name), started.get(queue.name)
        found.append(
            {
                "queue": queue.name,
                "problem": load.problem(queue, known, now),
                "measured_at": known and known.measured_at,
                "waiting": known and known.waiting,
                "lag_s": known and known.lag_s,
                "slo_s": queue.start_within_s,
                "behind_since": known and known.behind_since,
                "held_back": queue.name in held_back,
                "started_last_minute": recent.operations if recent else 0,
                "waited_p50_s": recent and recent.p50_s,
                "waited_p99_s": recent and recent.p99_s,
                "starts_per_s": known and known.starts_per_s,
                "room": max(0, room_of(known.starts_per_s) - known.waiting) if known else None,
            }
        )
    return found


def _show(found: list[dict[str, Any]]) -> None:
    columns = ("queue", "waiting", "lag", "SLO", "started in 1 min", "p50", "p99", "starts/s", "room", "measured")
    print_table(
        "queues",
        columns,
        [
            (
                each["queue"],
                each["waiting"],
                _s(each["lag_s"]),
                _s(each["slo_s"]),
                each["started_last_minute"],
                _s(each["waited_p50_s"]),
                _s(each["waited_p99_s"]),
                _rate(each["starts_per_s"]),
                each["room"],
                _since(each["measured_at"]),
            )
            for each in found
        ],
    )
    for each in found:
        if each["held_back"]:
            print_line(
                f"{each['queue']}: held back until the others are in time; what becomes urgent is started all the same"
            )
        if each["problem"]:
            print_line(f"{each['queue']}: {each['problem']}")


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def _rate(per_second: float | None) -> str:
    return "" if per_second is None else f"{per_second:.1f}"


def _since(moment: datetime | None) -> str:
    return clock(moment)[11:19] + " UTC" if moment else "never"
