"""One capture or invoice, explained: what was asked, every provider call with its key, every fact, and what is next."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.errors import UnknownEntity
from billing.facts import ENTITY_TYPES, OLD_TOPICS, PAYLOAD_TEXT, TOPICS, UnreadablePayload, read_payload
from billing.status import Status, status
from billing.tables import MAX_LINES, Capture, Fact, Invoice, InvoiceLine, Record, Work


@dataclass(frozen=True, slots=True)
class ExplainedWork:
    """One piece of work, as the jobs have it."""

    id: str
    contract: str
    queue: str
    state: str
    attempts: int
    due_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExplainedCall:
    """One generation of one step. `request_ids` are Stripe's: what its support asks for."""

    id: str
    step: str
    generation: int
    key: str
    method: str
    path: str
    state: str
    learned: str
    sends: int
    looks: int
    first_sent_at: datetime | None
    last_reported_at: datetime | None
    look_at: datetime | None
    answer_status: int | None
    request_ids: list[str]
    conclusion: str | None


@dataclass(frozen=True, slots=True)
class ExplainedFact:
    """One fact, with what its topic means. `set_aside`: it could not be planned, and starts nothing.

    A payload that cannot be read is told as `{"unreadable": why}`.
    """

    at: datetime
    version: int
    topic: str
    meaning: str
    actor: str
    payload: dict[str, Any]
    set_aside: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that Postgres knows about one operation. `also` are other operations of the same name."""

    status: Status
    request: dict[str, Any]
    work: list[ExplainedWork]
    calls: list[ExplainedCall]
    facts: list[ExplainedFact]
    also: list[str]


def explain(session: Session, name: str) -> Explanation:
    """The story of the operation that `name` leads to: see `find`. Raises UnknownEntity."""
    newest, *others = find(session, name)
    row = session.get(Capture if newest.startswith("cap_") else Invoice, newest)
    assert isinstance(row, Capture | Invoice), "`find` found it in this transaction"
    works = session.scalars(select(Work).where(Work.entity_id == newest).order_by(Work.id))
    records = session.scalars(
        select(Record).where(Record.operation_id == newest).order_by(Record.created_at, Record.generation)
    )
    facts = _facts(session, row)
    stands = status(session, newest)
    if stands.work is None and any(fact.set_aside for fact in facts):
        stands = replace(stands, next="nothing: its fact was set aside as unplannable; see the relay's log")
    return Explanation(
        status=stands,
        request=_request(session, row),
        work=[ExplainedWork(w.id, w.contract, w.queue, w.state, w.attempts, w.due_at, w.reason) for w in works],
        calls=[_call(record) for record in records],
        facts=facts,
        also=others,
    )


def find(session: Session, name: str) -> list[str]:
    """The captures and invoices that a name leads to, the newest first. Raises UnknownEntity when there is none.

    A name is our own id (`cap_`, `inv_`, `wrk_`, `rec_`), the payment intent or the Stripe invoice (`pi_`,
    `in_`), or the request id with which it was asked for.
    """
    match name.partition("_")[0]:
        case "cap":
            found = _all(session.scalars(select(Capture.id).where(Capture.id == name)))
        case "inv":
            found = _all(session.scalars(select(Invoice.id).where(Invoice.id == name)))
        case "wrk":
            found = _all(session.scalars(select(Work.entity_id).where(Work.id == name)))
        case "rec":
            found = _all(session.scalars(select(Record.operation_id).where(Record.id == name)))
        case "pi":
            found = _all(session.scalars(select(Capture.id).where(Capture.payment_intent == name)))
        case "in":
            found = _all(session.scalars(select(Invoice.id).where(Invoice.stripe_invoice == name)))
        case _:
            found = []
    if not found:
        # A request id may look like anything; the same one may name a capture and an invoice.
        found = [
            *_all(session.scalars(select(Capture.id).where(Capture.request_id == name))),
            *_all(session.scalars(select(Invoice.id).where(Invoice.request_id == name))),
        ]
    if not found:
        raise UnknownEntity(name)
    return found


def _all(ids: Iterable[str]) -> list[str]:
    """Ids begin with their time, so the greatest is the newest. A probe's work leads to a switch: not ours."""
    return sorted((each for each in ids if each.startswith(("cap_", "inv_"))), reverse=True)


def _facts(session: Session, row: Capture | Invoice) -> list[ExplainedFact]:
    # With its type, so that the index of their numbers finds them.
    mine = (Fact.entity_type == ENTITY_TYPES[type(row)], Fact.entity_id == row.id)
    columns = (Fact.happened_at, Fact.entity_version, Fact.topic, Fact.actor, Fact.planned_version, PAYLOAD_TEXT)
    rows = session.execute(select(*columns).where(*mine).order_by(Fact.entity_version))
    meanings = TOPICS | OLD_TOPICS
    return [
        ExplainedFact(
            at,
            version,
            topic,
            meanings.get(topic, ""),
            actor,
            _payload(payload),
            set_aside=(planned_version or 0) < 0,
        )
        for at, version, topic, actor, planned_version, payload in rows
    ]


def _payload(text: str | None) -> dict[str, Any]:
    try:
        return read_payload(text)
    except UnreadablePayload as error:
        return {"unreadable": str(error)}


def _request(session: Session, row: Capture | Invoice) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "request_id": row.request_id,
        "requested_at": row.requested_at,
        "account": row.account,
        "correlation_id": row.correlation_id,
    }
    if isinstance(row, Capture):
        return asked | {
            "payment_intent": row.payment_intent,
            "minor": row.amount_minor,
            "currency": row.currency,
            "authorized_minor": row.authorized_minor,
            "capture_before": row.capture_before,
            "charge": row.charge,
        }
    # Without their texts, which may name a person: a story is pasted into tickets.
    lines = session.scalars(
        select(InvoiceLine.amount_minor)
        .where(InvoiceLine.invoice_id == row.id)
        .order_by(InvoiceLine.position)
        .limit(MAX_LINES + 1)
    )
    return asked | {
        "customer": row.customer,
        "minor": row.total_minor,
        "currency": row.currency,
        "days_until_due": row.days_until_due,
        "stripe_invoice": row.stripe_invoice,
        "number": row.number,
        "lines": list(lines),
    }


def _call(record: Record) -> ExplainedCall:
    return ExplainedCall(
        id=record.id,
        step=record.step,
        generation=record.generation,
        key=record.key,
        method=record.method,
        path=record.path,
        state=record.state,
        learned=record.learned,
        sends=record.sends,
        looks=record.looks,
        first_sent_at=record.first_sent_at,
        last_reported_at=record.last_reported_at,
        look_at=record.look_at,
        answer_status=record.answer_status,
        request_ids=record.request_ids,
        conclusion=record.conclusion,
    )
