"""A dry run of a replay: the worker's own code, in a transaction that is rolled back.

    replay → claim → start → [a look at Stripe → finish → claim → start]... → rolled back

Nothing is locked while Stripe is looked at. Such a call ends the transaction, too, and is made then; the next one does
the same again, up to the next call, with what the looks have brought so far. A dry run ends at the first call that
would change something at Stripe, or where nothing is to be done now.

To carry out an approved plan is the same, but the last transaction is committed if it comes to that plan. With its
commit the call has a lease, so that no other worker makes it, and this process makes it. Between a look and the commit
nobody can have called unnoticed: each call raises the fence of its record, which is compared.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from billing import store
from billing.calls import Call, Report
from billing.database import Transact
from billing.errors import BillingError, InvalidRequest, UnknownEntity
from billing.gateway import Budget, Gateway, Response, boot_clock
from billing.operations import operation_of
from billing.steps import LoadedOperation, LookResult
from billing.tables.work import Work
from jobs.road import plans, quarantine, settling, work_queue
from jobs.road.contracts import known
from jobs.road.piece import Piece
from jobs.road.plans import Plan, PlanChanged
from jobs.road.refusing_gateways import OnlyPlanned, ReadOnly
from jobs.road.runner import Outcome, Runner, make_call
from jobs.road.shift import Control, Shift
from jobs.road.verdicts import Failure, classify

T = TypeVar("T")
LOOKS_MOST = 20
"""A replay needs one look, or two; an invoice with drafts that were left behind some more."""


TRIES = 3
"""How often a dry run is made if another process changes the work on its way."""


class NotAWorker(BillingError):
    """This login has not the rights of a worker, and a dry run does what a worker does."""

    def __init__(self) -> None:
        super().__init__(
            "a dry run does what a worker does, and rolls it back, so it needs a worker's DATABASE_URL and "
            "BILLING_STRIPE_KEY; run it where a worker runs (docs/operate/quarantine.md)"
        )


class ChangedMeanwhile(BillingError):
    """Another process changed the work during the dry run: a look of a worker is the usual reason."""

    def __init__(self, work_id: str) -> None:
        super().__init__(f"{work_id} was changed by another process during the dry run; nothing was done, run it again")


@dataclass(frozen=True, slots=True)
class _Played:
    """What one transaction came to. `call` is that at which it ended: None if nothing is to be done now. `began_at`: by
    the boot clock, before the call was prepared."""

    plan: Plan
    call: Call | None
    began_at: float


class _RolledBack(Exception):
    def __init__(self, played: _Played) -> None:
        super().__init__()
        self.played = played


def refuse_unless_worker(session: Session) -> None:
    """Raise NotAWorker for a login that cannot lease a call."""
    if not session.scalar(text("SELECT has_column_privilege('billing.idempotency_records', 'lease_until', 'UPDATE')")):
        raise NotAWorker


class DryRun:
    """Plans replays of work in quarantine, and carries out those that are approved. `actor` and `reason` as `replay`.

    `runner` is a worker's; `gateways` gives the gateway of a queue's workers, once it is needed.
    """

    def __init__(
        self, runner: Runner, gateways: Callable[[str], Gateway], transact: Transact, *, actor: str, reason: str
    ) -> None:
        self._runner, self._gateways, self._transact = runner, gateways, transact
        self._actor, self._reason = actor, reason

    def plan(self, work_id: str) -> Plan:
        """What a replay of this work would do now. Nothing is changed, here or at Stripe.

        Raises as `quarantine.replay` does, InvalidRequest if Stripe does not accept our key, and ChangedMeanwhile.
        """

        def roll_back(played: _Played) -> None:
            raise _RolledBack(played)

        try:
            self._rehearse(work_id, self._transact, roll_back)
        except _RolledBack as ended:
            return ended.played.plan
        raise AssertionError("it is rolled back")

    def carry_out(self, work_id: str, approved: str, engine: Engine, commit: Transact) -> Plan:
        """Do what the plan with this id says, in one transaction by `commit`, and make its call. What comes after that
        call is left to a worker.

        Raises PlanChanged if anything else would be done now, and as `plan`: then nothing was done.
        """

        def refuse_another(played: _Played) -> None:
            if played.plan.id != approved:
                raise PlanChanged(approved, played.plan.id)
            if played.call is not None:
                # Opened before the commit: a call that is leased and cannot be made would be in doubt.
                self._gateways(played.call.loaded.queue)

        done = self._rehearse(work_id, commit, refuse_another)
        if done.call is not None:
            queue = done.call.loaded.queue
            gateway = OnlyPlanned(self._gateways(queue), done.call.request)
            shift = Shift(engine, gateway, self._runner, queue, crew=1, slice_s=0, leave=sys.exit)
            shift.run(_ClaimsNothing(), (Outcome([done.call]), done.began_at))
        return done.plan

    def _rehearse(self, work_id: str, transact: Transact, end: Callable[[_Played], None]) -> _Played:
        """Play, again if another process is at it, and `end` it in the last transaction: it is committed unless that
        raises."""
        for _ in range(TRIES):
            with suppress(ChangedMeanwhile):
                return self._play_with_looks(work_id, transact, end)
        raise ChangedMeanwhile(work_id)

    def _play_with_looks(self, work_id: str, transact: Transact, end: Callable[[_Played], None]) -> _Played:
        looks: list[Report] = []

        def step(session: Session) -> _Played:
            played = self._play(session, work_id, looks)
            if played.call is not None and played.call.looking:
                raise _RolledBack(played)
            end(played)
            return played

        while len(looks) <= LOOKS_MOST:
            try:
                return transact(step)
            except _RolledBack as ended:
                call = ended.played.call
                if call is None or not call.looking:
                    raise
            looks.append(self._looked(call))
        raise InvalidRequest(work_id, f"needs more looks at Stripe than the {LOOKS_MOST} of a dry run")

    def _looked(self, call: Call) -> Report:
        over_at = boot_clock() + call.call_budget_s
        report = make_call(ReadOnly(self._gateways(call.loaded.queue)), call, Budget(over_at, over_at))
        found = report.came_back
        answer = found.answer if isinstance(found, LookResult) else None
        if isinstance(answer, Response) and answer.status in (401, 403):
            raise InvalidRequest("BILLING_STRIPE_KEY", f"is refused by Stripe ({answer.status}); nothing was planned")
        return report

    def _play(self, session: Session, work_id: str, looks: Sequence[Report]) -> _Played:
        """Put the work back and carry it out in this transaction, with these looks, until there is a call that is none
        of them."""
        began_at = boot_clock()
        before = plans.standing(*as_it_stands(session, work_id))
        replayed = quarantine.replay(session, work_id, actor=self._actor, reason=self._reason)
        left, made = iter(looks), []
        call: Call | None = None
        while call is None and (piece := _due(session, work_id)) is not None:
            call = self._start(session, piece)
            while call is not None and call.looking and (look := next(left, None)) is not None:
                made.append(_again(look, call))
                call = self._finish(session, made[-1])
        if next(left, None) is not None:
            raise ChangedMeanwhile(work_id)
        work, loaded = as_it_stands(session, work_id)
        then = plans.DEPENDS if call is not None else plans.what_then(work, loaded)
        request = call.request if call is not None else None
        shown = [plans.looked(each) for each in made]
        plan = plans.made(replayed, shown, (before, plans.standing(work, loaded)), request, then)
        return _Played(plan, call, began_at)

    def _start(self, session: Session, piece: Piece) -> Call | None:
        """As a shift does: what cannot be prepared goes back to quarantine."""
        try:
            # Not the session's own savepoint: its release counts as a commit, after which log lines are written.
            with session.connection().begin_nested():
                return _only(self._runner.start(session, [piece]))
        except Exception as error:
            if classify(error) is not Failure.DATA:
                raise
            self._runner.set_aside(session, [piece], error)
            return None

    def _finish(self, session: Session, report: Report) -> Call | None:
        """As a shift does: what cannot be settled is kept, and its work goes back to quarantine."""
        try:
            with session.connection().begin_nested():
                return _only(self._runner.finish(session, [report]))
        except Exception as error:
            if classify(error) is not Failure.DATA:
                raise
            settling.keep(session, report, error)
            return None


class _ClaimsNothing(Control):
    def stop_requested(self) -> bool:
        return True


def _due(session: Session, work_id: str) -> Piece | None:
    """This piece of work as a worker would claim it now; None if none would."""
    look = work_queue.is_due(session, work_id, known())
    if look is None:
        return None
    work = work_queue.locked(session, [work_id])[work_id]
    return Piece(work, operation_of(work.entity_id), look=look)


def as_it_stands(session: Session, work_id: str) -> tuple[Work, LoadedOperation]:
    """This work and its operation, locked, as they stand now. Raises UnknownEntity."""
    work = work_queue.locked(session, [work_id]).get(work_id)
    if work is None:
        raise UnknownEntity(work_id)
    operation = operation_of(work.entity_id)
    loaded = store.load(session, operation, {work.entity_id: (work.id, work.queue)}).get(work.entity_id)
    if loaded is None:
        raise UnknownEntity(work.entity_id)
    return work, loaded


def _only(outcome: Outcome) -> Call | None:
    return outcome.calls[0] if outcome.calls else None


def _again(look: Report, call: Call) -> Report:
    """The report of a look that was made before, for the same call prepared again. It shows what was true then."""
    if _identity(look.call) != _identity(call):
        raise ChangedMeanwhile(call.loaded.work_id)
    return replace(look, call=replace(call, prepared_at=look.call.prepared_at))


def _identity(call: Call) -> tuple[object, ...]:
    """A record that is made in the transaction has another id each time."""
    return plans.name_of(call), call.fence, call.looking, call.request
