"""From a committed prepare to the crew: a call that was prepared long ago is never started."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

from protocol_model import CALL_SETTINGS, capture, loaded_with, response
from test_turns import begun

from billing.calls import Report
from billing.gateway import Budget
from jobs.road import settling
from jobs.road import shift as shifts
from jobs.road.runner import Outcome, Runner


class _Crew:
    def __init__(self) -> None:
        self.handed: list[Budget] = []

    def hand(self, _call: Any, budget: Budget) -> None:
        self.handed.append(budget)


def _shift(finish: Any) -> shifts.Shift:
    runner = mock.Mock(spec=Runner, call_settings=CALL_SETTINGS, rng=random.Random(1), finish=finish)
    return shifts.Shift(None, None, runner, "captures", crew=4, slice_s=1)  # type: ignore[arg-type]


@contextlib.contextmanager
def _without_postgres(clock: list[float]) -> Iterator[None]:
    @contextlib.contextmanager
    def transaction(_engine: Any) -> Iterator[None]:
        yield None

    with contextlib.ExitStack() as patches:
        for room in (shifts, settling):
            patches.enter_context(mock.patch.object(room, "transaction", transaction))
            patches.enter_context(mock.patch.object(room, "boot_clock", side_effect=lambda: clock[0]))
        yield


def test_a_next_step_that_waited_for_postgres_is_not_started_late():
    """One row prepared its next call, and the other then waited a minute for Postgres.

    Meanwhile others may have found the first call abandoned, proven it absent, and replaced its key.
    """
    clock = [1000.0]
    reports = [Report(begun(loaded_with(capture())), response(200, {}), 1) for _ in range(2)]
    following = begun(loaded_with(capture()))
    outcomes: Iterator[Any] = iter([ValueError("one of the rows"), Outcome(calls=[following]), Outcome()])

    def finish(_session: Any, group: Any) -> Outcome:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        if not outcome.calls:
            clock[0] += 60
        return outcome

    crew = _Crew()
    with _without_postgres(clock):
        shift: Any = _shift(finish)
        shift._settle(reports, crew)
    assert [budget.not_after for budget in crew.handed] == [1000.0 + following.not_after_s]
