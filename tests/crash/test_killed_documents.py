"""A worker killed anywhere around a document: exactly one object, and one stored row that says what it is."""

import os
import signal

from keeping import archive_bucket, finalized, keeping, keeps, objects, row_of, store
from service import Service
from sqlalchemy import text
from worker import KILLED, die, fork_worker, reap

from archive.s3.store import Store
from billing import database

__all__ = ["archive_bucket", "keeps", "store"]

BOUNDARIES = ("commit.before", "send.before", "send.after", "commit.after")


def dies_before_it_reads_back() -> None:
    """Of the process that runs this: the object is written, and nobody was told."""
    Store.get = lambda *_args, **_more: die()  # type: ignore[method-assign]


def lease_ends(service: Service, document: str) -> None:
    service.age(document, 60)
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")


def test_a_worker_killed_at_any_boundary_of_a_document_leaves_one_object_and_one_stored_row(
    keeps: Service, store: Store
) -> None:
    died: dict[str, str] = {}
    waiting = finalized(keeps, 16)
    for name in BOUNDARIES:
        for count in range(1, 20):
            document = waiting.pop()
            keep_only(keeps, document)
            pid = fork_worker(keeps, "documents", at=f"{name}:{count}", gateway=keeping(keeps, store))
            if (code := reap(pid)) != KILLED:
                assert (code, keeps.status(document).state) == (0, "stored")
                break
            died[f"{name}:{count}"] = document
    document = waiting.pop()
    keep_only(keeps, document)
    assert (
        reap(fork_worker(keeps, "documents", mutate=dies_before_it_reads_back, gateway=keeping(keeps, store))) == KILLED
    )
    assert f"documents/invoice_pdf/{document}.pdf" in objects(store)
    died["between storing and reading back"] = document
    document = waiting.pop()
    keep_only(keeps, document)
    keeps.standin.add_fault("hold_after", path="^/files/", times=1)
    pid = fork_worker(keeps, "documents", gateway=keeping(keeps, store))
    keeps.standin.wait_held(wait_s=60)
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == KILLED
    keeps.standin.release()
    died["in the download"] = document
    print(f"document: {len(died)} crash points: {', '.join(died)}")
    assert len(died) >= 6
    for each in died.values():
        lease_ends(keeps, each)
        assert keeps.settle(each, gateway=keeping(keeps, store)) == ["stored"]
        row, there = row_of(keeps, each), store.get(f"documents/invoice_pdf/{each}.pdf")
        assert (row.sha256, row.object_version) == (there.sha256, there.version)
        assert objects(store).count(str(row.object_key)) == 1
        told = keeps.facts(each)
        assert [fact.entity_version for fact in told] == list(range(1, len(told) + 1))
        assert [fact.topic for fact in told].count("document.stored") == 1
    with database.transaction(keeps.engine) as session:
        stored = session.execute(text("SELECT count(*) FROM billing.documents WHERE state = 'stored'")).scalar_one()
    assert len(objects(store)) == stored


def keep_only(service: Service, document: str) -> None:
    """The others wait: the next shift is for this one."""
    service.plan()
    service.execute(
        "UPDATE billing.work SET due_at = clock_timestamp() + interval '1 day', state = 'waiting'"
        " WHERE queue = 'documents' AND state = 'ready' AND entity_id <> :id",
        id=document,
    )
    service.execute(
        "UPDATE billing.work SET due_at = NULL, state = 'ready' WHERE entity_id = :id AND state = 'waiting'",
        id=document,
    )
