"""Loads operations with their records under lock, and writes what `billing.effects` decided, in batches.

The order of locks is the same everywhere: work, then the operation's row, then its records, each by id.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import CursorResult, func, inspect, select, text, update
from sqlalchemy.orm import Session

from billing.effects import Report, Result, Standing
from billing.idempotency import Learned
from billing.steps import LoadedOperation, LookResult, Operation
from billing.tables import MAX_DESCRIPTION, MAX_LINES, Invoice, InvoiceLine, Record, RecordState, Table, Work
from billing.timing import Timing

T = TypeVar("T", bound=Table)


def load(session: Session, operation: Operation, wanted: Mapping[str, tuple[str, str]]) -> dict[str, LoadedOperation]:
    """Lock and load operations: `wanted` maps operation id -> (work id, queue). Unknown ids are absent."""
    names = list(wanted)
    found: list[Any] = rows(session, operation.table, "WHERE id = ANY (%s) ORDER BY id FOR NO KEY UPDATE", (names,))
    operations = {row.id: LoadedOperation(row, [], *wanted[row.id]) for row in found}
    of_these = "WHERE operation_id = ANY (%s) ORDER BY operation_id, generation FOR NO KEY UPDATE"
    for record in rows(session, Record, of_these, (names,)):
        operations[record.operation_id].records.append(record)
    if operation.table is Invoice:
        for line in rows(session, InvoiceLine, "ORDER BY invoice_id, position", (names,), source=_LINES):
            operations[line.invoice_id].lines.append(line)
    return operations


# Only so much is ever loaded: one line more than there may be shows that there are too many, and a description that is
# too long is left out. Its length in bytes is known without reading it.
_LINES = f"""(
    SELECT line.* FROM unnest(%s::text[]) AS wanted (id) CROSS JOIN LATERAL (
           SELECT invoice_id, position, amount_minor,
                  CASE WHEN octet_length(description) <= {4 * MAX_DESCRIPTION} THEN description END AS description
             FROM billing.invoice_lines WHERE invoice_id = wanted.id
            ORDER BY position LIMIT {MAX_LINES + 1}) AS line)
    """


def rows(
    session: Session,
    table: type[T],
    conditions: str,
    values: tuple[Any, ...] | Mapping[str, Any],
    *,
    source: str | None = None,
) -> list[T]:
    """Rows of one table for which these conditions hold, known there as `its`; nothing is written before `save`.

    `source`: a query that has the table's columns, to be read instead of the table itself.

    As the ORM would load them, at a fifth of the cost: what is deferred is left out, and no session watches them.
    """
    # By name: `*` would fail in every worker that runs while a migration adds a column.
    columns = [attribute.key for attribute in table.__mapper__.column_attrs if not attribute.deferred]
    chosen = ", ".join(f"its.{name}" for name in columns)
    statement = f"SELECT {chosen} FROM {source or table.__table__} AS its {conditions}"
    found = session.connection().exec_driver_sql(statement, values)
    loaded = []
    for values_of_one in found.all():
        row: T = table.__mapper__.class_manager.new_instance()
        vars(row).update(zip(columns, values_of_one, strict=True))
        loaded.append(row)
    return loaded


def write(session: Session, results: Sequence[Result]) -> Sequence[Result]:
    """Write facts and changed rows, then the new records; a result whose object a sibling holds becomes SIBLING.

    Without new records nothing is written yet. Returns the results that `save_all` still has to write.
    """
    opening = sorted((result for result in results if result.opened is not None), key=_by_object)
    if not opening:
        return results
    # In a statement of their own: a record that concludes in this transaction gives its object to its successor.
    save_all(session, results)
    statement, value = _insertion([result.opened for result in opening if result.opened])
    inserted = set(_run(session, f"{statement} ON CONFLICT DO NOTHING RETURNING id", value).scalars())
    for result in opening:
        assert result.opened is not None
        if result.opened.id not in inserted:
            result.standing, result.call, result.why = Standing.SIBLING, None, "the provider object is taken"
    return ()


def save_all(session: Session, results: Sequence[Result], works: Iterable[Work] = ()) -> None:
    """Write facts, changed rows, and changed work, in one statement: round trips cost more than what they carry."""
    # Two answers about one operation may be settled together, and share its case.
    operations = {id(result.loaded): result.loaded for result in results}.values()
    opened = {id(result.opened) for result in results}
    rows = [row for loaded in operations for row in (loaded.row, *loaded.records) if id(row) not in opened]
    save(session, [*rows, *works], [fact for loaded in operations for fact in loaded.facts])


def save(session: Session, rows: Iterable[Table], new: Sequence[Table] = ()) -> None:
    """Write what has changed of these loaded rows, and new ones, in one statement."""
    alike: dict[tuple[type[Table], tuple[str, ...]], list[Table]] = defaultdict(list)
    for row in {id(row): row for row in rows}.values():
        state = inspect(row)
        if changed := sorted({column.name for column in state.mapper.columns} - state.unmodified):
            alike[type(row), tuple(changed)].append(row)
    parts = [_update(table, names, changed_rows) for (table, names), changed_rows in alike.items()]
    parts += [_insertion(new)] if new else []
    if parts:
        *first, last = [statement for statement, _ in parts]
        together = ", ".join(f"part_{number} AS ({statement})" for number, statement in enumerate(first))
        _run(session, f"WITH {together} {last}" if first else last, *(value for _, value in parts))


def _run(session: Session, statement: str, *values: str) -> CursorResult[Any]:
    return session.connection().exec_driver_sql(statement, values)


Part = tuple[str, str]
"""A statement, and its one parameter."""


def _update(table: type[Table], names: Sequence[str], rows: Sequence[Table]) -> Part:
    """Writes these columns of these rows."""
    columns = ", ".join(f"{name} = new.{name}" for name in names)
    statement = (
        f"UPDATE {table.__table__} AS old SET {columns}"
        f"  FROM json_populate_recordset(NULL::{table.__table__}, %s) AS new WHERE old.id = new.id"
    )
    return statement, _as_json(rows, ("id", *names))


def _insertion(rows: Sequence[Table]) -> Part:
    """Writes new rows. What none of them names is left to the database."""
    table = type(rows[0]).__table__
    named = {name for row in rows for name, value in vars(row).items() if value is not None}
    names = [column.name for column in table.columns if column.name in named]
    columns = ", ".join(names)
    statement = f"INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, %s)"
    return statement, _as_json(rows, names)


def _as_json(rows: Sequence[Table], names: Sequence[str]) -> str:
    """Rows as one value: the statement's text is the same for any number of them, so it is prepared once."""
    return json.dumps([{name: values.get(name) for name in names} for values in map(vars, rows)], default=_plain)


def _plain(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else value.isoformat()  # type: ignore[attr-defined]


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
        Record.learned.in_([Learned.SUCCEEDED, Learned.FOUND_OURS, Learned.FOUND_FREE]),
    )
    return session.scalar(other.limit(1))


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
