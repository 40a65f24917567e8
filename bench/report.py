"""The table of results and goals: for people, as JSON, and for docs/benchmarks.md."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from bench.goals import Goal
from bench.measure import Load, Run

LEASE_S = 15


@dataclass(slots=True)
class Findings:
    rounds: int
    loads: list[Load] = field(default_factory=list)
    added_ms: dict[str, list[float]] = field(default_factory=dict)
    first_ms: dict[str, float] = field(default_factory=dict)
    """Latency of the first capture after a quiet time."""
    idle: dict[str, dict[str, float]] = field(default_factory=dict)
    metrics: Load | None = None
    """What metrics cost: ours without and with them."""
    recovered_s: float | None = None
    machine: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0


def goals(found: Findings) -> list[Goal]:
    normal = [load for load in found.loads if load.delay_ms == max(each.delay_ms for each in found.loads)]
    busy, bound = normal[-1], [load for load in found.loads if load not in normal]
    ours = found.added_ms.get("ours", [])
    last = busy.runs["ours"]
    idle = found.idle.get("ours")
    return [
        *(
            Goal(
                f"CPU per capture, {load.name}: baseline / ours",
                30,
                50,
                _ratio(load, "baseline", "ours", _cpu),
                " ×",
                True,
            )
            for load in normal
        ),
        *(
            Goal(
                f"CPU per capture, {load.name}: ours / rival's bare job",
                0.6,
                0.4,
                _ratio(load, "ours", "rival", _cpu),
                " ×",
            )
            for load in normal
        ),
        *(
            Goal(
                f"captures/s of the ideal {load.ideal:.0f}, {load.name}",
                0.95,
                0.98,
                median(run.per_second for run in load.runs["ours"]) / load.ideal,
                " ×",
                True,
            )
            for load in normal
        ),
        *(
            Goal(f"captures/s, {load.name}: ours / rival", 2, 3, _ratio(load, "ours", "rival", _rate), " ×", True)
            for load in bound
        ),
        Goal("added at light load, p50", 12, 8, _percentile(ours, 0.5), " ms"),
        Goal("added at light load, p99", 25, 15, _percentile(ours, 0.99), " ms"),
        Goal(
            f"memory of the worker process, {busy.name}",
            110,
            90,
            median(run.memory_mb["worker"] for run in last),
            " MB",
        ),
        Goal("Postgres connections per worker process", 2, 1, max(run.connections for run in last)),
        Goal(
            "idle: worker + relay + Postgres",
            5,
            2,
            sum(ms for role, ms in idle.items() if role != "redis") if idle else None,
            " CPU-ms/s",
        ),
        Goal(
            "CPU per capture: ours with metrics / without",
            1.03,
            1.01,
            _ratio(found.metrics, "measured", "ours", _cpu) if found.metrics else None,
            " ×",
        ),
        Goal("kill -9 of a worker → its calls made again", LEASE_S + 5, None, found.recovered_s, " s"),
    ]


def page(found: Findings) -> str:
    lines = [f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {found.rounds} round(s), {found.took_s:.0f} s", ""]
    lines += [", ".join(f"{name} {value}" for name, value in found.machine.items()) + ".", ""]
    lines += ["| goal | must | stretch | measured | reached |", "|---|---|---|---|---|"]
    lines += [goal.row() for goal in goals(found)]
    for load in [*found.loads, *([found.metrics] if found.metrics else [])]:
        lines += ["", f"**{load.name}, provider {load.delay_ms} ms (ideal {load.ideal:.0f}/s).** Medians:", ""]
        lines += [
            "| side | captures/s | CPU-ms per capture: in all | worker | relay | Postgres | Redis | memory MB |"
            " connections | answers per commit |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_side_row(name, runs) for name, runs in load.runs.items()]
    lines += ["", "**Light load (5 captures/s).** Milliseconds beyond the provider's, commit to commit:", ""]
    lines += [
        "| side | p50 | p90 | p99 | most | the first after a quiet while | idle CPU-ms/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, added in found.added_ms.items():
        idle = found.idle.get(name)
        shown = ", ".join(f"{role} {ms:.1f}" for role, ms in idle.items()) if idle else ""
        spread_ = " | ".join(f"{_percentile(added, share):.1f}" for share in (0.5, 0.9, 0.99, 1))
        lines.append(f"| {name} | {spread_} | {found.first_ms[name]:.0f} | {shown} |")
    return "\n".join(lines) + "\n"


def numbers(found: Findings) -> dict[str, Any]:
    result = asdict(found)
    result["goals"] = [{**asdict(goal), "verdict": goal.verdict.strip("*")} for goal in goals(found)]
    return result


def spread(values: Sequence[float]) -> str:
    return f"p50 {_percentile(values, 0.5):.1f}, p99 {_percentile(values, 0.99):.1f}"


def machine(postgres: str, redis: Mapping[str, Any]) -> dict[str, str]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return {
        "Machine:": f"{os.cpu_count()} cores of {cpu}",
        "load at the end": load,
        "Python": platform.python_version(),
        "Postgres": postgres.split(maxsplit=1)[0] + " (durable)",
        "Valkey": str(redis.get("valkey_version") or redis.get("redis_version")),
        **{name: version(name) for name in ("rq", "huey", "sqlalchemy", "psycopg", "stripe")},
    }


def _side_row(name: str, runs: Sequence[Run]) -> str:
    def middle(read: Callable[[Run], float]) -> float:
        return median(map(read, runs))

    roles = ("worker", "relay", "postgres", "redis")
    parts = " | ".join(f"{middle(lambda run, role=role: run.cpu_ms.get(role, 0.0)):.2f}" for role in roles)
    memory = middle(lambda run: run.memory_mb["worker"])
    connections = max(run.connections for run in runs)
    parts = f"{parts} | {memory:.0f} | {connections} | {middle(lambda run: run.together):.1f}"
    return f"| {name} | {middle(_rate):.1f} | {middle(_cpu):.2f} | {parts} |"


def _ratio(load: Load, above: str, below: str, read: Callable[[Run], float]) -> float | None:
    """The median over the rounds of the ratio within each."""
    if above not in load.runs or below not in load.runs:
        return None
    return median(read(a) / read(b) for a, b in zip(load.runs[above], load.runs[below], strict=True))


def _cpu(run: Run) -> float:
    return run.cpu_ms_whole


def _rate(run: Run) -> float:
    return run.per_second


def _percentile(values: Sequence[float], share: float) -> float | None:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
