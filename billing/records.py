"""The life of one record: planned, sent, and in the end answered or disproved. One function for each event."""

from datetime import datetime

from billing import ids
from billing.answers import Kind, Reading
from billing.call_settings import CallSettings
from billing.facts import new_fact
from billing.gateway import Answer, Request, Response
from billing.idempotency import key_for, look_backoff
from billing.learned import Learned
from billing.states import RecordState, set_state
from billing.steps import Json, LoadedOperation, LookResult, Step
from billing.tables.idempotency_records import Record
from billing.timing import Timing

ABSENT, DISCARDED, RULED_OUT = "absent", "discarded", "ruled_out"
"""How a record was concluded whose key had no effect: a look proved it; an operator ended its work before anything was
sent with it; or an operator ruled out that it did anything, because no look could prove that. The last two are also the
reasons of an operation that is refused so."""


def plan(loaded: LoadedOperation, step: Step, call_settings: CallSettings) -> Record:
    """The first generation of a step. Its parameters are encoded here, once; every send has the same bytes."""
    ask = step.ask(loaded)
    asked = (ask.method, ask.path, ask.body)
    return _next_generation(loaded, step.name, call_settings, asked, ask.provider_object, ask.deadline)


def rotate(loaded: LoadedOperation, record: Record, now: datetime, call_settings: CallSettings) -> Record:
    """Proven absent: the old generation is disproved, and the next one has the same bytes under a new key."""
    set_state(record, RecordState.DISPROVED)
    record.concluded_at, record.conclusion = now, ABSENT
    record.look_at = None
    loaded.facts.append(new_fact(loaded.row, "disproved", step=record.step, generation=record.generation))
    asked = (record.method, record.path, record.body)
    return _next_generation(loaded, record.step, call_settings, asked, record.provider_object, record.deadline)


def sent_nothing(record: Record) -> bool:
    """Whether nothing that may have had an effect was sent with its key, and no process may still send or report: every
    send was reported and proven not to be executed, and no worker has a lease, not even one that ran out."""
    nothing_out = record.unanswered == 0 and record.unreported == 0 and record.lease_until is None
    return record.state == RecordState.PLANNED and nothing_out


def discard(record: Record, now: datetime) -> None:
    """An operator ended its work, and `sent_nothing` is true of it: its key is never sent."""
    set_state(record, RecordState.DISPROVED)
    record.concluded_at, record.look_at, record.conclusion = now, None, DISCARDED


def mark_sent(record: Record, now: datetime, timing: Timing, step: Step, *, looking: bool) -> None:
    """Lease the call and, unless it is a look, mark its record as sent. This is committed before the request leaves, so
    that the record is right if the worker dies during the call: it may have been sent."""
    record.fence += 1
    record.lease_until, record.lease_s = now + timing.lease, timing.lease_s
    # Counted before it is made, because a look that kills its worker counts, too.
    record.looks += looking
    if looking and not step.only_looks:
        # If this look kills its worker, the next worker does other work before it.
        record.look_at = now + timing.lease + look_backoff(record, timing)
        return
    set_state(record, RecordState.SENT)
    record.learned = Learned.NOTHING
    record.first_sent_at = record.first_sent_at or now
    record.sends += 1
    record.look_at = None
    if step.leaves_doubt:
        record.parked_at = None
        record.unanswered += 1
        record.unreported += 1
        record.last_prepared_at = now


def mark_lapsed(loaded: LoadedOperation, record: Record, step: Step) -> None:
    """The lease ran out without a report: the worker is dead or asleep."""
    set_state(record, RecordState.IN_DOUBT if step.leaves_doubt else RecordState.PLANNED)
    loaded.facts.append(new_fact(loaded.row, "attempt_lapsed", step=record.step, generation=record.generation))


def note_answer(
    loaded: LoadedOperation, record: Record, answer: Answer, reading: Reading, took_ms: int, *, late: bool = False
) -> None:
    """Store the answer to a send, and record it as a fact.

    Of a late answer only the request id is stored. It must not replace the answer that was acted on, and it does not
    count as a report, because it may be settled twice: if the reply to a commit was lost.
    """
    response = answer if isinstance(answer, Response) else None
    if response is not None and response.request_id:
        record.request_ids = [*record.request_ids, response.request_id]
    if response is not None and not late:
        record.answer_status, record.answer = response.status, response.kept
    if not late:
        # What leaves no doubt was not counted.
        record.unreported = max(0, record.unreported - 1)
    loaded.facts.append(
        new_fact(
            loaded.row,
            "late_answer" if late else "attempted",
            step=record.step,
            generation=record.generation,
            outcome=reading.kind,
            learned=reading.learned,
            status=response.status if response else None,
            request_id=response.request_id if response else None,
            replayed=bool(response and response.replayed),
            took_ms=took_ms,
            why=reading.why,
        )
    )


def learn_from_answer(record: Record, reading: Reading, now: datetime) -> None:
    """What a send's report, in time, has shown. `unanswered` was raised when the send was prepared."""
    match reading.kind:
        case Kind.LEARNED:
            assert reading.learned is not None
            record.learned = reading.learned
            record.look_only = record.look_only or reading.learned is Learned.ASK
            if reading.executed:
                record.unanswered = 0
        case Kind.NO_ANSWER:
            record.server_errors += reading.server_error
            record.look_only = record.look_only or reading.replayed
        case Kind.THROTTLED | Kind.MISCONFIGURED | Kind.NOT_SENT:
            record.unanswered = max(0, record.unanswered - 1)
    record.replayed = record.replayed or reading.replayed
    record.last_reported_at = now
    set_state(record, RecordState.IN_DOUBT if record.unanswered else RecordState.PLANNED)


def learn_from_look(
    loaded: LoadedOperation, record: Record, found: LookResult, *, began_at: datetime, took_ms: int
) -> None:
    """What a look has shown. It proves the state of the moment when it began, by the database's clock."""
    record.learned, record.looked_at = found.learned, began_at
    if record.state == RecordState.SENT:
        # The call of a step that only looks: it can have had no effect, whatever it has shown.
        set_state(record, RecordState.PLANNED)
    if found.found_objects is not None:
        record.found_objects = list(found.found_objects)
    loaded.facts.append(
        new_fact(
            loaded.row,
            "looked",
            step=record.step,
            generation=record.generation,
            learned=found.learned,
            took_ms=took_ms,
            why=found.why,
        )
    )


def mark_undecided(loaded: LoadedOperation, record: Record, look_at: datetime, now: datetime) -> bool:
    """Looks could not decide it so far; it is looked at again at `look_at`. True for the first time since the last
    send."""
    record.look_at = look_at
    if record.parked_at is not None:
        return False
    record.parked_at = now
    loaded.facts.append(new_fact(loaded.row, "undecided", step=record.step, generation=record.generation))
    return True


def mark_conflict(loaded: LoadedOperation, record: Record, why: str) -> None:
    """The provider holds something other than was asked, or than was concluded; needs a decision."""
    set_state(record, RecordState.CONFLICT)
    record.look_at = None
    if record.concluded_at is None:
        record.conclusion = why
    loaded.facts.append(new_fact(loaded.row, "conflict", step=record.step, generation=record.generation, why=why))


def conclude(
    loaded: LoadedOperation, record: Record, step: Step, outcome: Learned, data: Json, why: str, now: datetime
) -> None:
    """A definite outcome: the record is answered, the row changes, and facts record it."""
    set_state(record, RecordState.ANSWERED)
    record.concluded_at, record.look_at = now, None
    record.conclusion = why or outcome
    if record.provider_object is None and record.method == "POST" and isinstance(data.get("id"), str):
        record.provider_object = str(data["id"])
    facts = step.apply(loaded, outcome, data, why)
    if facts:
        loaded.row.state_since = now
    loaded.facts.extend(facts)


def request_of(record: Record) -> Request:
    return Request(record.method, record.path, record.body, record.key, record.account, record.api_version)


def _next_generation(
    loaded: LoadedOperation,
    step: str,
    call_settings: CallSettings,
    asked: tuple[str, str, str],
    provider_object: str | None,
    deadline: datetime | None,
) -> Record:
    # One counter for the whole operation, so that no key is used twice, even if an operator reopens the operation.
    generation = max((record.generation for record in loaded.records), default=0) + 1
    method, path, body = asked
    record = Record(
        id=ids.new("rec"),
        operation_id=loaded.row.id,
        step=step,
        generation=generation,
        work_id=loaded.work_id,
        queue=loaded.queue,
        key=key_for(call_settings.service, call_settings.environment, loaded.row.id, step, generation),
        method=method,
        path=path,
        body=body,
        account=loaded.row.account,
        livemode=call_settings.livemode,
        api_version=call_settings.api_version,
        provider_object=provider_object,
        deadline=deadline,
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
