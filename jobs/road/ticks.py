"""Ticks: when the time of a schedule has come, a relay writes a run for it, and the fact that starts its work.

A tick is one row (schedule, time), so any number of relays make it once, without a leader. The database's clock
decides. If it is set back, ticks that were made are not made again. While a switch stops the work of a schedule, none
of its ticks are made. Afterwards they count as missed, as after a time without a relay (`AfterDowntime`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Any

from croniter import croniter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import database, ids, row_io, statements, switches
from billing.audit import SERVICE
from billing.errors import InvalidRequest
from billing.facts import new_fact
from billing.runs import OPERATION
from billing.schedules import SCHEDULES, AfterDowntime, Schedule
from billing.scopes import Place, scopes_of
from billing.tables.scheduled_runs import ScheduledRun

SQL = statements.beside(__file__)

LATE = timedelta(minutes=5)
"""A tick that is made later than this was missed. A relay that is restarted makes it within seconds."""
COUNTED_MOST = 1000
"""So many missed ticks are counted."""
MADE_MOST = 100
"""So many missed ticks get a run of their own, the newest: an hourly schedule after four days."""
CHECK_EVERY_S = 60.0
"""A relay looks at least so often: a switch may have been released, or the clock set."""

_OVERLAP = timedelta(hours=3)
"""No clock is set back by more, where summer time ends."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A run that is to be written. `missed`: how many ticks before it get none."""

    at: datetime
    missed: int = 0


def make(session: Session, schedules: Sequence[Schedule] = SCHEDULES) -> float:
    """Write the runs of all ticks that have come. Returns after how many seconds to look again."""
    now = database.now(session)
    stopped = stopped_by(session, schedules)
    rows = statements.run(session, SQL["newest"], names=[each.name for each in schedules])
    newest = {row.name: row.at for row in rows}
    for schedule in schedules:
        if schedule.name not in stopped:
            for tick in come(schedule, newest[schedule.name], now):
                _write(session, schedule, tick)
    return min((seconds_to_next(schedule, now) for schedule in schedules), default=CHECK_EVERY_S)


def ask_for(session: Session, schedule: Schedule, *, actor: str) -> ScheduledRun:
    """Have it run now, beside its ticks. Returns the run. Raises InvalidRequest if a switch stops it."""
    if (stopped := stopped_by(session, [schedule]).get(schedule.name)) is not None:
        raise InvalidRequest(schedule.name, f"is stopped by the switch {stopped[0]}: {stopped[1]}; release it first")
    run = _write(session, schedule, Tick(database.now(session)), actor=actor)
    assert run is not None, "no tick is written to the microsecond"
    return run


def stopped_by(session: Session, schedules: Sequence[Schedule] = SCHEDULES) -> dict[str, tuple[str, str]]:
    """The schedules whose work a pulled switch stops, each with its scope and the reason."""
    scopes = {schedule.name: scopes_of_runs(schedule) for schedule in schedules}
    pulled = switches.lock_and_read_pulled(session, {scope for each in scopes.values() for scope in each})
    found = {name: next((scope for scope in each if scope in pulled), None) for name, each in scopes.items()}
    return {name: (scope, pulled[scope]) for name, scope in found.items() if scope is not None}


def scopes_of_runs(schedule: Schedule) -> list[str]:
    """The scopes in which the work of this schedule stands."""
    return scopes_of(Place(OPERATION, schedule.name, schedule.queue, None, None))


def come(schedule: Schedule, newest: datetime | None, now: datetime) -> list[Tick]:
    """The ticks to be made now, the oldest first. `newest`: the last one that was made; a schedule that never ran has
    missed nothing."""
    last = next(backwards(schedule, now))
    in_time = now - last <= LATE
    if newest is None:
        return [Tick(last)] if in_time else []
    if last <= newest or (schedule.after_downtime is AfterDowntime.SKIP and not in_time):
        return []
    since = list(islice(takewhile(lambda at: at > newest, backwards(schedule, now)), COUNTED_MOST))
    made = since[: MADE_MOST if schedule.after_downtime is AfterDowntime.EVERY else 1]
    oldest, *others = reversed(made)
    return [Tick(oldest, missed=len(since) - len(made)), *map(Tick, others)]


def seconds_to_next(schedule: Schedule, now: datetime) -> float:
    """Until its next tick, and at most `CHECK_EVERY_S`."""
    return min((following(schedule, now) - now).total_seconds(), CHECK_EVERY_S)


def backwards(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """Its ticks up to `now`, the newest first, in UTC."""
    walls = croniter(schedule.when, _wall(now, schedule.zone) + _OVERLAP)
    last = None
    while True:
        at = _instant(walls.get_prev(datetime), schedule.zone)
        if at <= now and at != last:
            yield (last := at)


def following(schedule: Schedule, now: datetime) -> datetime:
    """Its first tick after `now`, in UTC."""
    walls = croniter(schedule.when, _wall(now, schedule.zone))
    while (at := _instant(walls.get_next(datetime), schedule.zone)) <= now:
        pass
    return at


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """What a clock on the wall shows there. Cron's fields are about such clocks, so no library decides about summer
    time."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """When a clock on the wall first shows this time; if it skips this time, when it goes on."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(first, zone) == wall:
        return first
    # With fold=1 it is read by the offset from after the gap, and so lies before it.
    at = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while _wall(at, zone) < wall:
        at += timedelta(minutes=1)
    return at


def _write(session: Session, schedule: Schedule, tick: Tick, actor: str | None = None) -> ScheduledRun | None:
    """None: another relay wrote this tick."""
    run = ScheduledRun(id=ids.new(OPERATION.prefix), version=0)
    values = {
        "id": run.id,
        "schedule": schedule.name,
        "at": tick.at,
        "missed": tick.missed,
        "asked_by": actor,
        "version": 1,
    }
    written = insert(ScheduledRun).values(values).on_conflict_do_nothing().returning(ScheduledRun.id)
    if session.scalar(written) is None:
        return None
    said: dict[str, Any] = {"at": tick.at.isoformat(), "missed": tick.missed}
    row_io.save(session, (), [new_fact(run, schedule.name, actor=actor or SERVICE, **said)])
    return run
