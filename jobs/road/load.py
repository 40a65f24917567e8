"""The load of each queue: how much waits to be started, for how long, and how fast work is started.

A relay measures it about once a second. Three things follow: work that may wait is held back while other work is behind
its SLO (`work_queue.sql`), a bulk that has no room is refused (`billing.admission`), and `billing queues` shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from billing import database, statements
from billing.admission import STALE, room_of
from billing.operation_rows import REQUESTED
from jobs import logs
from jobs.config.queues import QUEUES, Queue
from jobs.road.contracts import contracts, may_wait, starters

log = structlog.get_logger()

SQL = statements.beside(__file__, requested=REQUESTED)

WINDOW_S = 10.0
"""What was started in this time is counted, to know how fast the queue is."""
CALM_SHARE = 0.5
"""A queue that is behind its SLO has recovered once its lag is under this share of it: so it does not go to and fro."""
SLOWER_BY = 0.9
"""A measured rate that is lower than before counts by so much of the old one at each measurement. The first seconds of
a backlog measure too little, because the window began before it."""
RECENT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Load:
    """A row of `queue_loads`, and what is said there."""

    queue: str
    measured_at: datetime
    waiting: int
    lag_s: float
    started: int
    starts_per_s: float
    behind_since: datetime | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one measurement counts."""

    waiting: int
    lag_s: float
    started: int


@dataclass(frozen=True, slots=True)
class Started:
    """What was started on a queue in the last minute, and how long it had waited since its request."""

    operations: int
    p50_s: float
    p99_s: float
    max_s: float


def judge(queue: Queue, seen: Seen, before: Load | None, now: datetime) -> Load:
    """The load of a queue by what is seen now and what was known before. Pure.

    A queue is behind if its lag is over its SLO although work is started. Where none is, no worker runs or Stripe is
    silent: to hold back other work would not help.
    """
    rate = before.starts_per_s if before is not None else queue.starts_per_s
    if min(seen.waiting, before.waiting if before is not None else 0) >= queue.crew:
        # Only a queue in which more waits than one worker takes shows what it can do.
        rate = max(seen.started / WINDOW_S, rate * SLOWER_BY)
    since = before.behind_since if before is not None else None
    limit_s = queue.start_within_s * (1 if since is None else CALM_SHARE)
    behind = seen.started > 0 and seen.lag_s > limit_s
    return Load(queue.name, now, seen.waiting, seen.lag_s, seen.started, rate, (since or now) if behind else None)


def measure(session: Session) -> list[Load]:
    """Measure every queue and write it down; a line is logged when a queue falls behind its SLO, and when it
    has recovered."""
    before = read(session)
    now = database.now(session)
    names = [queue.name for queue in QUEUES]
    rows = statements.run(
        session,
        SQL["measure"],
        queues=names,
        mosts=[_counted_up_to(queue, before.get(queue.name)) for queue in QUEUES],
        starters=[" ".join(_starters(queue.name)) for queue in QUEUES],
        since=_first_record(now - timedelta(seconds=WINDOW_S)),
    )
    loads = []
    for queue, row in zip(QUEUES, rows, strict=True):
        old = before.get(queue.name)
        load = judge(queue, Seen(row.waiting, float(row.lag_s), row.started), old, now)
        statements.run(session, SQL["write"], **_columns(load))
        loads.append(load)
        _log_change(session, queue, old, load)
    return loads


def read(session: Session) -> dict[str, Load]:
    """The last measurement of each queue, by its name."""
    return {row.queue: Load(**row._mapping) for row in statements.run(session, SQL["read"])}


def recently_started(session: Session) -> dict[str, Started]:
    """By queue, how long what was started in the last minute had waited. For commands: it reads all of that."""
    since = _first_record(database.now(session) - RECENT)
    return {
        row.queue: Started(row.operations, row.p50_s, row.p99_s, row.max_s)
        for row in statements.run(session, SQL["recently_started"], since=since)
    }


def held_back(loads: Mapping[str, Load]) -> list[str]:
    """The queues whose work is held back by this measurement, unless it is urgent."""
    waiting = may_wait()
    behind = any(load.behind_since is not None for name, load in loads.items() if name not in waiting)
    return waiting if behind else []


def problem(queue: Queue, load: Load | None, now: datetime) -> str | None:
    """What is wrong with this queue, and what to do, for an operator; None if it is in time."""
    if load is None or now - load.measured_at > STALE:
        return "no relay measures it: start one, and see `billing health relay`"
    if load.lag_s <= queue.start_within_s:
        return None
    late = f"the next has waited {load.lag_s:,.0f} s, and {queue.start_within_s:g} s are allowed"
    if not load.started:
        return f"{late}; none is started: see `billing health worker-{queue.name}`, and `billing retries`"
    drained_s = load.waiting / max(load.starts_per_s, 0.1)
    return f"{late}; at this rate {drained_s:,.0f} s until nothing waits. More workers, or a slow Stripe?"


def _counted_up_to(queue: Queue, before: Load | None) -> int:
    """A bulk has no room where so much waits, so more need not be counted."""
    return max(1000, room_of(before.starts_per_s if before is not None else queue.starts_per_s) + queue.crew)


def _starters(queue: str) -> list[str]:
    """The facts that start work of this queue, as `topic:version`."""
    mine = [starters(operation, contract) for operation, contract in contracts() if contract.queue == queue]
    return sorted({starter for each in mine for starter in each})


def _first_record(moment: datetime) -> str:
    """An id as the first record of this moment could have it: a UUIDv7 begins with its milliseconds."""
    return f"rec_{int(moment.timestamp() * 1000):012x}{'0' * 20}"


def _columns(load: Load) -> dict[str, Any]:
    return {name: getattr(load, name) for name in Load.__slots__}


def _log_change(session: Session, queue: Queue, before: Load | None, load: Load) -> None:
    was, behind = before is not None and before.behind_since is not None, load.behind_since is not None
    lag_s, slo_s = round(load.lag_s, 1), queue.start_within_s
    if behind and not was:
        logs.once_committed(
            session,
            lambda: log.warning("queue.behind", queue=queue.name, waiting=load.waiting, lag_s=lag_s, slo_s=slo_s),
        )
    elif was and not behind:
        logs.once_committed(
            session,
            lambda: log.info("queue.recovered", queue=queue.name, waiting=load.waiting, lag_s=lag_s, slo_s=slo_s),
        )
