"""Whether heavy work beside it delays captures: `python -m bench.isolation`, about two minutes.

A worker for captures and one for the queue `maintenance` share this machine. The latter has a backlog of 500 runs, each
of which eats memory until its process may have no more. Captures are asked for at random times, 20 a second; in turns
the backlog is held by a switch, and carried out. Printed is the lag of captures, from the request to the first call, in
both, and how many runs were begun meanwhile.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Engine

from bench.measure import bench
from bench.sides import ENVIRONMENT, Ours, settled
from billing import database, switches
from billing.gateway import boot_clock
from billing.schedules import SCHEDULES
from billing.timing import PRODUCTION
from jobs.local.supervisor import wait_until
from jobs.road import ticks
from jobs.schedules.functions import Invocation

IN_FLIGHT, PROVIDER_MS = 16, 30
PER_SECOND = 20
SCOPE = "queue:maintenance"
MEMORY_MB = 256
LAG = """
SELECT extract(epoch FROM min(r.first_sent_at) - c.requested_at)::float8 * 1000
FROM billing.captures c JOIN billing.idempotency_records r ON r.operation_id = c.id
WHERE c.id = ANY (%s) GROUP BY c.id
"""


def eat(_given: Invocation) -> dict[str, int]:
    """Touches memory, as a large document does, until there is no more."""
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))


def worker() -> None:
    """A worker whose functions all eat memory."""
    from jobs.cli import main  # noqa: PLC0415 - this process is that command
    from jobs.process import service  # noqa: PLC0415

    service.Apart = partial(service.Apart, program=(sys.executable, "-m", "bench.isolation", "--function"))  # type: ignore[misc,assignment]
    sys.argv = ["billing", "worker", "maintenance"]
    main()


def function() -> None:
    from jobs.process.function import main  # noqa: PLC0415

    main({schedule.name: eat for schedule in SCHEDULES})


def measure(rounds: int, seconds: float, backlog: int) -> None:
    with bench(lambda line: print(line, file=sys.stderr)) as at, at.sides(IN_FLIGHT, kinds=(Ours,)) as (ours,):
        url = at.ground.servers.environment["DATABASE_URL"]
        engine = database.open_engine(url, PRODUCTION, name="operator")
        for _ in range(backlog):
            with database.transaction(engine) as session:
                ticks.ask_for(session, SCHEDULES[0], actor="bench")
        _switch(engine, pull=True)
        heavy = at.ground.spawn(
            "worker-maintenance",
            ["-m", "bench.isolation", "--worker"],
            BILLING_ENVIRONMENT=ENVIRONMENT,
            BILLING_TIMING="production",
            BILLING_CONFIG=str(at.ground.settings_file),
            BILLING_HEALTH_DIRECTORY=str(at.ground.servers.directory / "health"),
            BILLING_MEMORY_MAINTENANCE_MB=str(MEMORY_MB),
        )
        heavy.wait_for_output("worker.started", timeout_s=60)
        lags: dict[str, list[float]] = {"held": [], "carried out": []}
        begun = 0
        at.responder.reset(PROVIDER_MS)
        ours.resume()
        settled(ours, _ask(ours, 2))  # the first calls open connections
        for _ in range(rounds):
            for name, found in lags.items():
                _switch(engine, pull=name == "held")
                before = _begun(at.ground.one)
                if name != "held":
                    wait_until(lambda before=before: _begun(at.ground.one) > before, "the first heavy run", 150)  # type: ignore[misc]
                ids = _ask(ours, seconds)
                settled(ours, ids)
                begun += _begun(at.ground.one) - before if name != "held" else 0
                found += [lag for (lag,) in at.ground.postgres.execute(LAG, (ids,)).fetchall()]
        heavy.kill()
        engine.dispose()
    print(f"lag of captures at {PER_SECOND}/s, from the request to the first call, with {backlog} heavy runs waiting:")
    for name, found in lags.items():
        of = statistics.quantiles(found, n=100)
        shown = "   ".join(f"p{part} {of[part - 1]:6.1f} ms" for part in (50, 90, 99))
        print(f"  {name:<12} {shown}   ({len(found)} captures)")
    print(f"  {begun} heavy runs were begun meanwhile, each with {MEMORY_MB} MB")


def _ask(ours: Ours, seconds: float) -> list[str]:
    ids: list[str] = []
    until = boot_clock() + seconds
    while boot_clock() < until:
        time.sleep(random.uniform(0.5, 1.5) / PER_SECOND)  # noqa: S311
        ids += ours.ask(1).ids
    return ids


def _begun(one: object) -> int:
    (begun,) = one("SELECT coalesce(sum(sends), 0)::int FROM billing.idempotency_records WHERE method = 'RUN'")  # type: ignore[operator]
    return int(begun)


def _switch(engine: Engine, *, pull: bool) -> None:
    with database.transaction(engine) as session:
        if pull:
            switches.pull(session, SCOPE, actor="bench", reason="the bench")
        else:
            switches.release(session, SCOPE, actor="bench", reason="the bench")


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m bench.isolation", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--backlog", type=int, default=500)
    options.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--function", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args(arguments)
    if chosen.worker:
        worker()
    elif chosen.function:
        function()
    else:
        measure(chosen.rounds, chosen.seconds, chosen.backlog)


if __name__ == "__main__":
    main()
