"""Runs the experiments and prints the table; `bench/__init__.py` says what is measured, and how."""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench import report
from bench.measure import Bench, Load, bench
from bench.report import Findings
from bench.sides import SIDES, Baseline, Measured, Ours, Rival, Side
from jobs.local.supervisor import LocalServerError

PROVIDER_MS = 300
FAST_PROVIDER_MS = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. Loads are given in seconds at the ideal rate; the baseline reaches a tenth of it."""

    rounds: int
    busy_s: float
    light: int
    idle_s: float
    recovery: bool
    in_flight: tuple[int, ...] = (16, 64)
    sides: tuple[type[Side], ...] = SIDES


FULL = Plan(rounds=3, busy_s=5, light=100, idle_s=10, recovery=True)
QUICK = Plan(rounds=1, busy_s=3, light=25, idle_s=4, recovery=True)
TINY = Plan(rounds=1, busy_s=0.6, light=2, idle_s=0.5, recovery=False, in_flight=(4,))
"""For the test that runs this program; its numbers mean nothing."""

RATES = {
    ("baseline", 300): 25,
    ("baseline", 30): 25,
    ("ours", 30): 700,
    ("measured", 30): 700,
    ("rival", 30): 250,
    ("floor", 30): 600,
}
"""Rough captures per second of a side that is CPU-bound. Only the length of its turn depends on it."""


def measure(plan: Plan, at: Bench) -> Findings:
    found = Findings(rounds=plan.rounds)
    for in_flight in plan.in_flight:
        loads = [Load(f"{in_flight} in flight", in_flight, PROVIDER_MS, 1)]
        if in_flight == max(plan.in_flight):
            loads.append(Load(f"CPU-bound, {in_flight} in flight", in_flight, FAST_PROVIDER_MS, 1))
        with at.sides(in_flight, kinds=plan.sides) as sides:
            if in_flight == max(plan.in_flight):
                _idling(plan, at, sides, found)
            for load in loads:
                _rounds(plan, at, load, sides)
                found.loads.append(load)
            if in_flight == max(plan.in_flight):
                for side in sides:
                    count = plan.light if isinstance(side, Ours) else plan.light // 2
                    found.first_ms[side.name], *added = at.latency(side, 1 + max(2, count), 5, PROVIDER_MS)
                    found.added_ms[side.name] = added
                    at.progress(f"{side.name}: {report.spread(added)} ms added at light load")
                if plan.recovery:
                    (ours,) = (side for side in sides if isinstance(side, Ours))
                    found.recovered_s = at.recovery(ours, PROVIDER_MS)
                    at.progress(f"ours: calls of a killed worker made again after {found.recovered_s:.1f} s")
    two = Load(f"CPU-bound, {max(plan.in_flight)} in flight, 2 processes", max(plan.in_flight), FAST_PROVIDER_MS, 2)
    with at.sides(two.in_flight, 2, [side for side in plan.sides if side is not Baseline]) as sides:
        _rounds(plan, at, two, sides)
    found.loads.append(two)
    if Ours in plan.sides:
        name = f"CPU-bound, {two.in_flight} in flight, without and with metrics"
        found.metrics = Load(name, two.in_flight, FAST_PROVIDER_MS, 1)
        with at.sides(two.in_flight, kinds=(Ours, Measured)) as sides:
            # The difference is a few percent, so it needs more rounds than the ratios above.
            _rounds(replace(plan, rounds=2 * plan.rounds), at, found.metrics, sides)
    return found


def _idling(plan: Plan, at: Bench, sides: list[Side], found: Findings) -> None:
    """Measured before the loads, because Postgres cleans up after them."""
    for side in sides:
        if isinstance(side, Ours) or (plan.rounds > 1 and isinstance(side, Baseline | Rival)):
            found.idle[side.name] = at.idling(side, plan.idle_s)
            at.progress(f"{side.name}: idles with {sum(found.idle[side.name].values()):.1f} CPU-ms/s")


def _rounds(plan: Plan, at: Bench, load: Load, sides: list[Side]) -> None:
    for number in range(plan.rounds):
        # The first side of a round has cold caches, so the sides take turns.
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            rate = min(load.ideal, RATES.get((side.name, load.delay_ms), load.ideal))
            waves = max(2, round(plan.busy_s * rate / load.in_flight))
            run = at.throughput(side, waves * load.in_flight, load.delay_ms)
            load.runs.setdefault(side.name, []).append(run)
            at.progress(
                f"{load.name}, round {number + 1}: {side.name} {run.per_second:.1f}/s, {run.cpu_ms_whole:.2f} CPU-ms ("
                + ", ".join(f"{role} {ms:.2f}" for role, ms in run.cpu_ms.items())
                + ")"
            )


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description="Measure captures beside what else one would use.")
    options.add_argument("--quick", action="store_true", help="one round, within 2 minutes; not appended")
    options.add_argument("--tiny", action="store_true", help="a few captures: whether it runs at all")
    options.add_argument("--json", action="store_true", help="the numbers on standard output instead of the table")
    options.add_argument("--append", metavar="FILE", type=Path, help="append the table to this file")
    names = [side.name for side in SIDES]
    options.add_argument("--only", nargs="+", choices=names, default=names, help="leave the other sides out")
    chosen = options.parse_args()
    plan = TINY if chosen.tiny else QUICK if chosen.quick else FULL
    plan = replace(plan, sides=tuple(side for side in SIDES if side.name in chosen.only))
    began = time.monotonic()
    try:
        with bench(lambda line: print(line, file=sys.stderr, flush=True)) as at:
            found = measure(plan, at)
            found.machine = report.machine(at.ground.one("SHOW server_version")[0], at.ground.redis.info("server"))
    except LocalServerError as error:
        sys.exit(str(error))
    found.took_s = time.monotonic() - began
    page = report.page(found)
    print(json.dumps(report.numbers(found), indent=2) if chosen.json else page)
    target = chosen.append or (Path("docs/benchmarks.md") if plan == FULL else None)
    if target:
        with target.open("a", encoding="utf-8") as file:
            file.write("\n" + page)


if __name__ == "__main__":
    main()
