"""How long after a switch is pulled the last call arrives at the provider: `make bench-switch`.

One worker process with a crew of 16 threads is kept busy, so that 16 calls are in flight and up to 8 more are prepared
and wait for a thread. Then the switch of everything is pulled, at a random moment. What counts is the time from the
commit of the pull, by Postgres's own timestamp, to the arrival of the last call at the provider; 0 if none came after
the commit. It is measured with a provider that answers after 300 ms, and with one that needs 3 s, where a prepared call
waits longer. The control is the same worker, which takes nothing back. With `--workers 16` there are so many worker
processes, each with a crew of two, and no control.
"""

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from statistics import median

import psycopg.errors
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from bench.measure import Bench, bench
from bench.sides import Ours, settled
from billing import switches
from billing.database import open_engine, transaction
from billing.timing import PRODUCTION
from jobs.local.supervisor import wait_until

SCOPE = "everything"
GOAL_MS = 1000


class Control(Ours):
    """A worker that takes no prepared call back."""

    name = "control"
    program = (
        "-c",
        "from jobs.road import shift; from jobs.cli import main; shift.SWITCHES_EVERY_S = float('inf'); main()",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    crew: int
    pulls: dict[int, int]
    """How often the switch is pulled, by the provider's delay in milliseconds."""
    workers: int = 1
    sides: tuple[type[Ours], ...] = (Ours, Control)


FULL = Plan(crew=16, pulls={300: 40, 3000: 15})
TINY = Plan(crew=2, pulls={100: 1}, sides=(Ours,))
"""For the test that runs this program; its numbers mean nothing."""


@dataclass(slots=True)
class Pulls:
    """All pulls with one worker and one provider: when the last call came after each, and what was taken back."""

    side: str
    delay_ms: int
    last_call_ms: list[float] = field(default_factory=list)
    taken_back: list[int] = field(default_factory=list)

    def row(self) -> str:
        shown = " | ".join(f"{value:.0f} ms" for value in (median(self.last_call_ms), self.p99_ms))
        taken, count = median(self.taken_back), len(self.last_call_ms)
        return f"| {self.delay_ms} ms | {self.side} | {count} | {shown} | {taken:g} |"

    @property
    def p99_ms(self) -> float:
        """By nearest rank: of less than a hundred pulls it is the longest."""
        return sorted(self.last_call_ms)[ceil(0.99 * len(self.last_call_ms)) - 1]


def measure(plan: Plan, at: Bench) -> list[Pulls]:
    found = []
    for side in (kind(at.ground, plan.crew * plan.workers, plan.workers) for kind in plan.sides):
        try:
            side.start()
            for delay_ms, count in plan.pulls.items():
                pulls = Pulls(side.name, delay_ms)
                _pulls(at, side, pulls, count)
                found.append(pulls)
                at.progress(pulls.row())
        finally:
            side.stop()
    return found


def _pulls(at: Bench, side: Ours, pulls: Pulls, count: int) -> None:
    engine = open_engine(at.ground.servers.environment["DATABASE_URL"], PRODUCTION, name="operator")
    asked: list[str] = []
    try:
        for _ in range(count):
            at.responder.reset(pulls.delay_ms)
            # Enough for the crew, for all that may be prepared ahead, and for what ends before the pull.
            asked += side.ask(max(1, side.in_flight * 5 - len(asked) + side.stored(asked))).ids
            wait_until(lambda: at.responder.scores()["arrived"] >= side.in_flight, "a busy crew", 60)
            time.sleep(random.uniform(0, pulls.delay_ms / 1000))  # noqa: S311 - at no fixed phase of the calls
            pulled_at = at.ground.committed_at(_pull(engine))
            wait_until(lambda: not _in_flight(at), "the calls in flight to end", 60)
            pulls.last_call_ms.append(max(0.0, (at.responder.scores()["last_at"] - pulled_at) * 1000))
            pulls.taken_back.append(_taken_back(at, pulled_at))
            with transaction(engine) as session:
                switches.release(session, SCOPE, actor="bench", reason="measured")
        at.responder.reset(1)
        settled(side, asked)
    finally:
        engine.dispose()


def _pull(engine: Engine) -> str:
    """The id of the transaction. As the command does, it tries again if a worker prepares calls for too long."""
    while True:
        try:
            with transaction(engine) as session:
                switches.pull(session, SCOPE, actor="bench", reason="measured")
                return str(session.scalar(text("SELECT pg_current_xact_id()::xid::text")))
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise


def _in_flight(at: Bench) -> int:
    time.sleep(0.1)
    return int(at.ground.one("SELECT count(*) FROM billing.idempotency_records WHERE state = 'sent'")[0])


def _taken_back(at: Bench, since: float) -> int:
    (count,) = at.ground.one(
        "SELECT count(*) FROM billing.facts WHERE happened_at >= to_timestamp(%s) AND payload ->> 'why' = %s",
        since,
        switches.TAKEN_BACK.why,
    )
    return int(count)


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench-switch", description="Measure how soon a pulled switch stops.")
    options.add_argument("--tiny", action="store_true", help="one pull: whether it runs at all")
    options.add_argument("--workers", type=int, help="so many worker processes, instead of one with a larger crew")
    options.add_argument("--json", action="store_true", help="the numbers on standard output instead of the table")
    chosen = options.parse_args()
    plan = TINY if chosen.tiny else FULL
    if chosen.workers:
        plan = replace(plan, workers=chosen.workers, crew=2, sides=(Ours,))
    with bench(lambda line: print(line, file=sys.stderr, flush=True)) as at:
        found = measure(plan, at)
    if chosen.json:
        print(json.dumps([asdict(pulls) for pulls in found], indent=2))
        return
    print("| provider | side | pulls | last call after the pull, p50 | p99 | taken back, p50 |")
    print("|---|---|---|---|---|---|")
    for pulls in found:
        print(pulls.row())
    worst = max(pulls.p99_ms for pulls in found if pulls.side == Ours.name)
    busy = f"{plan.workers} x {plan.crew} calls in flight"
    print(f"\nGoal: p99 under {GOAL_MS} ms with {busy}: {'reached' if worst < GOAL_MS else 'missed'}.")


if __name__ == "__main__":
    main()
