"""Commands as facts: who changed what, why and how much, written before the change or together with it.

A change in Postgres and its `command.done` are one transaction. A change elsewhere (a bucket, or a migration, which
commits on its way) is recorded twice: `command.begun` is committed before it, and `command.done` or `command.failed`
after it. If only the first is there, the command died in between, or still runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from billing import ids, row_io
from billing.errors import InvalidText
from billing.facts import COMMAND, PAYLOAD_TEXT, UnreadablePayload, new_command_fact, read_payload
from billing.tables.facts import Fact
from billing.texts import plain_text

OF_THIS_SHELL = "shell:"
"""How an actor begins who was not named: `shell:anna` is the operating system's user."""
SERVICE = "billing"
"""The actor of what the service does by itself."""

_FIRST, _LAST = 1, 2
"""A command has one or two facts, numbered as an entity's."""
_CLOCKS_DIFFER = timedelta(days=1)
"""An id has the time of the machine that made it; when a fact was written is said by the database."""


@dataclass(frozen=True, slots=True)
class Command:
    """One call of a command that changes something. `name` is what was typed, without arguments: `switch pull`."""

    name: str
    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """One command, as its facts say.

    `about`: the id, scope, bucket or revision that it changed. `count`: how many things. `outcome`: `done`, `failed`,
    or `begun` where no fact says how it ended. `error`: the class of the error that it failed with.
    """

    id: str
    at: datetime
    actor: str
    command: str
    about: str
    count: int | None
    reason: str | None
    outcome: str
    ended_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which commands are listed; what is None is not asked for. `since` is included."""

    since: datetime | None = None
    actor: str | None = None
    command: str | None = None
    about: str | None = None


def named(actor: str, subject: str = "actor") -> str:
    """The name that a person gave, as it is stored. Raises InvalidText, also for what stands for somebody unnamed."""
    name = plain_text(subject, actor, 255).strip()
    if name.casefold() == SERVICE or name.casefold().startswith(OF_THIS_SHELL):
        raise InvalidText(subject, f"must name who does it; {SERVICE!r} and {OF_THIS_SHELL}... stand for nobody")
    return name


def command(name: str, *, actor: str, reason: str | None = None) -> Command:
    """A command, with its texts as they are stored. Raises InvalidText."""
    stored = None if reason is None else plain_text("reason", reason, 500)
    return Command(name, plain_text("actor", actor, 255), stored)


def done(session: Session, by: Command, *, about: str, count: int = 1) -> None:
    """Record a command whose change is in this transaction: both are committed, or neither."""
    _write(session, new_command_fact(ids.new("cmd"), _FIRST, "done", actor=by.actor, **_what(by, about, count)))


@contextmanager
def around(
    transact: Callable[[Callable[[Session], None]], None], by: Command, *, about: str, count: int = 1
) -> Iterator[None]:
    """Record a command whose change is outside of one transaction: that it begins, and how it ended.

    `transact` runs a function in a transaction of its own. Nothing is changed where the first fact cannot be written.
    Of an interrupted command no end is recorded: how far it came is not known.
    """
    command_id = ids.new("cmd")
    begun = _what(by, about, count)
    transact(lambda session: _write(session, new_command_fact(command_id, _FIRST, "begun", actor=by.actor, **begun)))
    try:
        yield
    except Exception as error:
        # The class alone: a message may quote a row, an answer or a URL.
        why = {"error": type(error).__name__}
        with suppress(SQLAlchemyError):
            transact(lambda session: _write(session, new_command_fact(command_id, _LAST, "failed", by.actor, **why)))
        raise
    transact(lambda session: _write(session, new_command_fact(command_id, _LAST, "done", by.actor)))


def listed(session: Session, wanted: Wanted, most: int) -> list[Audited]:
    """The newest first. An application writes facts with its own login, so nothing in them is trusted to be ours."""
    firsts = session.execute(_firsts(wanted).limit(most)).all()
    lasts = {row.entity_id: row for row in session.execute(_lasts([row.entity_id for row in firsts]))}
    return [_audited(row, lasts.get(row.entity_id)) for row in firsts]


def _what(by: Command, about: str, count: int) -> dict[str, Any]:
    return {"command": by.name, "about": about, "count": count} | ({"reason": by.reason} if by.reason else {})


def _write(session: Session, fact: Fact) -> None:
    row_io.save(session, (), [fact])


_COLUMNS = (Fact.entity_id, Fact.topic, Fact.happened_at, Fact.actor, PAYLOAD_TEXT)


def _firsts(wanted: Wanted) -> Select[Any]:
    # Along the index of the facts' numbers, backwards: the ids begin with their time.
    query = select(*_COLUMNS).where(Fact.entity_type == COMMAND, Fact.entity_version == _FIRST)
    if wanted.since is not None:
        oldest = ids.first("cmd", wanted.since - _CLOCKS_DIFFER)
        query = query.where(Fact.happened_at >= wanted.since, Fact.entity_id >= oldest)
    if wanted.actor is not None:
        query = query.where(Fact.actor == wanted.actor)
    for name in ("command", "about"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(Fact.payload[name].astext == value)
    return query.order_by(Fact.entity_id.desc())


def _lasts(command_ids: list[str]) -> Select[Any]:
    mine = (Fact.entity_type == COMMAND, Fact.entity_id.in_(command_ids), Fact.entity_version == _LAST)
    return select(*_COLUMNS).where(*mine)


def _audited(first: Row[Any], last: Row[Any] | None) -> Audited:
    payload = _payload(first)
    end = first if last is None else last
    outcome = end.topic.partition(".")[2]
    count, reason = payload.get("count"), payload.get("reason")
    return Audited(
        id=first.entity_id,
        at=first.happened_at,
        actor=first.actor,
        command=str(payload.get("command", "")),
        about=str(payload.get("about", "")),
        count=count if type(count) is int else None,
        reason=None if reason is None else str(reason),
        outcome=outcome,
        ended_at=None if outcome == "begun" else end.happened_at,
        error=None if last is None else _error(_payload(last)),
    )


def _error(payload: dict[str, Any]) -> str | None:
    error = payload.get("error")
    return None if error is None else str(error)


def _payload(row: Row[Any]) -> dict[str, Any]:
    try:
        return read_payload(row.payload_text)
    except UnreadablePayload as error:
        return {"command": f"unreadable: {error}"}
