"""Switches: as soon as a pulled switch is committed, no new call is prepared in its scope."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from billing import database, ids, row_io, statements
from billing.errors import InvalidText, UnknownEntity
from billing.facts import new_fact
from billing.operations import OPERATIONS
from billing.provider_ids import provider_id
from billing.registration import Operation
from billing.states import RecordState, SwitchState, set_state
from billing.tables.entities import Switch
from billing.tables.idempotency_records import Record
from billing.texts import plain_text

SQL = statements.beside(__file__)

EVERYTHING = "everything"
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


def scopes_of(operation: Operation, account: str | None) -> list[str]:
    """The scopes of an operation of this kind and account, in the order in which they are locked."""
    return sorted([EVERYTHING, operation.scope, f"account:{account or 'own'}"]) if operation.scope else []


def known_scope(scope: str) -> str:
    """The scope, if it is `everything`, `captures`, `invoices` or `account:<id>`; else InvalidText.

    `account:own` is the account that our own key belongs to.
    """
    kinds = _prefixes_by_scope()
    if scope == EVERYTHING or scope in kinds or scope == "account:own":
        return scope
    if scope.startswith("account:"):
        provider_id("account", scope.removeprefix("account:"))
        return scope
    raise InvalidText("scope", f"must be everything, {', '.join(kinds)} or account:<id>")


def _prefixes_by_scope() -> dict[str, list[str]]:
    """Scope -> the prefixes of the ids of all operations that its switch stops."""
    found: dict[str, list[str]] = {}
    for operation in OPERATIONS.values():
        if operation.scope is not None:
            found.setdefault(operation.scope, []).append(f"{operation.prefix}_")
    return found


def pull(session: Session, scope: str, *, actor: str, reason: str, probes: bool = False) -> Switch:
    """As `pull_once`, for whoever need not know which pull it was."""
    return pull_once(session, scope, actor=actor, reason=reason, probes=probes).switch


def pull_once(session: Session, scope: str, *, actor: str, reason: str, probes: bool = False) -> Pulled:
    """Pull the switch of a scope; pulling it twice returns the first. The fact names actor and reason.

    An operator who pulls a switch that the system pulled takes it over: no probe releases it any more.

    Takes the scope's lock exclusively, and so waits for transactions that are preparing calls. Calls that were prepared
    before may still be sent; none is prepared afterwards. `probes`: the system pulls it, and a successful probe
    releases it.
    """
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    statements.run(session, SQL["lock"], scope=known_scope(scope))
    account = scope.removeprefix("account:") if scope.startswith("account:") and scope != "account:own" else None
    while True:
        row = Switch(id=ids.new("swi"), scope=scope, account=account)
        written = session.scalar(
            insert(Switch)
            .values(id=row.id, scope=scope, account=account, actor=actor, reason=reason, probes=probes, version=1)
            .on_conflict_do_nothing()
            .returning(Switch.id)
        )
        if written is not None:
            pulled = new_fact(row, "pulled", actor=actor, scope=scope, reason=reason, probes=probes, account=account)
            row_io.save(session, (), [pulled])
            return Pulled(session.get_one(Switch, row.id), changed=True)
        held = select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
        first = session.scalars(held).one_or_none()
        if first is None:
            continue  # a probe has just released it
        if first.probes and not probes:
            first.probes, first.actor, first.reason = False, actor, reason
            row_io.save(session, (), [new_fact(first, "pulled", actor=actor, scope=scope, reason=reason, probes=False)])
            session.flush()
            return Pulled(first, changed=True)
        return Pulled(first, changed=False)


def release(session: Session, scope: str, *, actor: str, reason: str) -> Switch:
    """Release the switch of a scope. Raises UnknownEntity when it is not pulled."""
    reason, actor = plain_text("reason", reason, 500), plain_text("actor", actor, 255)
    statements.run(session, SQL["lock"], scope=scope)
    row = session.scalars(
        select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownEntity(scope)
    set_state(row, SwitchState.RELEASED)
    row.state_since = database.now(session)
    row_io.save(session, (), [new_fact(row, "released", actor=actor, scope=scope, reason=reason)])
    session.flush()
    return row


def lock_and_read_pulled(session: Session, scopes: Collection[str]) -> dict[str, str]:
    """Lock these scopes until the transaction ends; return those whose switch is pulled, with their reasons.

    The locks are advisory and shared: any number of workers may hold them, and `pull` waits until all have committed.
    The switches are read in a second statement, which sees a switch that was committed while the first waited (read
    committed). Scopes are locked in sorted order, and no transaction upgrades a shared lock, so there is no deadlock.
    """
    names = sorted(scopes)
    statements.run(session, SQL["lock_shared"], scopes=names)
    return {row.scope: row.reason or "" for row in statements.run(session, SQL["pulled"], scopes=names)}


def unanswered(session: Session, scope: str) -> Unanswered:
    """The calls of this scope that may have an effect which is not known here yet."""
    mine = [Record.concluded_at.is_(None), Record.method != "GET", _within(known_scope(scope))]
    counts = session.execute(select(Record.state, func.count()).where(*mine).group_by(Record.state))
    counted = {state: count for state, count in counts}  # noqa: C416 - rows are no pairs to the type checker
    rows = session.execute(
        select(Record.operation_id, Record.step, Record.lease_until)
        .where(*mine, Record.state == RecordState.SENT)
        .order_by(Record.lease_until, Record.id)
        .limit(LISTED)
    )
    return Unanswered(
        in_flight=counted.get(RecordState.SENT, 0),
        in_doubt=counted.get(RecordState.IN_DOUBT, 0),
        calls=[(operation_id, step, until) for operation_id, step, until in rows],
    )


def _within(scope: str) -> ColumnElement[bool]:
    """Whether a record's operation is in this scope."""
    kinds = {
        kind: or_(*(Record.operation_id.startswith(prefix, autoescape=True) for prefix in prefixes))
        for kind, prefixes in _prefixes_by_scope().items()
    }
    if scope in kinds:
        return kinds[scope]
    any_kind = or_(*kinds.values())
    if scope == EVERYTHING:
        return any_kind
    account = scope.removeprefix("account:")
    return any_kind & (Record.account.is_(None) if account == "own" else Record.account == account)
