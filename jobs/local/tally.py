"""Counts the demo's requests by state in Postgres, while it runs and at the end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from billing.states import CaptureState, InvoiceState, RecordState, WorkState
from billing.tables.entities import Capture, Invoice
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from jobs.local.count import Asked

FINAL = {*CaptureState, InvoiceState.SENT, InvoiceState.PAID, InvoiceState.REFUSED} - {CaptureState.REQUESTED}


@dataclass(slots=True)
class Progress:
    """The counts that are shown while the demo runs."""

    captures: Counter[str] = field(default_factory=Counter)
    invoices: Counter[str] = field(default_factory=Counter)
    in_doubt: int = 0
    unfinished: int = 0
    """Requests that are not final, calls that are not concluded, and work that is not done."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The requests whose ids begin with `tag`."""

    tag: str

    def progress(self, session: Session) -> Progress:
        captures: Counter[str] = Counter()
        invoices: Counter[str] = Counter()
        for row in self.asked(session):
            (captures if row.id.startswith("cap_") else invoices)[row.state] += 1
        calls = select(func.count()).where(Record.concluded_at.is_(None), Record.operation_id.in_(self._ids()))
        open_calls = session.scalar(calls) or 0
        in_doubt = session.scalar(calls.where(Record.state == RecordState.IN_DOUBT)) or 0
        at_work = session.scalar(
            select(func.count()).where(Work.state != WorkState.DONE, Work.entity_id.in_(self._ids()))
        )
        waiting = sum(n for counted in (captures, invoices) for state, n in counted.items() if state not in FINAL)
        return Progress(captures, invoices, in_doubt, waiting + open_calls + (at_work or 0))

    def asked(self, session: Session, expected: Mapping[str, str] | None = None) -> list[Asked]:
        """Every capture and invoice of ours, with the state that is expected of it."""
        want = expected or {}
        captures = session.execute(
            select(Capture.id, Capture.payment_intent, Capture.amount_minor, Capture.currency, Capture.state).where(
                Capture.request_id.startswith(self.tag)
            )
        )
        invoices = session.execute(
            select(Invoice.id, Invoice.stripe_invoice, Invoice.total_minor, Invoice.currency, Invoice.state).where(
                Invoice.request_id.startswith(self.tag)
            )
        )
        return [
            Asked(id_, provider_object, minor, currency, state, want.get(id_, "never asked"))
            for id_, provider_object, minor, currency, state in (*captures.tuples(), *invoices.tuples())
        ]

    def keys(self, session: Session) -> tuple[int, int]:
        """(how often a key was sent again, how many keys were replaced after a proven absence)."""
        again, replaced = session.execute(
            select(
                func.coalesce(func.sum(func.greatest(Record.sends - 1, 0)), 0),
                func.count().filter(Record.state == RecordState.DISPROVED),
            ).where(Record.method == "POST", Record.operation_id.in_(self._ids()))
        ).one()
        return int(again), int(replaced)

    def _ids(self) -> Select[tuple[str]]:
        mine = (
            select(Capture.id)
            .where(Capture.request_id.startswith(self.tag))
            .union_all(select(Invoice.id).where(Invoice.request_id.startswith(self.tag)))
            .subquery()
        )
        return select(mine.c.id)
