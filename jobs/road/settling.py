"""Settles the reports of the crew. Whatever fails, no answer is lost.

If a group cannot be settled, its reports are settled in smaller groups, then one by one. A report whose row is locked
is tried again later. An answer that cannot be applied is stored on its record, and its work is quarantined.
"""

from collections.abc import Callable, Iterator

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing import row_io, store
from billing.calls import Report
from billing.database import now, transaction
from billing.gateway import Response, boot_clock
from billing.states import WorkState
from jobs.logs import about
from jobs.road import evidence, work_queue
from jobs.road.runner import Outcome, Runner
from jobs.road.verdicts import Failure, classify

log = structlog.get_logger()


class Settler:
    """`pause` is called with the error before a failed transaction is repeated."""

    def __init__(self, engine: Engine, runner: Runner, pause: Callable[[Exception], None]) -> None:
        self._engine, self._runner, self._pause = engine, runner, pause
        self._postponed: list[Report] = []
        self._postponed_until = 0.0
        self.settled = 0
        """How many reports were settled so far."""

    @property
    def has_postponed(self) -> bool:
        """Whether reports wait because another transaction held their row."""
        return bool(self._postponed)

    def due_again(self) -> list[Report]:
        """The postponed reports, but not before the pause since the last ones is over."""
        if not self._postponed or boot_clock() < self._postponed_until:
            return []
        due, self._postponed = self._postponed, []
        self._postponed_until = boot_clock() + self._runner.call_settings.timing.retry_first_s
        return due

    def settle(self, reports: list[Report]) -> Iterator[tuple[Outcome, float]]:
        """Settle all reports in one transaction, or in several where that fails.

        Yields the outcome of each transaction after its commit, and the time (`boot_clock`) before its begin. The
        caller starts the calls of an outcome before the next transaction begins.
        """
        groups = [reports]
        while groups:
            group = groups.pop()
            before = boot_clock()
            try:
                with transaction(self._engine) as session:
                    outcome = self._runner.finish(session, group)
            except Exception as error:  # noqa: BLE001 - judged by the one table; nothing is swallowed
                groups.extend(self._after(error, group))
                continue
            self.settled += len(group)
            yield outcome, before

    def _after(self, error: Exception, group: list[Report]) -> list[list[Report]]:
        """The groups in which the reports of a failed transaction are settled again."""
        kind = classify(error)
        alone = about(group[0].call.loaded.row) if len(group) == 1 else {}
        log.warning("settle.failed", trouble=str(kind), error=type(error).__name__, calls=len(group), **alone)
        match kind:
            case Failure.RECONNECT:
                self._pause(error)
                return self._unsettled(group)
            case Failure.REPEAT | Failure.HALVE if len(group) > 1:
                self._pause(error)
                return _halves(group)
            case Failure.REPEAT | Failure.HALVE:
                # Another transaction holds this one row. The other reports do not wait for it.
                self._postponed += group
                return []
            case Failure.DATA if len(group) > 1:
                return [[report] for report in group]
            case Failure.DATA:
                self._keep(group[0], error)
                return []

    def _unsettled(self, group: list[Report]) -> list[list[Report]]:
        """Those that are not settled, one by one. The answer to the commit was lost, so the database is read first."""
        while True:
            try:
                with transaction(self._engine) as session:
                    return [[report] for report in group if not store.settled_already(session, report)]
            except SQLAlchemyError as error:
                self._pause(error)

    def _keep(self, report: Report, error: Exception) -> None:
        """Keep an answer that cannot be applied, in one transaction."""
        log.error(
            "settle.kept", error=type(error).__name__, step=report.call.step.name, **about(report.call.loaded.row)
        )
        while True:
            try:
                with transaction(self._engine) as session:
                    keep(session, report, error)
                return
            except SQLAlchemyError as again:
                if classify(again) is Failure.DATA:
                    raise
                self._pause(again)


def keep(session: Session, report: Report, error: Exception) -> None:
    """Store an answer that cannot be applied on its record, and quarantine its work with this error."""
    answer = report.came_back if isinstance(report.came_back, Response) else None
    why = f"could not be settled: {type(error).__name__}"
    work = work_queue.locked(session, [report.call.loaded.work_id])[report.call.loaded.work_id]
    body, status = (answer.kept, answer.status) if answer else (None, None)
    if store.keep_unsettled(session, report, body, status, why):
        work_queue.move(work, WorkState.QUARANTINED, now(session), reason=why)
        failure = evidence.failure(session, work, quarantined=True, errors=evidence.errors_of(error))
        row_io.save(session, [work], [failure])


def _halves(group: list[Report]) -> list[list[Report]]:
    middle = len(group) // 2
    return [group[:middle], group[middle:]]
