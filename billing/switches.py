"""Switches: as soon as a pulled switch is committed, no new call is prepared in its scope."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import database, ids, row_io, statements
from billing.errors import InvalidText, StillRestored, UnknownEntity
from billing.facts import new_fact
from billing.gateway import NotSent
from billing.operation_rows import STOPPABLE
from billing.scopes import EVERYTHING, account_of, known_scope
from billing.states import RecordState, SwitchState, set_state
from billing.tables.entities import Switch
from billing.texts import plain_text

SQL = statements.beside(__file__, stoppable=STOPPABLE)

EXPIRED = "expired"
"""The reason with which the service records that a switch is released because its time is over."""
TAKEN_BACK = NotSent("taken back, because a switch was pulled")
"""The report of a call that was prepared, and taken back before anything of it was sent."""
LISTED = 1000
"""A receipt lists at most this many calls, and counts all of them."""


class Pulled(NamedTuple):
    """A pulled switch, and whether this call changed it: else it was pulled before, and stays as it was."""

    switch: Switch
    changed: bool


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What a switch cannot stop any more. `calls` are those in flight, at most `LISTED` of them:
    (operation, step, when its lease ends)."""

    in_flight: int
    """Prepared before the pull: sent now, or sent by a worker that has died since."""
    in_doubt: int
    """Sent, without an answer that says what happened: looked at, and not sent again while the switch is pulled."""
    calls: list[tuple[str, str, datetime | None]]


@dataclass(slots=True)
class Stopped:
    """What a pulled switch holds, or will hold before it is sent. `minor`: the amount by currency, in minor units."""

    operations: int = 0
    minor: dict[str, int] = field(default_factory=dict)


def pull(session: Session, scope: str, *, actor: str, reason: str, probes: bool = False) -> Switch:
    """As `pull_once`, for callers that do not need to know whether the switch was pulled before."""
    return pull_once(session, scope, actor=actor, reason=reason, probes=probes).switch


def pull_once(
    session: Session,
    scope: str,
    *,
    actor: str,
    reason: str,
    probes: bool = False,
    expires_at: datetime | None = None,
) -> Pulled:
    """Pull the switch of a scope; pulling it twice returns the first. The fact names actor and reason.

    An operator who pulls a switch that the system pulled takes it over: no probe releases it any more. So does one who
    pulls it for longer than before. A pull for a shorter time changes nothing: the first operator relies on it.
    `expires_at`: it counts as released from then on; None: never. Raises InvalidText if that is in the past.

    Takes the locks of its scope and of everything exclusively, and so waits for transactions that are preparing calls.
    That of everything, because work of an older version does not name all scopes in which it stands. Calls that were
    prepared before may still be sent; none is prepared afterwards. `probes`: the system pulls it, and a successful
    probe releases it.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    statements.run(session, SQL["lock"], scopes=sorted({EVERYTHING, known_scope(scope)}))
    account, now = account_of(scope), database.now(session)
    if expires_at is not None and expires_at <= now:
        raise InvalidText("expires", "must be in the future")
    pulled: dict[str, Any] = {"scope": scope, "reason": reason, "probes": probes}
    if expires_at is not None:
        pulled["expires_at"] = expires_at.isoformat()
    while True:
        row = Switch(id=ids.new("swi"), scope=scope, account=account)
        written = session.scalar(
            insert(Switch)
            .values(
                id=row.id,
                scope=scope,
                account=account,
                actor=actor,
                reason=reason,
                probes=probes,
                expires_at=expires_at,
                version=1,
            )
            .on_conflict_do_nothing()
            .returning(Switch.id)
        )
        if written is not None:
            row_io.save(session, (), [new_fact(row, "pulled", actor=actor, account=account, **pulled)])
            statements.run(session, SQL["end_rates"], scope=scope)
            return Pulled(session.get_one(Switch, row.id), changed=True)
        held = select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
        first = session.scalars(held).one_or_none()
        if first is None:
            continue  # a probe has just released it
        if first.expires_at is not None and first.expires_at <= now:
            _record_release(session, first, now, actor="billing", reason=EXPIRED)
            continue
        longer = first.expires_at is not None and (expires_at is None or expires_at > first.expires_at)
        if not probes and (first.probes or longer):
            first.probes, first.actor, first.reason, first.expires_at = False, actor, reason, expires_at
            row_io.save(session, (), [new_fact(first, "pulled", actor=actor, **pulled)])
            session.flush()
            return Pulled(first, changed=True)
        return Pulled(first, changed=False)


def release(session: Session, scope: str, *, actor: str, reason: str, per_hour: int | None = None) -> Switch:
    """Release the switch of a scope. `per_hour`: the rate at which held work continues; None: all at once. New work is
    not held. Raises UnknownEntity when it is not pulled, and StillRestored for everything in a restored database."""
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    statements.run(session, SQL["lock"], scopes=[scope])
    if scope == EVERYTHING and statements.run(session, SQL["restored"]).scalar_one():
        raise StillRestored
    row = session.scalars(
        select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownEntity(scope)
    _record_release(session, row, database.now(session), actor=actor, reason=reason, per_hour=per_hour)
    return row


def release_expired(session: Session, most: int) -> int:
    """Record that up to `most` switches are released because their time is over. Returns how many.

    It takes no lock of a scope: workers have ignored these switches since their time was over.
    """
    over = select(Switch).where(Switch.state == SwitchState.PULLED, Switch.expires_at <= func.clock_timestamp())
    rows = session.scalars(over.order_by(Switch.id).limit(most).with_for_update(skip_locked=True)).all()
    for row in rows:
        _record_release(session, row, database.now(session), actor="billing", reason=EXPIRED)
    return len(rows)


def _record_release(
    session: Session, row: Switch, now: datetime, *, actor: str, reason: str, per_hour: int | None = None
) -> None:
    set_state(row, SwitchState.RELEASED)
    row.state_since = now
    rate: dict[str, Any] = {}
    if per_hour is not None:
        row.release_per_hour, row.release_next_at = per_hour, now
        rate["per_hour"] = per_hour
    row_io.save(session, (), [new_fact(row, "released", actor=actor, scope=row.scope, reason=reason, **rate)])
    session.flush()


def lock_and_read_pulled(session: Session, scopes: Collection[str]) -> dict[str, str]:
    """Lock these scopes until the transaction ends; return the pulled switches that may stop work in them, as scope ->
    reason. Of accounts these are only the given ones, because a switch may be pulled for each of thousands.

    The locks are advisory and shared: any number of workers may hold them, and `pull` waits until all have committed.
    The switches are read in a second statement, which sees a switch that was committed while the first waited (read
    committed). Scopes are locked in sorted order, and no transaction upgrades a shared lock, so there is no deadlock.
    """
    names = sorted(scopes)
    statements.run(session, SQL["lock_shared"], scopes=names)
    return {row.scope: row.reason or "" for row in statements.run(session, SQL["pulled"], scopes=names)}


def stopped_by_now(session: Session, work_ids: Collection[str]) -> set[str]:
    """Which of this work a pulled switch stops now. A worker has named all its scopes when it prepared the call."""
    return set(statements.run(session, SQL["stopped_by_now"], ids=list(work_ids)).scalars())


def taken_back(session: Session, scope: str, since: datetime) -> list[tuple[str, str]]:
    """Calls of this scope that were taken back since then, and not made since: (operation, step), at most `LISTED`."""
    values = {"scope": known_scope(scope), "since": since, "why": TAKEN_BACK.why, "most": LISTED}
    return [(row.operation_id, row.step) for row in statements.run(session, SQL["taken_back"], **values)]


def unanswered(session: Session, scope: str) -> Unanswered:
    """The calls of this scope that may have an effect which is not known here yet."""
    counted: dict[str, int] = {}
    calls = []
    for row in statements.run(session, SQL["unanswered"], scope=known_scope(scope), most=LISTED):
        counted[row.state] = row.of_state
        if row.state == RecordState.SENT:
            calls.append((row.operation_id, row.step, row.lease_until))
    return Unanswered(counted.get(RecordState.SENT, 0), counted.get(RecordState.IN_DOUBT, 0), calls)


def stopped(session: Session, scopes: Collection[str], *, only_held: bool = False) -> dict[str, Stopped]:
    """By scope, the work that a pulled switch holds, or will hold before it is sent. Calls in flight are not counted.
    `only_held`: what is held now.

    It reads all work that is held, ready or due later: with a million pieces it may exceed the statement timeout, and
    then raises as Postgres does (`database.TOO_SLOW`).
    """
    found = {scope: Stopped() for scope in scopes}
    for row in statements.run(session, SQL["stopped"], scopes=list(scopes), only_held=only_held):
        found[row.scope].operations += row.operations
        if row.currency is not None:  # a run is not about money
            found[row.scope].minor[row.currency] = int(row.minor)
    return found
