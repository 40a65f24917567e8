"""The pictures of docs/finance/pictures.md: a made-up month of a shop, drawn by the real code. `make docs` writes them.

The shop sells by day, less on Sundays. On the 17th Stripe was slow for six hours, and of a few calls nobody knows yet
what they did.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import objects
from objects import fact

from archive.queries import engine, plots, query_file
from archive.queries.asking import Answer, Read
from archive.queries.engine import USUAL
from archive.queries.parameters import values
from archive.queries.plots import PLOTS

FOLDER = Path(__file__).parents[2] / "docs" / "finance" / "pictures"
RANGE = {"since": "2026-11-01", "until": "2026-12-01"}
ASKED_AT = datetime(2026, 12, 1, 7, 30, tzinfo=UTC)
ZONE = "Europe/Berlin"
BUSY = dict(zip(range(24), [1, 0, 0, 0, 0, 1, 2, 4, 6, 8, 9, 10, 11, 9, 8, 8, 9, 11, 13, 14, 12, 8, 4, 2], strict=True))
"""How much is bought in each local hour, against the others."""
OUTAGE = (datetime(2026, 11, 17, 9, tzinfo=UTC), datetime(2026, 11, 17, 15, tzinfo=UTC))
UNKNOWN = {datetime(2026, 11, 17, 11, tzinfo=UTC): 3, datetime(2026, 11, 28, 20, tzinfo=UTC): 4}
"""How many captures stayed in doubt from when."""


def month() -> list[dict[str, Any]]:
    """Its facts, in the order of their time."""
    facts = sorted(_told(random.Random(1711)), key=lambda each: each["happened_at"])
    return [each | {"archive_seq": n, "fact_id": n} for n, each in enumerate(facts, start=1)]


def _told(rng: random.Random) -> Iterator[dict[str, Any]]:
    number = 0
    for day in range(30):
        midnight = datetime(2026, 11, 1, tzinfo=ZoneInfo(ZONE)) + timedelta(days=day)
        sales = rng.gauss(30 if midnight.isoweekday() == 7 else 75, 8)
        for hour in rng.choices(list(BUSY), list(BUSY.values()), k=max(1, round(sales))):
            number += 1
            yield from _capture(rng, number, midnight + timedelta(hours=hour, seconds=rng.uniform(0, 3600)))
    for at, count in UNKNOWN.items():
        for _ in range(count):
            number += 1
            asked = at + timedelta(minutes=rng.uniform(0, 60))
            yield _fact(number, 1, "requested", asked, _money(rng))
            yield _fact(
                number, 2, "attempted", asked + timedelta(seconds=80), {"outcome": "no_answer", "step": "capture"}
            )
            if at.day == 17:
                yield _fact(number, 3, "undecided", asked + timedelta(hours=1), {})


def _capture(rng: random.Random, number: int, asked: datetime) -> Iterator[dict[str, Any]]:
    slow = OUTAGE[0] <= asked < OUTAGE[1]
    call_ms = min(60_000, round(rng.lognormvariate(9.2 if slow else 6.1, 0.5)))
    money, answered = _money(rng), asked + timedelta(milliseconds=call_ms + rng.lognormvariate(3.5, 0.6))
    yield _fact(number, 1, "requested", asked, money)
    attempt = {"outcome": "learned", "learned": "succeeded", "status": 200, "took_ms": call_ms, "step": "capture"}
    yield _fact(number, 2, "attempted", answered, attempt)
    yield _fact(number, 3, "captured", answered, money)


def _money(rng: random.Random) -> dict[str, Any]:
    return {"minor": round(rng.lognormvariate(8.1, 0.7)), "currency": rng.choices(["EUR", "USD"], [4, 1])[0]}


def _fact(number: int, version: int, what: str, at: datetime, payload: dict[str, Any]) -> dict[str, Any]:
    told = fact(0, f"capture.{what}", at.astimezone(UTC), account="own", **payload)
    return told | {"entity_id": f"cap_{number:032x}", "entity_version": version}


def draw(folder: Path) -> list[Path]:
    """Each picture as SVG."""
    facts = month()
    with tempfile.TemporaryDirectory() as place:
        read = objects.evidence(Path(place), *facts)
        for name, plot in PLOTS.items():
            query = query_file.load(plot.query)
            given = {"until": RANGE["until"]} if plot.as_of else RANGE | {"tz": ZONE}
            asked = values(query.parameters, given, ASKED_AT)
            schema, table = engine.run(
                query.sql,
                asked.of_sql,
                read,
                scratch=Path(place),
                zone=asked.zone,
                limits=USUAL,
                declared=query.columns,
            )
            manifests = [Read(each, 1, 30, 4 * "0123456789abcdef", len(facts), 30, 0) for each in query.classes]
            answer = Answer(
                query.name, query.title, query.sql, asked.given, asked.zone, asked.since, asked.until, ASKED_AT, 5,
                manifests, schema, table,
            )  # fmt: skip
            plots.save(plot, answer, folder / f"{name}.svg", "svg")
    return sorted(folder.glob("*.svg"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in draw(FOLDER):
        sys.stdout.write(f"{path.relative_to(FOLDER.parents[2])}\n")
