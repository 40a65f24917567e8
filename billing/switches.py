"""Brakes: once a switch has committed, nothing new is prepared in its scope."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.orm import Session

from billing import ids
from billing.errors import InvalidText, UnknownEntity
from billing.facts import told
from billing.money import opaque_id, plain_text
from billing.tables import Record, RecordState, Switch, SwitchState

EVERYTHING = "everything"
KINDS = ("captures", "invoices")


def scopes_of(kind: str, account: str | None) -> list[str]:
    """The scopes that an operation of this kind and account stands in, in the order in which they are locked."""
    return sorted([EVERYTHING, kind, f"account:{account or 'own'}"])


def known_scope(scope: str) -> str:
    """The scope, if it is `everything`, `captures`, `invoices` or `account:<id>`; else InvalidText.

    `account:own` is the account that our own key belongs to.
    """
    if scope == EVERYTHING or scope in KINDS:
        return scope
    if scope.startswith("account:") and len(scope) > len("account:"):
        return opaque_id("scope", scope, 300)
    raise InvalidText(f"scope must be everything, {', '.join(KINDS)} or account:<id>, not {scope!r}")


def pull(session: Session, scope: str, *, actor: str, reason: str, probes: bool = False) -> Switch:
    """Pull the brake of a scope; pulling it twice returns the first. The fact names actor and reason.

    A person who pulls what the system pulled takes it over: no probe releases it any more.

    Takes the scope's lock exclusively, and so waits for transactions that are preparing calls: what was
    prepared before may still be called, what comes after is not prepared. `probes`: the system pulled it,
    and a successful probe of the provider releases it.
    """
    plain_text("reason", reason, 500)
    plain_text("actor", actor, 255)
    session.execute(_LOCK, {"scope": known_scope(scope)})
    row = Switch(id=ids.new("swi"), scope=scope, version=0)
    written = session.scalar(
        insert(Switch)
        .values(id=row.id, scope=scope, actor=actor, reason=reason, probes=probes, version=1)
        .on_conflict_do_nothing()
        .returning(Switch.id)
    )
    if written is None:
        held = select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
        first = session.scalars(held).one()
        if first.probes and not probes:
            first.probes, first.actor, first.reason = False, actor, reason
            session.add(told(first, "pulled", actor=actor, scope=scope, reason=reason, probes=False))
            session.flush()
        return first
    session.add(told(row, "pulled", actor=actor, scope=scope, reason=reason, probes=probes))
    session.flush()
    return session.get_one(Switch, row.id)


def release(session: Session, scope: str, *, actor: str, reason: str) -> Switch:
    """Release the brake of a scope. Raises UnknownEntity when it is not pulled."""
    plain_text("reason", reason, 500)
    plain_text("actor", actor, 255)
    session.execute(_LOCK, {"scope": scope})
    row = session.scalars(
        select(Switch).where(Switch.scope == scope, Switch.state == SwitchState.PULLED).with_for_update()
    ).one_or_none()
    if row is None:
        raise UnknownEntity(scope)
    row.state, row.state_since = SwitchState.RELEASED, func.now()
    session.add(told(row, "released", actor=actor, scope=scope, reason=reason))
    session.flush()
    return row


def pulled(session: Session, scopes: Collection[str]) -> dict[str, str]:
    """The pulled ones among these scopes, with their reasons; taking every scope's lock shared first.

    The switches are read in a statement after the locks, so that a switch which committed while we waited
    is seen (read committed). Scopes are locked in sorted order; nobody upgrades shared to exclusive.
    """
    names = {"scopes": sorted(scopes)}
    session.execute(_LOCK_SHARED, names)
    return {scope: reason or "" for scope, reason in session.execute(_PULLED, names)}


def unanswered(session: Session) -> list[tuple[str, str, datetime | None]]:
    """Calls still in the air when a switch is pulled: (operation, step, when its lease ends)."""
    rows = session.execute(
        select(Record.operation_id, Record.step, Record.lease_until)
        .where(Record.concluded_at.is_(None), Record.state == RecordState.SENT)
        .order_by(Record.lease_until)
        .limit(1000)
    )
    return [(operation_id, step, until) for operation_id, step, until in rows]


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('billing.switch:' || :scope, 0))")
_LOCK_SHARED = text(
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('billing.switch:' || scope, 0))"
    "  FROM unnest(CAST(:scopes AS text[])) WITH ORDINALITY AS s (scope, place) ORDER BY place"
)
_PULLED = select(Switch.scope, Switch.reason).where(
    Switch.state == SwitchState.PULLED, Switch.scope == func.any(bindparam("scopes", type_=ARRAY(TEXT)))
)
