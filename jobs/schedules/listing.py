"""What `billing schedule list` shows: each schedule with its last and its next run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from billing import database, statements
from billing.schedules import BY_NAME, SCHEDULES, Schedule
from billing.states import RunState, WorkState
from jobs.road import ticks

SQL = statements.beside(__file__)


@dataclass(frozen=True, slots=True)
class LastRun:
    """`at`: the time for which it runs. `outcome`: `done`, or how its work stands, in words. `took_s`: from its first
    try to its end. `missed`: how many ticks before it got no run. `asked_by`: None if its time had come."""

    id: str
    at: datetime
    outcome: str
    began_at: datetime | None
    took_s: float | None
    missed: int
    asked_by: str | None
    work_id: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """`paused`: the scope whose switch stops it, and why. `not_made`: the newest tick, if it came and has no run."""

    name: str
    when: str
    zone: str
    after_downtime: str
    owner: str
    purpose: str
    next_at: datetime
    paused: dict[str, str] | None
    not_made: datetime | None
    last: LastRun | None


def listed(session: Session) -> list[Listed]:
    """Every schedule of this version."""
    now = database.now(session)
    stopped = ticks.stopped_by(session)
    rows = statements.run(session, SQL["last_runs"], names=[each.name for each in SCHEDULES])
    return [_listed(BY_NAME[row.name], row, stopped.get(row.name), now) for row in rows]


def _listed(schedule: Schedule, row: Row[Any], stopped: tuple[str, str] | None, now: datetime) -> Listed:
    due = next(ticks.backwards(schedule, now))
    late = row.at is not None and row.at < due and now - due > ticks.LATE
    return Listed(
        name=schedule.name,
        when=schedule.when,
        zone=str(schedule.zone),
        after_downtime=schedule.after_downtime,
        owner=schedule.owner,
        purpose=schedule.purpose,
        next_at=ticks.following(schedule, now),
        paused=None if stopped is None else dict(zip(("scope", "reason"), stopped, strict=True)),
        not_made=due if late and stopped is None else None,
        last=None if row.id is None else _last(row),
    )


def _last(row: Row[Any]) -> LastRun:
    took = (row.ended - row.began).total_seconds() if row.began and row.ended else None
    return LastRun(row.id, row.at, _outcome(row), row.began, took, row.missed, row.asked_by, row.work_id)


def _outcome(row: Row[Any]) -> str:
    """In words, with the command that helps."""
    if row.state == RunState.DONE:
        return "done"
    match row.work:
        case None:
            return "waits for a relay to plan it"
        case WorkState.RUNNING:
            return "runs now"
        case WorkState.WAITING:
            return f"failed, and is tried again at {row.due_at:%H:%M:%S} UTC" if row.due_at else "waits"
        case WorkState.QUARANTINED:
            return f"failed: billing quarantine show {row.work_id}"
        case WorkState.HELD:
            return f"held: {row.work_reason}"
        case WorkState.PARKED:
            return "parked: no worker here knows this version of it"
        case _:
            return "waits for a worker: billing worker maintenance"
