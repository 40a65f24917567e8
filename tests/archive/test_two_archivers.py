"""Two archivers that are killed all the time, four writers that commit late, roll back and stall: each fact once.

What was committed is written down by the writers, what was archived is read by `outside`: the comparison shares no
code with the archiver. `BILLING_TEST_ARCHIVE_S` makes it longer (`make chaos` does), and `BILLING_TEST_SEED` repeats
its choices.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
from evidence import Archive
from outside import in_order
from service import PATIENCE_S, eventually, patient_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from test_verification import verify

from archive.signing.ed25519 import new_private_key
from billing import database
from billing.timing import SHORT
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.road.planning import plan, stamp_the_rest

ARCHIVE_S = float(os.environ.get("BILLING_TEST_ARCHIVE_S", "6"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))
HERE = Path(__file__).parent

# None of them starts work, so the relay only stamps them.
TOPICS = ("capture.attempted", "capture.looked", "capture.captured", "invoice.drafted", "invoice.sent", "switch.pulled")


LEFT = """
    SELECT count(*) FROM billing.facts AS f
     WHERE f.batch_no IS NULL OR EXISTS (SELECT FROM billing.archive_batches WHERE state = 'claimed')
"""


class Writers:
    """Applications that write facts; what is committed is also written down here, by other means."""

    def __init__(self, url: str, stop: threading.Event, ago: str = "0 days") -> None:
        self._url, self._stop, self._ago = url, stop, ago
        self.committed: list[tuple[int, str, int]] = []
        self.rolled_back = 0
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE public.entity (id text PRIMARY KEY, version int NOT NULL DEFAULT 0)")
            for kind in ("capture", "invoice", "switch"):
                connection.execute("INSERT INTO entity SELECT %s || '_' || n FROM generate_series(1, 20) n", [kind[:3]])

    def write(self, seed: str) -> None:
        rng = random.Random(seed)
        with psycopg.connect(self._url) as connection:
            while not self._stop.is_set():
                self._one_transaction(connection, rng)

    def _one_transaction(self, connection: psycopg.Connection, rng: random.Random) -> None:
        topic = rng.choice(TOPICS)
        entity = f"{topic[:3]}_{rng.randint(1, 20)}"
        facts = [self._tell(connection, topic, entity) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.1:
            with connection.transaction(force_rollback=True):
                self._tell(connection, topic, entity)
        # Late, mostly a little; now and then so late that the others are far ahead.
        self._stop.wait(rng.choice([0.0, 0.0, 0.005, 0.02, 0.1, 0.1, 0.6 if rng.random() < 0.2 else 0.0]))
        if rng.random() < 0.2:
            connection.rollback()
            self.rolled_back += len(facts)
        else:
            connection.commit()
            self.committed += facts

    def _tell(self, connection: psycopg.Connection, topic: str, entity: str) -> tuple[int, str, int]:
        """The entity's row is locked from here to the end of the transaction, as billing does it."""
        raised = "UPDATE entity SET version = version + 1 WHERE id = %s RETURNING version"
        (version,) = connection.execute(raised, [entity]).fetchone() or (0,)
        (fact_id,) = connection.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, happened_at)"
            " VALUES (%s, split_part(%s, '.', 1), %s, %s, 'billing', '{}', clock_timestamp() - CAST(%s AS interval))"
            " RETURNING id",
            [topic, topic, entity, version, self._ago],
        ).fetchone() or (0,)
        return fact_id, entity, version


class Threads:
    """They run until stopped, and what one of them raises is kept."""

    def __init__(self, *runs: Callable[[], None]) -> None:
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._guarded, args=[run]) for run in runs]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            self.failed.append(error)


def be_relay(url: str, done: threading.Event) -> None:
    engine = patient_engine(url, SHORT, name="relay")
    while not done.is_set():
        # What takes too long on a busy machine is done in the next round, as a relay does it.
        with contextlib.suppress(OperationalError), database.transaction(engine) as session:
            plan(session, SHORT)
            stamp_the_rest(session)
        done.wait(0.01)
    engine.dispose()


def be_watermark(url: str, done: threading.Event, seen: list[int]) -> None:
    """The exporter that everybody writes first."""
    with psycopg.connect(url, autocommit=True) as connection:
        while not done.is_set():
            last = seen[-1] if seen else 0
            new = connection.execute("SELECT id FROM billing.facts WHERE id > %s ORDER BY id", [last]).fetchall()
            seen.extend(fact_id for (fact_id,) in new)
            done.wait(0.02)


def start_archivers(archive: Archive, template: LocalServers, number: int, **more: str) -> Child:
    # Each nursery has a key of its own, as while one key replaces another.
    keys = {"ACCESS": archive.s3.access_key, "SECRET": archive.s3.secret_key, "SIGNING_KEY": new_private_key()}
    environment = {**os.environ, **keys, **more, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    where = [archive.service.url, archive.bucket, archive.s3.url, f"{SEED}-{number}"]
    return template.supervisor.spawn(
        f"archivers-{number}", [sys.executable, HERE / "archivers.py", *where], environment
    )


def test_every_committed_fact_is_archived_once_and_in_order_and_a_watermark_would_have_lost_some(
    archive: Archive, template: LocalServers
) -> None:
    print(f"seed {SEED}, {ARCHIVE_S:g} s")
    url = make_url(archive.service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    stop, done, seen = threading.Event(), threading.Event(), list[int]()
    writers = Writers(url, stop)
    nurseries = [start_archivers(archive, template, n) for n in range(2)]
    others = Threads(lambda: be_relay(archive.service.url, done), lambda: be_watermark(url, done, seen))
    writing = Threads(*(lambda n=n: writers.write(f"{SEED}-{n}") for n in range(4)))

    def ended() -> list[str]:
        return [nursery.output()[-3000:] for nursery in nurseries if nursery.poll() is not None]

    meanwhile: list[str] = []

    def all_archived() -> bool:
        meanwhile.extend(verify(archive).told)
        assert (ended(), others.failed, writing.failed) == ([], [], [])
        with psycopg.connect(url) as connection:
            return connection.execute(LEFT).fetchone() == (0,)

    end = time.monotonic() + ARCHIVE_S
    try:
        eventually(lambda: time.monotonic() > end, "the time is over", ARCHIVE_S + PATIENCE_S)
        stop.set()
        writing.join()
        eventually(all_archived, "everything is archived")
    finally:
        stop.set()
        done.set()
        writing.join()
        others.join()
        for nursery in nurseries:
            nursery.terminate()
    deaths = sum((Counter(json.loads(nursery.output().splitlines()[-1])) for nursery in nurseries), Counter[str]())
    facts = archive.outside.facts()
    batches = sum(version["Key"].startswith("v1/") for version in archive.outside.versions())
    archived = [(row["fact_id"], row["entity_id"], row["entity_version"]) for rows in facts.values() for row in rows]
    lost_by_watermark = {fact_id for fact_id, _, _ in writers.committed} - set(seen)
    print(
        f"{len(archived)} facts in {batches} batches, {writers.rolled_back} rolled back; "
        f"{deaths.total()} deaths {dict(deaths)}; a watermark would have lost {len(lost_by_watermark)}"
    )
    assert sorted(archived) == sorted(writers.committed)
    in_order(facts)
    assert deaths.total() > 0
    # Whatever died on whichever line: a verification takes none of it for an attack.
    assert (verify(archive).told, meanwhile) == ([], [])
    # The control: a run in which nothing could get lost would show nothing.
    assert len(lost_by_watermark) > 0
