"""The life of one record: planned, sent, and in the end answered or disproved."""

from dataclasses import dataclass
from datetime import datetime

from billing import ids
from billing.facts import new_fact
from billing.gateway import Answer, Request, Response
from billing.idempotency import Learned, key_for, look_backoff
from billing.steps import Json, LoadedOperation, Step
from billing.tables import Record, RecordState
from billing.timing import Timing


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which name, mode and timing this process calls the provider."""

    service: str
    environment: str
    livemode: bool
    api_version: str
    timing: Timing
    own_account: str | None = None
    """The provider's id of our own account: a key of another one gets 404 for everything that is ours."""


def plan(loaded: LoadedOperation, step: Step, terms: Terms) -> Record:
    """The first generation of a step: its parameters are encoded now, once, and sent as they are ever after."""
    ask = step.ask(loaded)
    return _next_generation(loaded, step.name, terms, (ask.method, ask.path, ask.body), ask.provider_object)


def rotate(loaded: LoadedOperation, record: Record, now: datetime, terms: Terms) -> Record:
    """Proven absent: the old generation is disproved, and the next one asks for the same, to the byte."""
    record.state, record.concluded_at, record.conclusion = RecordState.DISPROVED, now, "absent"
    record.look_at = None
    loaded.facts.append(new_fact(loaded.row, "disproved", step=record.step, generation=record.generation))
    asked = (record.method, record.path, record.body)
    return _next_generation(loaded, record.step, terms, asked, record.provider_object)


def mark_sent(record: Record, now: datetime, timing: Timing, *, looking: bool, only_looks: bool) -> None:
    """Lease it, and write before the call what will be true if we die in it: it may have gone out."""
    record.fence += 1
    record.lease_until, record.lease_s = now + timing.lease, timing.lease_s
    # Counted before it is made: a look that kills its worker has happened, too.
    record.looks += looking
    if looking and not only_looks:
        # Should this look kill its worker, it is not the first thing that the next one meets.
        record.look_at = now + timing.lease + look_backoff(record, timing)
        return
    record.state, record.learned = RecordState.SENT, Learned.NOTHING
    record.first_sent_at = record.first_sent_at or now
    record.sends += 1
    record.look_at = None
    if not only_looks:
        record.parked_at = None
        record.unanswered += 1
        record.unreported += 1
        record.last_prepared_at = now


def conclude(
    loaded: LoadedOperation, record: Record, step: Step, outcome: Learned, data: Json, why: str, now: datetime
) -> None:
    """A definite outcome: the record is answered, the row changes, and the facts tell it."""
    record.state, record.concluded_at, record.look_at = RecordState.ANSWERED, now, None
    record.conclusion = why or outcome
    if record.provider_object is None and record.method == "POST" and isinstance(data.get("id"), str):
        record.provider_object = str(data["id"])
    told_now = step.apply(loaded, outcome, data, why)
    if told_now:
        loaded.row.state_since = now
    loaded.facts.extend(told_now)


def remember(record: Record, answer: Answer, *, late: bool = False) -> None:
    """Keep what came in of it, and its request id. A late one adds its id, and does not replace what we acted on."""
    if not isinstance(answer, Response):
        return
    if answer.request_id:
        record.request_ids = [*record.request_ids, answer.request_id]
    if not late:
        record.answer_status, record.answer = answer.status, answer.kept


def request_of(record: Record) -> Request:
    return Request(record.method, record.path, record.body, record.key, record.account, record.api_version)


def _next_generation(
    loaded: LoadedOperation, step: str, terms: Terms, asked: tuple[str, str, str], provider_object: str | None
) -> Record:
    # One counter per operation, so that no step ever meets a key of an earlier life.
    generation = max((record.generation for record in loaded.records), default=0) + 1
    method, path, body = asked
    account = loaded.row.account
    record = Record(
        id=ids.new("rec"),
        operation_id=loaded.row.id,
        step=step,
        generation=generation,
        work_id=loaded.work_id,
        queue=loaded.queue,
        key=key_for(terms.service, terms.environment, loaded.row.id, step, generation),
        method=method,
        path=path,
        body=body,
        fingerprint=Request(method, path, body, account=account).fingerprint,
        account=account,
        livemode=terms.livemode,
        api_version=terms.api_version,
        provider_object=provider_object,
        deadline=getattr(loaded.row, "capture_before", None),
        state=RecordState.PLANNED,
        learned=Learned.NOTHING,
        sends=0,
        unanswered=0,
        unreported=0,
        server_errors=0,
        replayed=False,
        look_only=False,
        margin_looked=False,
        looks=0,
        looked_at=None,
        fence=0,
        request_ids=[],
    )
    loaded.records.append(record)
    return record
