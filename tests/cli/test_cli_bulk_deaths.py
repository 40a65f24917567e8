"""A process that dies at any statement of a file of requests, and one that dies as it goes on: each is asked for once.

docs/failures.md says how many deaths these are; `make chaos` goes through every pair of them.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from bulk_process import Bulk, files_closed
from enumerated import ALL, SEED, documented
from service import Service, acting_as
from sqlalchemy import event, text

from billing import database
from jobs.bulk import checking

__all__ = ["files_closed"]

ROWS, ROWS_OF_A_BATCH = 5, 3
"""Two batches, the second of which is not full."""
PAIRS = 10
"""So many pairs of deaths are tried where not all are."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file asks for. `lines`: the file. `asked` tells of each what was asked for, and then by whom; `wanted` is
    what that must be."""

    name: str
    kind: str
    lines: Sequence[str]
    asked: str
    wanted: Sequence[tuple[object, ...]]


def _invoice(number: int) -> str:
    """One that has a line more than the one before it."""
    lines = [{"description": f"item {line}", "amount_minor": 100 + line} for line in range(number + 1)]
    asked = {"customer": "cus_1", "currency": "EUR", "days_until_due": 14, "lines": lines}
    return json.dumps({**asked, "request_id": f"order-{number}"})


KINDS = (
    Kind(
        "bulk",
        "capture",
        ["payment_intent,amount,currency,request_id", *(f"pi_{n},1999,USD,order-{n}" for n in range(ROWS))],
        "SELECT c.request_id, c.amount_minor, f.actor FROM billing.captures AS c"
        " JOIN billing.facts AS f ON f.entity_id = c.id AND f.topic = 'capture.requested' ORDER BY c.request_id",
        [(f"order-{n}", 1999, "grace") for n in range(ROWS)],
    ),
    Kind(
        "bulk of invoices",
        "invoice",
        [_invoice(n) for n in range(ROWS)],
        "SELECT i.request_id, i.total_minor, array_agg(l.amount_minor ORDER BY l.position), f.actor"
        " FROM billing.invoices AS i JOIN billing.invoice_lines AS l ON l.invoice_id = i.id"
        " JOIN billing.facts AS f ON f.entity_id = i.id AND f.topic = 'invoice.requested'"
        " GROUP BY i.id, f.id ORDER BY i.request_id",
        [(f"order-{n}", sum(range(100, 101 + n)), list(range(100, 101 + n)), "grace") for n in range(ROWS)],
    ),
)


class Died(BaseException):
    """The process is gone."""


class Deaths:
    """The command's code with this file, in processes that die: each at a statement or a commit, counted."""

    def __init__(self, service: Service, kind: Kind, path: str) -> None:
        self.kind = kind
        self._service, self._path = service, path
        self._engine = acting_as("operator", service.url)
        self._left = 0
        for moment in ("before_cursor_execute", "commit"):
            event.listen(self._engine, moment, self._pass)

    def _pass(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise Died

    def _bulk(self) -> Bulk:
        return Bulk(self._service, self._path, self._engine, kind=self.kind.kind)

    def _dies(self, after: int) -> bool:
        self._left = after
        try:
            self._bulk().run()
        except Died:
            return True
        finally:
            self._left = 0
            self._engine.dispose()
        return False

    def carry_out(self, *deaths: int) -> int:
        """From the beginning: one process after the other dies there, and another does the rest. Returns how many died:
        the last may have come to the end instead."""
        self._service.execute(
            "TRUNCATE billing.captures, billing.refunds, billing.invoices, billing.facts, billing.bulks CASCADE"
        )
        died = 0
        for after in deaths:
            if not self._dies(after):
                break
            died += 1
        done = self._bulk().run()
        with database.transaction(self._service.engine) as session:
            assert [tuple(each) for each in session.execute(text(self.kind.asked))] == self.kind.wanted, deaths
        assert (done.done, done.rows, done.refused) == (ROWS, ROWS, 0)
        assert done.ended_at is not None
        self._engine.dispose()
        return died

    def every(self, *before: int) -> Iterator[tuple[int, ...]]:
        for after in range(1, 200):
            deaths = (*before, after)
            if self.carry_out(*deaths) < len(deaths):
                return
            yield deaths


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def deaths(request: pytest.FixtureRequest, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deaths:
    for each in ("BATCH", "NESTED_BATCH"):
        monkeypatch.setattr(checking, each, ROWS_OF_A_BATCH)
    kind: Kind = request.param
    path = tmp_path / "requests"
    path.write_text("\n".join(kind.lines) + "\n")
    return Deaths(service, kind, str(path))


def test_a_process_that_dies_at_any_statement_is_continued_and_nothing_is_asked_twice(deaths: Deaths) -> None:
    """[1, 2, 3, 4] Before each statement and each commit of every batch."""
    died = list(deaths.every())
    print(f"{deaths.kind.name}: {len(died)} deaths")
    assert len(died) >= documented(deaths.kind.name)[0]


def test_a_process_that_dies_as_it_continues_a_dead_one_is_continued_and_nothing_is_asked_twice(
    deaths: Deaths,
) -> None:
    """[2, 3] Every pair of deaths in `make chaos`, else some."""
    if ALL:
        died = [pair for first in deaths.every() for pair in deaths.every(*first)]
    else:
        pairs = random.Random(SEED).sample(list(product(range(1, 16), repeat=2)), PAIRS)
        died = [pair for pair in pairs if deaths.carry_out(*pair) == len(pair)]
    print(f"{deaths.kind.name}: {len(died)} pairs of deaths, seed {SEED}")
    assert len(died) >= (documented(deaths.kind.name)[1] if ALL else 1)
