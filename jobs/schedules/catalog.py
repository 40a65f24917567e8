"""The catalog: every contract and schedule, whose it is, what for, how much it was used, and what is obsolete."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from billing import database, ids, statements
from billing.schedules import SCHEDULES, Schedule
from jobs.road import contracts, ticks

SQL = statements.beside(__file__)

WINDOW = timedelta(days=30)
"""So far back use is counted. What was not used for so long is obsolete."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One contract, as `take_capture:1`, or one schedule.

    `volume`: pieces of work, or runs, of the last 30 days. `last_use` within them. `obsolete`: why it may be removed.
    """

    kind: str
    name: str
    owner: str
    purpose: str
    volume: int
    last_use: datetime | None
    obsolete: str | None


class Use(NamedTuple):
    volume: int
    last_use: datetime | None


NEVER = Use(0, None)


def report(engine: Engine) -> dict[str, Any]:
    """The catalog as the monthly report keeps it. Purposes and owners are in the code, so they are left out."""
    with database.transaction(engine) as session:
        entries = read(session)
    return {
        "days": WINDOW.days,
        "entries": [
            {
                **{name: value for name, value in asdict(each).items() if name not in ("purpose", "owner")},
                "last_use": each.last_use and each.last_use.isoformat(),
            }
            for each in entries
        ],
    }


def read(session: Session) -> list[Entry]:
    """Contracts first, then schedules. It counts the work of 30 days: with millions of rows that takes seconds."""
    now = database.now(session)
    since = now - WINDOW
    contracts_used = _used(session, "used_contracts", ids.first("wrk", since))
    schedules_used = _used(session, "used_schedules", ids.first("run", since))
    young = statements.run(session, SQL["installed_at"]).scalar_one() > since
    return [
        *_contracts(contracts_used, young=young),
        *_schedules(schedules_used, now, young=young),
    ]


def _used(session: Session, statement: str, since: str) -> dict[str, Use]:
    return {row.name: Use(row.volume, row.last_use) for row in statements.run(session, SQL[statement], since=since)}


def _contracts(used: Mapping[str, Use], *, young: bool) -> Iterator[Entry]:
    known = [contract for operation, contract in contracts.contracts() if not operation.local]
    for contract in known:
        use = used.get(contracts.named(contract), NEVER)
        why = None if use.volume or young else f"not used for {WINDOW.days} days"
        yield Entry("contract", contracts.named(contract), contract.owner, contract.purpose, *use, why)
    for name in sorted(used.keys() - contracts.known()):
        yield Entry("contract", name, "", "", *used[name], "this version does not know it: billing contracts list")


def _schedules(used: Mapping[str, Use], now: datetime, *, young: bool) -> Iterator[Entry]:
    for schedule in SCHEDULES:
        use = used.get(schedule.name, NEVER)
        why = None if use.volume or young else _did_not_run(schedule, now)
        yield Entry("schedule", schedule.name, schedule.owner, schedule.purpose, *use, why)
    for name in sorted(used.keys() - {schedule.name for schedule in SCHEDULES}):
        yield Entry("schedule", name, "", "", *used[name], "this version does not know it")


def _did_not_run(schedule: Schedule, now: datetime) -> str | None:
    """Why it had no run in the window; None if its time did not come in it."""
    due = next(ticks.backwards(schedule, now))
    return None if due < now - WINDOW else f"due at {due:%Y-%m-%d %H:%M} UTC, and not run for {WINDOW.days} days"
