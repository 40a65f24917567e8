"""Finds what Stripe did for operations that a restored database has forgotten, in whole or in part, and adds it.

Every call of ours carries a key that names environment, operation and step, and the event that it caused names that
key. So the events since the restore show what was done, and for what, with the object as it was then. The operation's
own steps judge that object, as they judge an answer; what no event shows, they look at. Nothing is sent: the gateway
only reads.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

from billing import database, ids, row_io, statements, store
from billing.accounts import accounts
from billing.call_settings import CallSettings
from billing.calls import Result, Standing
from billing.database import Transact
from billing.gateway import Gateway
from billing.idempotency import lease_alive
from billing.invoice_action_steps import CALLS
from billing.learned import EFFECT_IS_OURS, Learned
from billing.operations import by_id, operation_of
from billing.own_events import key_of
from billing.reading import NotRead, patient_readers
from billing.records import conclude, plan
from billing.registration import Operation
from billing.states import RecordState
from billing.steps import Json, LoadedOperation, LookResult, Step, Unread
from billing.tables.idempotency_records import Record
from billing.tables.invoice_actions import VOID_CREDIT_NOTE
from jobs.recovery import shown_invoices, shown_rows
from jobs.recovery.repeats import Repeats

SQL = statements.beside(__file__)
T = TypeVar("T")

EVENTS = (
    *("payment_intent.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.canceled"),
    *("refund.created", "credit_note.created"),
    *("invoice.created", "invoice.updated", "invoice.finalized", "invoice.sent"),
    *("invoice.paid", "invoice.payment_failed", "invoice.payment_action_required"),
    *("invoice.voided", "invoice.marked_uncollectible", "credit_note.voided"),
)
"""What our calls cause: capture, a capture that keeps the rest, void, refund, credit note; create, add_lines, finalize,
send, charge, and what is done with an invoice or a credit note."""
EVENTS_DAYS = 30
"""Stripe lists no older events. Source: docs.stripe.com/api/events."""
RECOVERED = "recovered"
"""How a call is concluded that was forgotten, and the reason of a state that comes of it."""

_OPEN = (RecordState.PLANNED, RecordState.SENT, RecordState.IN_DOUBT)


@dataclass(slots=True)
class Trace:
    """What Stripe's events show of one operation: our keys by (step, generation); the object as it was last, and as
    each step left it."""

    operation_id: str
    account: str | None
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    shown: Json = field(default_factory=dict)
    left_by: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One operation, and in which way Postgres and Stripe differ about it: a sentence that says what to do."""

    operation_id: str
    what: str


UNKNOWN = "Stripe shows our calls for it, and it is not known here"
BEHIND = "Stripe shows calls for it that are not known here"
CONTRADICTS = "it ended here without its effect, and Stripe shows our call"
TAKEN = (
    "it cannot be attached: another capture or void holds its authorization; see `billing explain` of that payment "
    "intent"
)


class StripesSide:
    """Compares, and attaches. `gateway` only reads; `since` by Stripe's clock, with a margin."""

    def __init__(
        self, gateway: Gateway, call_settings: CallSettings, transact: Transact, since: datetime, actor: str
    ) -> None:
        self._gateway, self._call_settings = gateway, call_settings
        self._readers = patient_readers(gateway, call_settings)
        self._transact, self._since, self._actor = transact, since, actor
        name = re.escape(f"{call_settings.service}:{call_settings.environment}")
        self._key = re.compile(rf"{name}:([a-z]{{3,4}}_[0-9a-f]{{32}}):(.+):g(\d+)")

    def traces(self) -> list[Trace]:
        """Every operation of ours for which something was done since, the one that was done first first: a refund is
        made again after its capture. Raises NotRead."""
        found: dict[str, Trace] = {}
        for account in self._transact(accounts):
            for event in self._events(account):
                matched = self._key.fullmatch(key_of(event) or "")
                if matched is None or by_id(matched[1]) is None:
                    continue
                trace = found.setdefault(matched[1], Trace(matched[1], account))
                trace.keys[(matched[2], int(matched[3]))] = matched[0]
                # The newest event is listed first. Where one call changes several objects, its own counts.
                if (shown := _object_of(event, operation_of(matched[1]), matched[2])) is not None:
                    trace.shown = trace.shown or shown
                    trace.left_by.setdefault(matched[2], shown)
        # The oldest first: an earlier capture of the same authorization is known before a later one is compared.
        return list(found.values())[::-1]

    def differences(self, traces: Sequence[Trace]) -> list[Difference]:
        """Those that are not known here, or known in an earlier state."""
        return [each for each in map(self._difference, traces) if each is not None]

    def attach(self, trace: Trace, repeats: Repeats) -> Difference | None:
        """Add what Stripe did for this operation. What is left is returned, and is for an operator. Raises NotRead."""
        try:
            left = self._transact(lambda session: self._make(session, trace, repeats))
            if left is not None:
                return left
            self._transact(lambda session: self._reconsider(session, trace))
            while self._one_step(trace):
                pass
            self._transact(lambda session: self._keep_keys(session, trace))
        except Unread as unread:
            raise NotRead(unread.why) from None
        return self._difference(trace)

    # Comparing.

    def _difference(self, trace: Trace) -> Difference | None:
        def step(session: Session) -> Difference | None:
            operation = operation_of(trace.operation_id)
            row = session.get(operation.table, trace.operation_id)
            if row is None:
                if shown_invoices.is_worthless(trace.operation_id, trace.shown):
                    return None
                taken = shown_rows.is_taken(session, trace.operation_id, trace.account, trace.shown)
                return Difference(trace.operation_id, TAKEN if taken else UNKNOWN)
            if row.life.is_final(row.state):
                return Difference(trace.operation_id, CONTRADICTS) if shown_rows.ended_without_effect(row) else None
            keys = list(trace.keys.values())
            concluded = set(statements.run(session, SQL["concluded_keys"], keys=keys).scalars())
            return Difference(trace.operation_id, BEHIND) if set(keys) - concluded else None

        return self._transact(step)

    def _events(self, account: str | None) -> Iterator[Json]:
        created = {"gte": int(self._since.timestamp())}
        try:
            yield from self._readers(account).pages("/v1/events", {"types": list(EVENTS), "created": created})
        except Unread as unread:
            raise NotRead(unread.why) from None

    # Attaching.

    def _make(self, session: Session, trace: Trace, repeats: Repeats) -> Difference | None:
        """Its row, if there is none: of what Stripe shows, which is enough where money moved."""
        operation = operation_of(trace.operation_id)
        if session.get(operation.table, trace.operation_id) is not None:
            return None
        steps = [step for step, _ in trace.keys]
        made = shown_rows.made_of(session, trace.operation_id, trace.account, trace.shown, repeats, steps)
        if made is None:
            return Difference(trace.operation_id, UNKNOWN)
        row, asked = made
        if shown_rows.is_taken(session, trace.operation_id, trace.account, trace.shown):
            return Difference(trace.operation_id, TAKEN)
        row.version = statements.run(session, SQL["newest_version"], kind=operation.kind, id=row.id).scalar_one()
        requested = shown_rows.requested(row, self._actor, asked)
        session.add(row)
        session.flush()
        row_io.save(session, (), [requested])
        return None

    def _reconsider(self, session: Session, trace: Trace) -> None:
        """One that ended here without its effect, and has a call at Stripe, is set back: then it is looked at."""
        loaded = self._load(session, trace)
        if loaded.row.life.is_final(loaded.row.state) and loaded.open_record is None:
            operation_of(trace.operation_id).reconsider(session, loaded.row)
            row_io.save(session, [loaded.row])

    def _one_step(self, trace: Trace) -> bool:
        """Find whether the next step was done, and write it down if so. True: there may be another."""
        loaded, following = self._transact(lambda session: self._next(session, trace))
        if following is None:
            return False
        found = self._found(loaded, following.step, trace)
        # What was declined is not asked for again.
        declined = found.learned is Learned.DECLINED
        if found.learned not in EFFECT_IS_OURS and not declined:
            return self._transact(lambda session: shown_invoices.bring_parts(session, loaded, found.data))

        def settle(session: Session) -> None:
            again, now = self._next(session, trace)
            if again.row.version != loaded.row.version or now is None or now.step.name != following.step.name:
                return  # a worker has looked meanwhile: what is next is seen anew
            record, at = now.record, database.now(session)
            record.learned, record.looked_at = found.learned, at
            if found.found_objects is not None:
                record.found_objects = list(found.found_objects)
            outcome = Learned.DECLINED if declined else Learned.SUCCEEDED
            conclude(again, record, now.step, outcome, found.data, found.why or RECOVERED, at)
            # What begins with that began before the restore, too; an e-mail of these is refused, and never sent again.
            again.begun += operation_of(again.row.id).begins(again, tuple(again.facts), self._call_settings)
            when_ended = operation_of(again.row.id).when_ended
            if when_ended is not None and again.row.life.is_final(again.row.state):
                when_ended(session, again)
            store.save_all(session, [Result(again, Standing.CONCLUDED, opened=record if now.new else None)])
            if now.new:
                row_io.insert_where_free(session, [record])

        self._transact(settle)
        return True

    def _found(self, loaded: LoadedOperation, step: Step, trace: Trace) -> LookResult:
        """By the event that our key caused, or else by a look. Raises NotRead."""
        shown = trace.left_by.get(step.name)
        if shown and step.judge is not None and step.judge(loaded, shown).learned is Learned.SUCCEEDED:
            return LookResult(Learned.FOUND_OURS, shown)
        found = step.look(loaded, self._readers(trace.account), self._gateway.livemode)
        if found.learned is Learned.LOOK_UNANSWERED:
            raise NotRead(found.why)
        return found

    def _load(self, session: Session, trace: Trace) -> LoadedOperation:
        operation = operation_of(trace.operation_id)
        rows = statements.run(session, SQL["work_of"], ids=[trace.operation_id])
        work = {row.entity_id: row.id for row in rows}
        wanted = (work.get(trace.operation_id, ""), operation.contracts[0].queue)
        return store.load(session, operation, {trace.operation_id: wanted})[trace.operation_id]

    def _next(self, session: Session, trace: Trace) -> "tuple[LoadedOperation, _Next | None]":
        """The operation as it stands, and the step that is next by its row's state, with the record of its call. None:
        nothing is next, or a worker or an operator has it."""
        loaded, now = self._load(session, trace), database.now(session)
        operation, record = operation_of(loaded.row.id), loaded.open_record
        if loaded.in_conflict or (record is not None and record.state not in _OPEN):
            return loaded, None
        if record is not None:
            busy = lease_alive(record, now)
            return loaded, None if busy else _Next(operation.steps(record.step), record, new=False)
        following = operation.next_step(loaded)
        if following is None:
            return loaded, None
        record = plan(loaded, following, self._call_settings)
        _as_sent(record, trace, self._since, now)
        return loaded, _Next(following, record, new=True)

    def _keep_keys(self, session: Session, trace: Trace) -> None:
        """Our other calls that Stripe shows, for steps that are over: no later call may get one of these keys."""
        loaded = self._load(session, trace)
        following = operation_of(trace.operation_id).next_step(loaded)
        known = {record.key for record in loaded.records}
        now, kept = database.now(session), []
        for (step, generation), key in trace.keys.items():
            if key in known or (following is not None and step == following.name):
                continue
            kept.append(_forgotten(loaded, step, generation, key, self._call_settings, self._since, now))
        if kept:
            row_io.insert_where_free(session, kept)


@dataclass(frozen=True, slots=True)
class _Next:
    step: Step
    record: Record
    new: bool


def _as_sent(record: Record, trace: Trace, since: datetime, now: datetime) -> None:
    """The record of a call that was forgotten: under the key that Stripe shows, if it shows one of this step."""
    shown = [generation for step, generation in trace.keys if step == record.step]
    if shown:
        record.generation = max(shown)
        record.key = trace.keys[(record.step, record.generation)]
    record.first_sent_at, record.last_prepared_at, record.sends = since, now, 1


def _forgotten(
    loaded: LoadedOperation,
    step: str,
    generation: int,
    key: str,
    settings: CallSettings,
    since: datetime,
    now: datetime,
) -> Record:
    return Record(
        id=ids.new("rec"),
        operation_id=loaded.row.id,
        step=step,
        generation=generation,
        work_id=loaded.work_id,
        queue=loaded.queue,
        key=key,
        method="POST",
        path="",
        body="",
        account=loaded.row.account,
        livemode=settings.livemode,
        api_version=settings.api_version,
        state=RecordState.ANSWERED,
        learned=Learned.FOUND_OURS,
        sends=1,
        request_ids=[],
        first_sent_at=since,
        conclusion=RECOVERED,
        concluded_at=now,
    )


def _object_of(event: Json, operation: Operation, step: str) -> Json | None:
    """The object that the event is about, if it is of a kind that this operation has, and this step of it changes."""
    data = event.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    # The void of a credit note changes its invoice, too, which does not say which note it was.
    kinds = {"cn"} if step == CALLS[VOID_CREDIT_NOTE].name else operation.found_by.keys()
    if not isinstance(subject, Mapping) or str(subject.get("id")).partition("_")[0] not in kinds:
        return None
    return subject
