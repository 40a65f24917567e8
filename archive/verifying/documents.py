"""Whether each stored document is in the bucket as Postgres and its fact say: there, with these bytes, locked, and
held if a legal hold needs it.

The bucket was listed before Postgres is asked, and the row of a document is older than its object. So an object without
a row is nobody's.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from archive.documents import stored
from archive.policy.retention import Lock
from archive.verifying.agreement import PAGE, Counts, held_documents
from archive.verifying.findings import Finding
from archive.verifying.inventory import Inventory
from archive.verifying.versions import Versions, Wanted
from billing.database import Transact
from billing.document_steps import STORED_AS
from billing.states import DocumentState
from billing.tables.documents import Document
from billing.tables.facts import Fact

POLICY = "the policy of invoices"


def check(versions: Versions, inventory: Inventory, ask: Transact, counts: Counts, pool: Executor) -> Iterator[Finding]:
    """Every difference. Documents that are not stored yet are accounted for unchecked."""
    after = ""
    while page := ask(lambda session, after=after: _page(session, after)):  # type: ignore[misc]
        after = page[-1].id
        told: Mapping[str, Mapping[str, Any]] = ask(lambda session, page=page: _told(session, page))  # type: ignore[misc]
        needed: set[str] = ask(lambda session, page=page: held_documents(session, [row.id for row in page]))  # type: ignore[misc]
        wanted = []
        for row in page:
            listed = inventory.of(stored.key(row.kind, row.id))
            if row.state == DocumentState.STORED:
                yield from _as_told(row, told.get(row.id))
                wanted.append((_wanted(row, row.id in needed), listed))
        checks = pool.map(lambda each: versions.check(*each), wanted)
        for (one, _), checked in zip(wanted, checks, strict=True):
            if checked.disposed:
                counts.dispose("documents", POLICY, 0, one.lock.until)
            else:
                counts.documents += not checked.findings
            yield from checked.findings


def _page(session: Session, after: str) -> Sequence[Document]:
    return session.scalars(select(Document).where(Document.id > after).order_by(Document.id).limit(PAGE)).all()


def _told(session: Session, page: Sequence[Document]) -> dict[str, dict[str, Any]]:
    """What the facts say of these, as far as they have not left Postgres; the archive has all of them."""
    ids = [row.id for row in page]
    found = select(Fact.entity_id, Fact.payload).where(
        Fact.entity_type == Document.life.of, Fact.entity_id.in_(ids), Fact.topic == "document.stored"
    )
    return {row.entity_id: row.payload for row in session.execute(found)}


def _wanted(row: Document, held: bool) -> Wanted:
    assert row.lock_mode is not None, "the table's constraint"
    assert row.locked_until is not None, "the table's constraint"
    lock = Lock(row.lock_mode, row.locked_until)
    return Wanted(stored.key(row.kind, row.id), str(row.object_version), str(row.sha256), lock, held)


def _as_told(row: Document, told: Mapping[str, Any] | None) -> Iterator[Finding]:
    """A finding if Postgres' row says something else than its fact: one of the two was changed."""
    if told is None:
        return
    says = {name: _text(getattr(row, name)) for name in STORED_AS}
    if differing := [name for name in STORED_AS if says[name] != told.get(name)]:
        yield Finding(
            stored.key(row.kind, row.id),
            row.object_version,
            "as its fact says " + ", ".join(f"{name} {told.get(name)}" for name in differing),
            "in Postgres " + ", ".join(f"{name} {says[name]}" for name in differing),
        )


def _text(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
