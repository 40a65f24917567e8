"""Switches that were pulled or released after the backup, by what their facts tell, once these are back.

One stopped money for a reason, so it is pulled again before anything may be sent. The words of the reason are not in
the archive.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from billing import database, row_io, statements, switches
from billing.audit import SERVICE
from billing.errors import InvalidText
from billing.facts import new_fact
from billing.scopes import account_of, known_scope
from billing.states import SwitchState, set_state
from billing.tables.entities import Switch

SQL = statements.beside(__file__)

REASON = "pulled before the restore; its reason was not archived (billing audit)"
PULLED_SINCE = "pulled again since the restore"


def behind(session: Session, since: datetime) -> list[str]:
    """Switches of which facts since then tell more than their rows."""
    return list(dict.fromkeys(row.entity_id for row in statements.run(session, SQL["behind"], since=since)))


def bring_back(session: Session, since: datetime, actor: str) -> int:
    """Make them as their facts tell. Returns how many were changed; one whose scope is not known here stays as it is.

    Waits for transactions that prepare calls, as a pull does.
    """
    stories = defaultdict[str, list[Row[Any]]](list)
    for row in statements.run(session, SQL["behind"], since=since):
        stories[row.entity_id].append(row)
    changed = 0
    for switch_id, story in stories.items():
        switch = session.get(Switch, switch_id, with_for_update=True) or _made(switch_id, story[0])
        if switch is not None:
            _tell(session, switch, story, actor)
            changed += 1
    return changed


def _made(switch_id: str, first: Row[Any]) -> Switch | None:
    """None if the facts do not begin with a pull, or its scope is none of ours."""
    scope = first.payload.get("scope")
    try:
        known = isinstance(scope, str) and known_scope(scope) == scope
    except InvalidText:
        known = False
    if first.topic != "switch.pulled" or first.entity_version != 1 or not known:
        return None
    return Switch(
        id=switch_id,
        scope=scope,
        account=account_of(str(scope)),
        state=SwitchState.PULLED,
        actor=first.actor,
        reason=REASON,
        probes=first.payload.get("probes") is True,
        pulled_at=first.happened_at,
        state_since=first.happened_at,
        version=0,
    )


def _tell(session: Session, switch: Switch, story: Sequence[Row[Any]], actor: str) -> None:
    statements.run(session, switches.SQL["lock"], scopes=[switch.scope])
    now = database.now(session)
    for fact in story:
        switch.version = fact.entity_version
        if fact.topic == "switch.pulled":
            switch.actor, switch.probes = fact.actor, fact.payload.get("probes") is True
            ends = fact.payload.get("expires_at")
            switch.expires_at = datetime.fromisoformat(ends) if isinstance(ends, str) else None
        elif fact.topic == "switch.released":
            set_state(switch, SwitchState.RELEASED)
            switch.state_since = fact.happened_at
            rate = fact.payload.get("per_hour")
            switch.release_per_hour, switch.release_next_at = (rate, now) if type(rate) is int else (None, None)
    others = select(Switch).where(Switch.scope == switch.scope, Switch.state == SwitchState.PULLED)
    other = session.scalars(others.where(Switch.id != switch.id).with_for_update()).one_or_none()
    if switch.state == SwitchState.PULLED and other is not None:
        # One scope is pulled once. What a person has pulled stays, and not what the service has pulled by itself.
        _end(session, other if other.actor == SERVICE else switch, now, actor)
    session.add(switch)
    session.flush()


def _end(session: Session, switch: Switch, now: datetime, actor: str) -> None:
    set_state(switch, SwitchState.RELEASED)
    switch.state_since = now
    row_io.save(session, (), [new_fact(switch, "released", actor=actor, scope=switch.scope, reason=PULLED_SINCE)])
    session.flush()
