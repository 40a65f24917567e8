"""Loads operations with their records under lock, and writes what `billing.effects` decided, in batches.

The order of locks is the same everywhere: work, then the operation's row, then its records, each by id.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.orm import Session

from billing.effects import Report, Result, Standing
from billing.idempotency import Learned
from billing.steps import Case, Finding, Operation
from billing.tables import Capture, Invoice, InvoiceLine, Record, RecordState
from billing.timing import Timing

_OPERATIONS = bindparam("operations", type_=ARRAY(TEXT))
_RECORDS = (
    select(Record)
    .where(Record.operation_id == func.any(_OPERATIONS))
    .order_by(Record.operation_id, Record.generation)
    .with_for_update(key_share=True)
)
_LINES = (
    select(InvoiceLine)
    .where(InvoiceLine.invoice_id == func.any(_OPERATIONS))
    .order_by(InvoiceLine.invoice_id, InvoiceLine.position)
)


def load(session: Session, operation: Operation, wanted: Mapping[str, tuple[str, str]]) -> dict[str, Case]:
    """Lock and load operations: `wanted` maps operation id -> (work id, queue). Unknown ids are absent."""
    names = {"operations": list(wanted)}
    table: type[Capture] = operation.table  # type: ignore[assignment]  # each has an id, a state and facts
    rows = session.scalars(
        select(table).where(table.id == func.any(_OPERATIONS)).order_by(table.id).with_for_update(key_share=True),
        names,
    )
    cases = {row.id: Case(row, [], *wanted[row.id]) for row in rows}
    for record in session.scalars(_RECORDS, names):
        cases[record.operation_id].records.append(record)
    if operation.table is Invoice:
        for line in session.scalars(_LINES, names):
            cases[line.invoice_id].lines.append(line)
    return cases


def write(session: Session, results: Sequence[Result]) -> None:
    """Write facts and changed rows, then the new records; a result whose object a sibling holds becomes SIBLING."""
    for result in results:
        session.add_all(result.case.facts)
        result.case.facts.clear()
    session.flush()
    opening = [result for result in results if result.opened is not None]
    if not opening:
        return
    opening.sort(key=_by_object)
    columns = [column.key for column in Record.__mapper__.column_attrs]
    values = [
        {name: value for name in columns if (value := getattr(result.opened, name)) is not None} for result in opening
    ]
    names = sorted({name for row in values for name in row})
    values = [{name: row.get(name) for name in names} for row in values]
    inserted = set(session.scalars(insert(Record).on_conflict_do_nothing().returning(Record.id), values))
    for result in opening:
        assert result.opened is not None
        if result.opened.id not in inserted:
            result.standing, result.call, result.why = Standing.SIBLING, None, "the provider object is taken"


def _by_object(result: Result) -> tuple[str, str, str]:
    record = result.opened
    assert record is not None
    return record.account or "", record.provider_object or "", record.id


def claimed_elsewhere(session: Session, report: Report) -> bool:
    """Whether another operation's record already concluded with this very effect on this very object."""
    finding = report.came_back
    if not isinstance(finding, Finding) or finding.learned is not Learned.FOUND_FREE:
        return False
    request = report.call.request
    provider_object = finding.data.get("id")
    other = exists().where(
        Record.account.is_not_distinct_from(request.account),
        Record.provider_object == provider_object,
        Record.step == report.call.step.name,
        Record.operation_id != report.call.case.row.id,
        Record.state == RecordState.ANSWERED,
        Record.learned.in_([Learned.SUCCEEDED, Learned.FOUND_OURS, Learned.FOUND_FREE]),
    )
    return bool(session.scalar(select(other)))


def renew(session: Session, held: Iterable[tuple[str, int]], timing: Timing) -> set[str]:
    """Prolong the leases of calls in hand: (record id, fence). The ids that are still ours come back."""
    pairs = sorted(held)
    return set(
        session.scalars(
            _RENEW,
            {
                "ids": [record_id for record_id, _ in pairs],
                "fences": [fence for _, fence in pairs],
                "lease": timing.lease,
            },
        )
    )


_RENEW = text(
    """
    UPDATE billing.idempotency_records AS r
       SET lease_until = clock_timestamp() + CAST(:lease AS interval)
      FROM (SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:fences AS bigint[])) AS held (id, fence)) AS held
     WHERE r.id = held.id AND r.fence = held.fence AND r.lease_until IS NOT NULL
    RETURNING r.id
    """
)


def keep_unsettled(session: Session, report: Report, body: bytes | None, status: int | None, why: str) -> bool:
    """An answer that cannot be applied is kept on its record, in a commit of its own. False: the fence is lost.

    The record keeps its lock and will be looked at, never sent again, once a person puts the work back.
    """
    ours = (
        Record.id == report.call.record_id,
        Record.fence == report.call.fence,
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


def look_later(session: Session, work_id: str, now: datetime, timing: Timing) -> None:
    """Put off the looks of this work's open record as long as looks are ever put off."""
    session.execute(
        update(Record)
        .where(Record.work_id == work_id, Record.concluded_at.is_(None), Record.look_at.is_not(None))
        .values(look_at=now + timedelta(seconds=timing.look_max_s))
    )


def settled_already(session: Session, report: Report) -> bool:
    """Whether this report was written by a commit whose answer got lost: the fence is ours, the lease is gone."""
    record = session.get(Record, report.call.record_id)
    return record is not None and record.fence == report.call.fence and record.lease_until is None
