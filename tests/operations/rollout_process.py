"""One process of a rollout: `python rollout_process.py old|both|new DATABASE_URL`. Each line that it reads is a deed.

It knows these versions of the toy contract. `plan`: its relay plans. `turn`: its relay plans and sweeps, and its
worker works off the queue. Any other line is the arguments of the `billing` command. It answers with a line of JSON.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from service import Service
from test_toy_operation import OPERATION

from billing import operations
from billing.database import transaction
from jobs import logs
from jobs.cli import main
from jobs.road import golden, housekeeping

V1 = OPERATION.contracts[0]
V2 = replace(V1, version=2, fact_versions=(2,), payload={**V1.payload, "color": "text"})
KNOWN = {"old": (V1,), "both": (V1, V2), "new": (V2,)}

EXAMPLE = {
    "id": 1,
    "topic": "label.requested",
    "entity_id": "lab_" + "0" * 32,
    "correlation_id": None,
    "happened_at": "2026-01-31T12:00:00+00:00",
    "payload": {"account": None},
}


def corpus(known: str) -> list[golden.Golden]:
    """The files of this version's checkout: it has those that it knows, and the last one has retired the first."""
    files = [
        golden.recorded(OPERATION, contract, [("minimal", {**EXAMPLE, "version": contract.version})])
        for contract in ({"old": (V1,)}.get(known, (V1, V2)))
    ]
    return [replace(each, retired=known == "new" and each.version == 1) for each in files]


def turn(service: Service) -> dict[str, Any]:
    service.plan()
    for sweep in housekeeping.SWEEPS:
        with transaction(service.engines["relay"]) as session:
            sweep.move(session, sweep.most)
    return {"settled": service.work_off()}


def billing(*arguments: str) -> dict[str, Any]:
    sys.argv = ["billing", *arguments]
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            main()
    except SystemExit as ended:
        return {"status": ended.code or 0, "out": out.getvalue()}
    raise AssertionError("the command ends its process")


if __name__ == "__main__":
    known, url = sys.argv[1:]
    logs.configure("error")
    operations.register(replace(OPERATION, contracts=KNOWN[known]))
    released = golden.released()
    golden.released = lambda: [*released, *corpus(known)]  # type: ignore[assignment]
    servers = {name: os.environ[name] for name in ("REDIS_URL", "STRIPE_API_BASE")}
    service = Service(SimpleNamespace(environment=servers), url)  # type: ignore[arg-type]
    for line in sys.stdin:
        match line.split():
            case ["plan"]:
                answer = {"planned": service.plan()}
            case ["turn"]:
                answer = turn(service)
            case arguments:
                answer = billing(*arguments)
        print(json.dumps(answer), flush=True)
    service.close()
