"""Loads operations with their records under lock, and writes what `billing.effects` decided, in batches.

The order of locks is the same everywhere: work, then the operation's row, then its records, each by id.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from billing import inbox, row_io, statements
from billing.calls import Report, Result, Standing
from billing.learned import EFFECT_IS_OURS, Learned
from billing.registration import Operation
from billing.states import RECORD, RecordState
from billing.steps import LoadedOperation, LookResult
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from billing.timing import Timing

SQL = statements.beside(__file__)


def load(
    session: Session, operation: Operation, wanted: Mapping[str, tuple[str, str]], *, wait: bool = True
) -> dict[str, LoadedOperation]:
    """Lock and load operations: `wanted` maps operation id -> (work id, queue). Unknown ids are absent; without `wait`,
    those too that another transaction has locked."""
    found: list[Any] = row_io.locked(session, operation.table, wanted, wait=wait)
    operations = {row.id: LoadedOperation(row, [], *wanted[row.id]) for row in found}
    for record in row_io.load(session, Record, SQL["lock_records"], ids=list(operations)):
        operations[record.operation_id].records.append(record)
    for owner, part in operation.parts(session, found):
        operations[owner].parts.append(part)
    return operations


def existing(session: Session, operation: Operation, ids: Iterable[str]) -> set[str]:
    """Those of these ids that are there, whoever has them locked."""
    return set(session.scalars(select(operation.table.id).where(operation.table.id.in_(ids))))


def write(session: Session, results: Sequence[Result]) -> Sequence[Result]:
    """Write facts and changed rows, then insert the new records, and change the results of those that cannot be
    inserted.

    A unique index allows one open record for each object at the provider. If another operation has it, the result
    becomes SIBLING and loses its call, so that nothing is sent.

    Without new records nothing is written yet, and all results are returned: `save_all` writes them, together with
    work.
    """
    opening = sorted((result for result in results if result.opened is not None), key=_by_object)
    if not opening:
        return results
    # In a statement of their own: a record that is concluded in this transaction frees its object for the new one.
    save_all(session, results)
    inserted = row_io.insert_where_free(session, [result.opened for result in opening if result.opened])
    for result in opening:
        assert result.opened is not None
        if result.opened.id not in inserted:
            result.standing, result.call = Standing.SIBLING, None
            result.why = "another operation has an open call for the same object"
    return ()


def save_all(session: Session, results: Sequence[Result], works: Iterable[Work] = ()) -> None:
    """Write facts, changed rows, and changed work, in one statement: round trips cost more than what they carry."""
    # Two answers about one operation may be settled together; then they share its loaded rows.
    operations = {id(result.loaded): result.loaded for result in results}.values()
    for loaded in operations:
        _begin(session, loaded)
    opened = {id(result.opened) for result in results}
    rows = [row for loaded in operations for row in (loaded.row, *loaded.records) if id(row) not in opened]
    row_io.save(session, [*rows, *works], [fact for loaded in operations for fact in loaded.facts])
    if events := [event for loaded in operations for event in loaded.events]:
        inbox.put(session, events)


def _begin(session: Session, loaded: LoadedOperation) -> None:
    """Insert the operations that begin with it. One that is there already, because somebody else was first, has its own
    first fact."""
    for table in {type(row) for row in loaded.begun}:
        rows = [row for row in loaded.begun if type(row) is table]
        there = {row.id for row in rows} - row_io.insert_where_free(session, rows)
        loaded.facts = [fact for fact in loaded.facts if fact.entity_id not in there]


def _by_object(result: Result) -> tuple[str, str, str]:
    record = result.opened
    assert record is not None
    return record.account or "", record.provider_object or "", record.id


def claimed_elsewhere(session: Session, report: Report) -> str | None:
    """The other operation whose record already concluded with this very effect on this very object."""
    finding = report.came_back
    if not isinstance(finding, LookResult) or finding.learned is not Learned.FOUND_FREE:
        return None
    request = report.call.request
    provider_object = finding.data.get("id")
    other = select(Record.operation_id).where(
        Record.account.is_not_distinct_from(request.account),
        Record.provider_object == provider_object,
        Record.step == report.call.step.name,
        Record.operation_id != report.call.loaded.row.id,
        Record.state == RecordState.ANSWERED,
        Record.learned.in_(sorted(EFFECT_IS_OURS)),
    )
    return session.scalar(other.limit(1))


def renew(session: Session, held: Iterable[tuple[str, int]], timing: Timing) -> set[str]:
    """Prolong the leases of calls in flight, given as (record id, fence). Returns the record ids that are still
    ours."""
    pairs = sorted(held)
    ids, fences = [record_id for record_id, _ in pairs], [fence for _, fence in pairs]
    return set(statements.run(session, SQL["renew_leases"], ids=ids, fences=fences, lease=timing.lease).scalars())


def keep_unsettled(session: Session, report: Report, body: bytes | None, status: int | None, why: str) -> bool:
    """An answer that cannot be applied is kept on its record, in a commit of its own. False: the fence is lost.

    The record keeps its lock and will be looked at, never sent again, once an operator puts the work back.
    """
    ours = (
        Record.id == report.call.record_id,
        Record.fence == report.call.fence,
        Record.state.in_(RECORD.before(RecordState.UNSETTLED)),
        Record.lease_until.is_not(None),  # not yet kept: the commit that kept it may have lost its own answer
    )
    kept: dict[str, Any] = {
        "state": RecordState.UNSETTLED,
        "learned": Learned.ASK,
        "look_only": True,
        "look_at": None,
        "lease_until": None,
        "lease_s": None,
        "conclusion": why,
    }
    if not report.call.looking:
        kept |= {"answer": body, "answer_status": status, "last_reported_at": func.clock_timestamp()}
        kept |= {"unreported": func.greatest(Record.unreported - 1, 0)}
    changed = session.execute(update(Record).where(*ours).values(kept))
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def look_later(session: Session, work_id: str, at: datetime) -> None:
    """Put off the look of this work's open record that is due, until then."""
    session.execute(
        update(Record)
        .where(Record.work_id == work_id, Record.concluded_at.is_(None), Record.look_at.is_not(None))
        .values(look_at=at)
    )


def settled_already(session: Session, report: Report) -> bool:
    """Whether a commit whose reply was lost has written this report: the fence is ours, and the lease is gone."""
    record = session.get(Record, report.call.record_id)
    return record is not None and record.fence == report.call.fence and record.lease_until is None
