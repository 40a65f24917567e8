"""Counts the demo's requests by state in Postgres, while it runs and at the end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, func, literal, or_, select
from sqlalchemy.orm import Session

from billing.states import CaptureState, InvoiceState, RecordState, WorkState
from billing.tables.entities import Capture, Invoice, Refund, Void
from billing.tables.idempotency_records import Record
from billing.tables.work import Work
from jobs.demo.count import Asked

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
    """The requests whose request ids begin with `tag`."""

    tag: str

    def progress(self, session: Session) -> Progress:
        captures: Counter[str] = Counter()
        invoices: Counter[str] = Counter()
        for kind, counted in ((Capture, captures), (Invoice, invoices)):
            states = select(kind.state, func.count()).where(self._asked(kind)).group_by(kind.state)
            counted.update(dict(session.execute(states).tuples().all()))
        calls = select(func.count()).where(Record.concluded_at.is_(None), Record.operation_id.in_(self._ids()))
        open_calls = session.scalar(calls) or 0
        in_doubt = session.scalar(calls.where(Record.state == RecordState.IN_DOUBT)) or 0
        at_work = session.scalar(
            select(func.count()).where(Work.state != WorkState.DONE, Work.entity_id.in_(self._ids()))
        )
        waiting = sum(n for counted in (captures, invoices) for state, n in counted.items() if state not in FINAL)
        return Progress(captures, invoices, in_doubt, waiting + open_calls + (at_work or 0))

    def asked(self, session: Session, expected: Mapping[str, str] | None = None) -> list[Asked]:
        """Every request of ours, with the state that is expected of it. A void has no amount."""
        want = expected or {}
        comes_to = func.coalesce(Invoice.reckoned_minor, Invoice.total_minor)
        shown = (
            select(Capture.id, Capture.payment_intent, Capture.amount_minor, Capture.currency, Capture.state).where(
                Capture.request_id.startswith(self.tag)
            ),
            select(Void.id, Void.payment_intent, literal(0), literal(""), Void.state).where(
                Void.request_id.startswith(self.tag)
            ),
            select(Refund.id, Refund.stripe_refund, Refund.amount_minor, Refund.currency, Refund.state).where(
                Refund.request_id.startswith(self.tag)
            ),
            select(Invoice.id, Invoice.stripe_invoice, comes_to, Invoice.currency, Invoice.state).where(
                self._asked(Invoice)
            ),
        )
        return [
            Asked(id_, provider_object, minor, currency, state, want.get(id_, "never asked"))
            for each in shown
            for id_, provider_object, minor, currency, state in session.execute(each).tuples()
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

    def _asked(self, kind: type[Capture | Invoice]) -> ColumnElement[bool]:
        """The invoice of a capture has no request id of its own choice; both have the correlation id."""
        return or_(kind.request_id.startswith(self.tag), kind.correlation_id.startswith(self.tag))

    def _ids(self) -> Select[tuple[str]]:
        mine = (
            select(Capture.id)
            .where(self._asked(Capture))
            .union_all(select(Invoice.id).where(self._asked(Invoice)))
            .subquery()
        )
        return select(mine.c.id)
