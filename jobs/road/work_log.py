"""The log lines of the road: one for each piece of work and transaction. `jobs.metrics` counts from them, and
`jobs.traces` makes spans of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from billing.calls import Call, Standing
from billing.states import WorkState
from billing.steps import LoadedOperation
from billing.tables.entities import Requested
from billing.tables.work import Work
from billing.traceparent import Traced
from jobs.logs import about
from jobs.road.piece import Piece

log = structlog.get_logger()

_NEEDS_OPERATOR = (Standing.CONFLICT, Standing.MISCONFIGURED)


def write(pieces: Sequence[Piece], now: datetime) -> None:
    """One line for each: its next call is prepared, or the standing of its operation. What an operator must know is an
    error once, and not again at each look."""
    for piece in pieces:
        work, result = piece.work, piece.result
        if result is None:
            if work.state == WorkState.QUARANTINED:
                log.error("work.quarantined", **about(work), why=work.reason)
            continue
        row, call, report = result.loaded.row, result.call, piece.report
        called, answer, took_ms = (report.call.step.name, report.answer, report.took_ms) if report else (None,) * 3
        trace = Traced(work.traceparent, report.began_ns if report else 0, report)
        if call is not None:
            log.info(
                "operation.prepared",
                **about(row),
                contract=work.contract,
                state=row.state,
                step=call.step.name,
                looking=call.looking,
                waited_ms=_waited_ms(work, call, now),
                called=called,
                answer=answer,
                took_ms=took_ms,
                trace=trace,
            )
            continue
        needs_operator = piece.quarantined_at(now) or result.newly_undecided or result.standing in _NEEDS_OPERATOR
        minor, currency = _ended_amount(piece)
        level = log.error if needs_operator else log.info
        level(
            "operation.settled",
            **about(row),
            contract=work.contract,
            state=row.state,
            standing=str(result.standing),
            work=str(work.state),
            called=called,
            answer=answer,
            took_ms=took_ms,
            ran_ms=_ran_ms(result.loaded, now) if piece.ended else None,
            minor=minor,
            currency=currency,
            why=result.why or None,
            trace=trace,
            bytes=_ended_size(piece),
        )


def _waited_ms(work: Work, call: Call, now: datetime) -> int | None:
    """From the request to this call, if it is the first call of its operation."""
    row, records = call.loaded.row, call.loaded.records
    if call.fence > 1 or len(records) > 1:
        return None
    return _ms_since(row.requested_at if isinstance(row, Requested) else work.created_at, now)


def _ran_ms(loaded: LoadedOperation, now: datetime) -> int:
    """From the first call of the operation; 0 if it needed none."""
    began = loaded.records[0].created_at if loaded.records else None
    return _ms_since(began or now, now)


def _ms_since(moment: datetime, now: datetime) -> int:
    """At least 0: a row may have been written with any time."""
    return max(0, int((now - moment).total_seconds() * 1000))


def _ended_amount(piece: Piece) -> tuple[int | None, str | None]:
    """The amount in minor units and the currency, if the operation ended here and is about money."""
    if not piece.ended or piece.loaded is None or piece.operation.amount is None:
        return None, None
    row: Any = piece.loaded.row
    return getattr(row, piece.operation.amount), row.currency


def _ended_size(piece: Piece) -> int | None:
    """The size in bytes, if the operation ended here and has one."""
    if not piece.ended or piece.loaded is None or piece.operation.size is None:
        return None
    size: int | None = getattr(piece.loaded.row, piece.operation.size)
    return size
