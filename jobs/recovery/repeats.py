"""Requests that an application has made again since the restore, before the first one was known again.

Both have the same request id, which the first one shows by its digest (`billing.request_ids`). Before anything is sent
for the second, it is refused, and the first takes the request id over: from then on the application gets the receipt of
the first. If something may have been done for the second, its work is put into quarantine, and a person decides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from billing import database, row_io, store
from billing.operations import OPERATIONS, operation_of
from billing.request_ids import RECOVERED, digest_of, is_digest, recovered
from billing.states import WorkState
from billing.tables.entities import Requested
from billing.tables.work import Work
from jobs.road import discarding, work_queue

ASKED_BEFORE = "asked_before"
"""The reason of a request that is refused so; after a colon comes the id of the first."""

Which: TypeAlias = tuple[type[Requested], str | None, str]
"""Table, account, and digest of the request id."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """The operations that were asked for since then and are not concluded. `actor`: who recovers."""

    ids: Mapping[Which, str]
    actor: str

    def request_id(
        self, session: Session, table: type[Requested], account: str | None, own: str, *, digest: object, known: object
    ) -> str:
        """The request id of the operation `own`, which is made again. `known`: a text that may be it.

        A request that repeats it is stopped here, and gives its id up if it can be refused.
        """
        if not is_digest(digest):  # written by an older version
            return known if isinstance(known, str) and _is_free(session, table, account, known) else f"{RECOVERED}{own}"
        again = self.ids.get((table, account, str(digest)), own)
        given_up = None if again == own else _stop(session, again, first=own, actor=self.actor)
        if given_up is not None:
            return given_up
        exactly = [known] if isinstance(known, str) and digest_of(known) == digest else []
        wanted = (*exactly, recovered(str(digest)))
        return next((each for each in wanted if _is_free(session, table, account, each)), f"{RECOVERED}{own}")


def since(session: Session, moment: datetime, actor: str) -> Repeats:
    """What was asked for since then, under the ids that the application chose."""
    return Repeats({which: own for which, own, made_again in _requests(session, moment) if not made_again}, actor)


def left(session: Session, moment: datetime) -> list[tuple[str, str]]:
    """Pairs of which the second repeats the first, and is not stopped."""
    first = {which: own for which, own, made_again in _requests(session, moment) if made_again}
    if not first:
        return []
    asked = since(session, moment, "").ids
    pairs = [(first[which], asked[which]) for which in first.keys() & asked.keys()]
    of_them = Work.entity_id.in_([again for _, again in pairs])
    stopped = set(session.scalars(select(Work.entity_id).where(of_them, Work.state == WorkState.QUARANTINED)))
    return [pair for pair in pairs if pair[1] not in stopped]


def settle(session: Session, moment: datetime, actor: str) -> None:
    """Stop each that repeats a request which was made again meanwhile."""
    for first, again in left(session, moment):
        given_up = _stop(session, again, first=first, actor=actor)
        if given_up is not None:
            table = operation_of(first).table
            session.execute(update(table).where(table.id == first).values(request_id=given_up))


def _requests(session: Session, moment: datetime) -> Iterator[tuple[Which, str, bool]]:
    """Which request, its operation, and whether that was made again. Of what the application asked for, only what is
    not concluded.

    Along the primary key, because ids begin with their time, and there may be millions of requests before it.
    """
    for operation in OPERATIONS.values():
        table = operation.table
        if not issubclass(table, Requested):
            continue
        first_id = f"{operation.prefix}_{max(int(moment.timestamp() * 1000), 0):012x}"
        columns = select(table.id, table.account, table.request_id, table.state).where(table.id >= first_id)
        # Closed by itself only where all rows are read: a statement may time out, and be tried again.
        with session.execute(columns.execution_options(yield_per=10_000)) as rows:
            for row in rows:
                digest, made_again = digest_of(row.request_id), row.request_id.startswith(RECOVERED)
                if digest is not None and (made_again or not table.life.is_final(row.state)):
                    yield (table, row.account, digest), row.id, made_again


def _stop(session: Session, again: str, *, first: str, actor: str) -> str | None:
    """Refuse this operation, which repeats `first`, and return its request id. None if something may have been done for
    it: then its work is in quarantine."""
    operation, now = operation_of(again), database.now(session)
    works = work_queue.locked(session, session.scalars(select(Work.id).where(Work.entity_id == again)).all())
    loaded = store.load(session, operation, {again: ("", operation.contracts[0].queue)})[again]
    row, why = loaded.row, f"{ASKED_BEFORE}: {first}"
    assert isinstance(row, Requested), "only what was requested can be repeated"
    if not discarding.nothing_was_done(loaded):
        for work in works.values():
            work_queue.move(work, WorkState.QUARANTINED, now, reason=why)
        row_io.save(session, works.values())
        return None
    refused = discarding.refuse(loaded, now, actor=actor, why=why)
    given_up, row.request_id = row.request_id, f"{RECOVERED}{row.id}"
    # A worker concludes its work.
    row_io.save(session, [row, *loaded.records], [refused])
    return given_up


def _is_free(session: Session, table: type[Requested], account: str | None, wanted: str) -> bool:
    of_account = table.account.is_(None) if account is None else table.account == account
    return session.scalar(select(table.id).where(of_account, table.request_id == wanted)) is None
