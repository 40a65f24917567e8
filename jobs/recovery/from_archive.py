"""Brings back into a restored database what the archive holds and it does not: batches, their facts, and rows.

One batch is one transaction, in the order of its class, so a run that dies goes on where it was. Facts keep their
numbers, in Postgres and in the archive. What was written here since the restore makes room for them: it is later.

With the owner's login, because no other may write a fact under a number, or a request that it did not make.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

from sqlalchemy import Row, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from archive.copies import tail
from archive.copies.tail import Known, Part
from archive.errors import EvidenceDiffers
from archive.format import manifests
from archive.policy.retention import CLASSES
from archive.s3.store import Store
from archive.signing import keyring
from archive.signing.keyring import Keyring
from billing import statements
from billing.operations import OPERATIONS
from billing.states import BatchState
from billing.tables.entities import Entity, Requested, Switch
from billing.tables.facts import RETENTION_CLASS, ArchiveBatch
from jobs.recovery import retold
from jobs.recovery.repeats import Repeats
from jobs.road.contracts import CONTRACTS_VERSION

SQL = statements.beside(__file__, class_of_fact=RETENTION_CLASS)

Told: TypeAlias = Mapping[str, Any]
"""A row of an archived batch, by the columns of `archive.format.records.SCHEMA`; `payload` is read."""
Named: TypeAlias = tuple[str, str]
"""The type and the id of an entity."""


@dataclass(slots=True)
class Count:
    """`facts`: those that were missing here. `moved`: those of after the restore that made room. `operations`: those
    that have a row again. `newest`: the highest number of a fact in the archive. `oldest`: when the first missing
    fact happened."""

    batches: int = 0
    facts: int = 0
    moved: int = 0
    operations: int = 0
    newest: int = 0
    oldest: datetime | None = None

    def add(self, other: "Count") -> None:
        """What one more transaction has brought back."""
        self.batches += other.batches
        self.facts += other.facts
        self.moved += other.moved
        self.operations += other.operations


def missing(store: Store, known: Mapping[str, Known], installation: str) -> Iterator[Part]:
    """Every batch that the bucket has and Postgres does not, verified. Operations come before their calls,
    because their rows are made of these facts. Raises EvidenceDiffers."""
    keys = Keyring(keyring.read(store))
    for name in sorted(CLASSES, key=lambda each: each == "attempt"):
        yield from tail.beyond(store, name, known[name], installation, keys)


def known(session: Session) -> dict[str, Known]:
    """The newest archived batch of each class in Postgres."""
    found = {name: statements.run(session, SQL["known"], retention_class=name).one_or_none() for name in CLASSES}
    return {name: Known(*row) if row is not None else Known() for name, row in found.items()}


def add(count: Count, part: Part) -> None:
    """Count what a batch holds, without bringing it back."""
    count.batches += 1
    count.facts += part.manifest.rows
    if not part.manifest.rows:
        return
    count.newest = max(count.newest, *part.rows.column("fact_id").to_pylist())
    first = min(part.rows.column("happened_at").to_pylist())
    count.oldest = first if count.oldest is None else min(count.oldest, first)


def go_ahead(session: Session, newest: int) -> None:
    """Facts that are written from now on have higher numbers than `newest`."""
    statements.run(session, SQL["go_ahead"], newest=newest)


def bring_back(session: Session, part: Part, repeats: Repeats) -> Count:
    """One batch, with its facts and what they tell of. Raises EvidenceDiffers if other archived facts stand there."""
    manifest, count = part.manifest, Count()
    which = {"retention_class": manifest.retention_class, "number": manifest.number}
    for name in ("unclaim_facts", "unclaim"):
        statements.run(session, SQL[name], **which)
    told = [{**row, "payload": json.loads(row["payload"])} for row in part.rows.to_pylist()]
    try:
        with session.begin_nested():
            new = _facts(session, manifest.number, told, count)
    except IntegrityError:
        raise EvidenceDiffers(
            manifests.key(manifest.retention_class, manifest.number),
            "other facts that are archived here have its numbers; `billing archive verify` names them",
        ) from None
    session.add(_batch(part, told))
    session.flush()
    count.batches += 1
    count.facts += len(new)
    count.operations += _rows(session, told, new, repeats)
    return count


def without_row(session: Session, since: datetime) -> list[str]:
    """Operations that were requested since then and could not get a row."""
    after = statements.run(session, SQL["newest_before"], since=since).scalar_one_or_none() or 0
    return list(statements.run(session, SQL["without_row"], after=after).scalars())


def closed_in_the_gap(session: Session, since: datetime) -> list[str]:
    """Months that were closed since then and are open here, in their order."""
    return list(statements.run(session, SQL["closed_in_the_gap"], since=since).scalars())


def _facts(session: Session, number: int, told: Sequence[Told], count: Count) -> list[Told]:
    """Returns those that were missing."""
    by_version = {(*_named(each), each["entity_version"]): each for each in told}
    names = {"types": [each["entity_type"] for each in told], "entities": [each["entity_id"] for each in told]}
    ids = {each["fact_id"] for each in told}
    others, same = list[Row[Any]](), dict[int, int]()
    for row in statements.run(session, SQL["here"], **names, ids=list(ids)):
        archived = by_version.get((row.entity_type, row.entity_id, row.entity_version))
        if archived is not None and (archived["topic"], archived["happened_at"]) == (row.topic, row.happened_at):
            same[archived["archive_seq"]] = row.id
        else:
            others.append(row)
    new = [each for each in told if each["archive_seq"] not in same]
    count.moved += _make_room(session, new, others, names)
    marks = {"ids": list(same.values()), "seqs": list(same)}
    statements.run(session, SQL["mark"], number=number, planned_version=CONTRACTS_VERSION, **marks)
    rows = [{**each, "happened_at": each["happened_at"].isoformat(), "planned_version": _planned(each)} for each in new]
    statements.run(session, SQL["bring_back"], number=number, facts=json.dumps(rows))
    return new


def _named(told: Told) -> Named:
    return told["entity_type"], told["entity_id"]


def _make_room(session: Session, new: Sequence[Told], others: Sequence[Row[Any]], names: Mapping[str, Any]) -> int:
    """Move what stands here under a number of these missing facts, or before them though it came later. Returns how
    many were moved.

    A fact of an entity that is later than a missing one was written since the restore. If it tells of a state that the
    archive tells of, a look has found again what is known: it is dropped, because it would count twice.
    """
    missing = defaultdict[Named, list[Told]](list)
    for each in new:
        missing[_named(each)].append(each)
    ids = {each["fact_id"] for each in new}
    repeated, later, in_the_way = list[int](), list[Row[Any]](), list[Row[Any]]()
    for row in others:
        of_it = missing.get((row.entity_type, row.entity_id), ())
        since = any(each["happened_at"] <= row.happened_at for each in of_it)
        if since and _is_state(row) and any(each["topic"] == row.topic for each in of_it):
            repeated.append(row.id)
        elif since and any(each["entity_version"] >= row.entity_version for each in of_it):
            later.append(row)
        elif row.id in ids:
            in_the_way.append(row)
    statements.run(session, SQL["drop_repeated"], ids=repeated)
    newest = {
        (row.entity_type, row.entity_id): int(row.version)
        for row in statements.run(session, SQL["newest_versions"], **names)
    }
    for each in new:
        newest[_named(each)] = max(newest.get(_named(each), 0), each["entity_version"])
    for row in sorted(later, key=lambda each: each.entity_version):
        newest[(row.entity_type, row.entity_id)] += 1
        statements.run(session, SQL["move"], id=row.id, version=newest[(row.entity_type, row.entity_id)])
    for row in in_the_way:
        statements.run(session, SQL["move"], id=row.id, version=row.entity_version)
    return len(later) + len(in_the_way)


def _is_state(row: Row[Any]) -> bool:
    operation = OPERATIONS.get(row.entity_type)
    return operation is not None and row.topic.partition(".")[2] in operation.table.life.states


_REQUESTS = frozenset(
    f"{kind}.requested" for kind, operation in OPERATIONS.items() if issubclass(operation.table, Requested)
)


def _planned(told: Told) -> int | None:
    """A request is planned again, so that a worker ends what was not ended."""
    return None if told["topic"] in _REQUESTS else CONTRACTS_VERSION


def _batch(part: Part, told: Sequence[Told]) -> ArchiveBatch:
    manifest, lock = part.manifest, part.manifest.lock
    manifest_lock = part.lock or lock
    claimed_at = None if manifest.claimed_at is None else datetime.fromisoformat(manifest.claimed_at)
    return ArchiveBatch(
        retention_class=manifest.retention_class,
        number=manifest.number,
        event_date=date.fromisoformat(manifest.event_date),
        rows=manifest.rows,
        first_seq=manifest.first_seq,
        last_seq=manifest.last_seq,
        first_fact=min((each["fact_id"] for each in told), default=1),
        last_fact=max((each["fact_id"] for each in told), default=0),
        lock_mode=lock.mode,
        locked_until=lock.until,
        manifest_lock_mode=manifest_lock.mode,
        manifest_locked_until=manifest_lock.until,
        manifest_format=manifests.UNSIGNED if manifest.key_id is None else manifests.SIGNED,
        previous_format=part.previous_format,
        manifest_key_id=manifest.key_id,
        policy=manifest.policy,
        claimed_at=claimed_at or func.clock_timestamp(),
        state=BatchState.ARCHIVED,
        object_sha256=manifest.sha256,
        object_version=manifest.version,
        manifest_sha256=part.digest,
        archived_at=func.clock_timestamp(),
    )


def _rows(session: Session, told: Sequence[Told], new: Sequence[Told], repeats: Repeats) -> int:
    """Bring the rows forward to what these facts tell; make those that are missing. Returns how many were changed."""
    changed = 0
    for kind, operation in OPERATIONS.items():
        ids = {each["entity_id"] for each in told if each["entity_type"] == kind}
        table = operation.table
        if not ids or table is Switch:  # `switches_again` makes those, once all facts are here
            continue
        rows: dict[str, Entity] = {
            row.id: row for row in session.scalars(select(table).where(table.id.in_(ids)).with_for_update())
        }
        names = {"types": [kind] * len(ids), "entities": list(ids)}
        newest = {each.entity_id: each.version for each in statements.run(session, SQL["newest_versions"], **names)}
        story = defaultdict[str, list[Told]](list)
        for each in sorted(new, key=lambda each: each["entity_version"]):
            if each["entity_type"] == kind:
                story[each["entity_id"]].append(each)
        for entity_id in sorted(ids):
            row = rows.get(entity_id)
            changed += retold.tell(session, row, kind, story[entity_id], newest[entity_id], repeats)
    session.flush()
    return changed
