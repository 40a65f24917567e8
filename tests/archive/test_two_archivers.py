"""Two archivers that purge too and are killed all the time, eight writers that commit late, roll back and stall.

Each committed fact is in the bucket once, in the order of its entity, leaves Postgres, and is once in the sorted copy
of its month, which is made again and again meanwhile. What was committed is written down by the writers; what was
archived is read by `outside` and by the auditor's `verify.py`, which share no code with the archiver. An exporter with
a watermark (`id >`) runs beside them, and loses facts.

`BILLING_TEST_ARCHIVE_S` makes it longer (`make chaos` does), and `BILLING_TEST_SEED` repeats its choices.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
from auditor import Auditor
from evidence import Archive
from outside import in_order
from service import PATIENCE_S, eventually, patient_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from test_verification import verify

from archive.closing.periods import period
from archive.compacting import compaction
from archive.compacting.places import Directory
from archive.errors import BadQuestion, StoreAway
from archive.signing.ed25519 import new_private_key
from billing import database
from billing.timing import SHORT
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child
from jobs.road.planning import plan, stamp_the_rest

ARCHIVE_S = float(os.environ.get("BILLING_TEST_ARCHIVE_S", "6"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))
HERE = Path(__file__).parent

# None of them starts work, so the relay only stamps them. None says that money was taken: it would be twice.
TOPICS = (
    "capture.attempted",
    "capture.looked",
    "capture.authorization_read",
    "invoice.drafted",
    "invoice.sent",
    "switch.pulled",
)
STEADY, STALLING = 6, 2
"""Writers."""
ENTITIES = 100
"""Of each kind. Everything about captures and invoices happened long ago and is over, so a fact may leave Postgres as
soon as every fact of its entity is archived."""
OVER = (
    "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state, state_since)"
    f" SELECT 'cap_' || n, n, 'pi_' || n, 1, 'USD', 'captured', '2020-01-01' FROM generate_series(1, {ENTITIES}) AS n",
    "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, state, state_since)"
    " SELECT 'inv_' || n, n, 'cus_1', 'EUR', 1, 14, 'sent', '2020-01-01'"
    f" FROM generate_series(1, {ENTITIES}) AS n",
)
TO_ARCHIVE = """
    SELECT count(*) FROM billing.facts AS f
     WHERE f.batch_no IS NULL OR EXISTS (SELECT FROM billing.archive_batches WHERE state = 'claimed')
"""
TO_PURGE = "SELECT count(*) FROM billing.facts WHERE entity_type IN ('capture', 'invoice')"
LONG_AGO = datetime.now(UTC) - timedelta(days=120)
MONTH = period(f"{LONG_AGO:%Y-%m}")
Told = tuple[int, str, int]
"""A fact: its id, its entity, and which of the entity's facts it is. The latter is its amount, too."""


class Writers:
    """Applications that write facts; what is committed is also written down here, by other means.

    `seen`: the ids that a watermark has gone past. `overtaken`: those that were committed after it had gone past them,
    so that it never comes back to them.
    """

    def __init__(self, url: str, stop: threading.Event, seen: list[int]) -> None:
        self._url, self._stop, self._seen = url, stop, seen
        self.committed: list[Told] = []
        self.overtaken: set[int] = set()
        self.rolled_back = 0
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE public.entity (id text PRIMARY KEY, version int NOT NULL DEFAULT 0)")
            for kind in ("cap", "inv", "swi"):
                connection.execute(
                    "INSERT INTO entity SELECT %s || '_' || n FROM generate_series(1, %s) n", [kind, ENTITIES]
                )

    def write(self, seed: str, *, stalls: bool = False) -> None:
        rng = random.Random(seed)
        with psycopg.connect(self._url) as connection:
            while not self._stop.is_set():
                self._one_transaction(connection, rng, stalls)

    def _one_transaction(self, connection: psycopg.Connection, rng: random.Random, stalls: bool) -> None:
        topic = rng.choice(TOPICS)
        entity = f"{topic[:3]}_{rng.randint(1, ENTITIES)}"
        facts = [self._tell(connection, topic, entity) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.1:
            with connection.transaction(force_rollback=True):
                self._tell(connection, topic, entity)
        # Late, mostly a little; a writer that stalls, so late that the others are far ahead.
        self._stop.wait(rng.uniform(0.3, 1.5) if stalls else rng.choice([0.0, 0.0, 0.005, 0.02, 0.1, 0.1]))
        if rng.random() < 0.2:
            connection.rollback()
            self.rolled_back += len(facts)
        else:
            overtaken = {fact_id for fact_id, _, _ in facts if self._seen and self._seen[-1] > fact_id}
            connection.commit()
            self.committed += facts
            self.overtaken |= overtaken

    def _tell(self, connection: psycopg.Connection, topic: str, entity: str) -> Told:
        """The entity's row is locked from here to the end of the transaction, as billing does it."""
        raised = "UPDATE entity SET version = version + 1 WHERE id = %s RETURNING version"
        (version,) = connection.execute(raised, [entity]).fetchone() or (0,)
        (fact_id,) = connection.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, happened_at)"
            " VALUES (%s, split_part(%s, '.', 1), %s, %s, 'billing',"
            " jsonb_build_object('minor', CAST(%s AS int), 'currency', 'EUR'), %s) RETURNING id",
            [topic, topic, entity, version, version, LONG_AGO],
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


def be_compactor(archive: Archive, copies: Directory, done: threading.Event, made: list[int]) -> None:
    """Makes the sorted copy of the month again and again, because more of it is archived. Adds to `made` how many facts
    it held each time."""
    cache = archive.cache()
    while not done.is_set():
        # Nothing is archived yet, or S3 is slow: the next time.
        with contextlib.suppress(BadQuestion, StoreAway):
            index, new = compaction.compact(cache, MONTH, copies)
            made += [sum(part.source.facts for part in index.parts)] * new
        done.wait(0.5)


def of_sorted_copy(archive: Archive, copies: Directory) -> list[int]:
    """The ids of the facts that an engine finds there, after it was made for the last time."""
    compaction.compact(archive.cache(), MONTH, copies)
    assert compaction.check(archive.cache(fresh=False), MONTH, copies) == []
    objects = Path(copies.name).rglob("*.parquet")
    parts = [pq.read_table(each, columns=["fact_id"], partitioning=None) for each in objects]
    return [fact_id for part in parts for fact_id in part.column("fact_id").to_pylist()]


def start_archivers(archive: Archive, template: LocalServers, number: int) -> Child:
    # Each nursery has a key of its own, as while one key replaces another.
    keys = {"ACCESS": archive.s3.access_key, "SECRET": archive.s3.secret_key, "SIGNING_KEY": new_private_key()}
    environment = {**os.environ, **keys, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    where = [archive.service.url, archive.bucket, archive.s3.url, f"{SEED}-{number}"]
    return template.supervisor.spawn(
        f"archivers-{number}", [sys.executable, HERE / "archivers.py", *where], environment
    )


def test_every_committed_fact_is_archived_once_and_in_order_and_a_watermark_would_have_lost_some(
    archive: Archive, template: LocalServers, tmp_path: Path
) -> None:
    print(f"seed {SEED}, {ARCHIVE_S:g} s")
    url = make_url(archive.service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    for statement in OVER:
        archive.service.execute(statement)
    stop, done, seen = threading.Event(), threading.Event(), list[int]()
    copies, made = Directory(tmp_path / "by_month"), list[int]()
    writers = Writers(url, stop, seen)
    nurseries = [start_archivers(archive, template, n) for n in range(2)]
    others = Threads(
        lambda: be_relay(archive.service.url, done),
        lambda: be_watermark(url, done, seen),
        lambda: be_compactor(archive, copies, done, made),
    )
    writing = Threads(*(lambda n=n: writers.write(f"{SEED}-{n}", stalls=n >= STEADY) for n in range(STEADY + STALLING)))
    meanwhile: list[list[str]] = []

    def asked(query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]

    def settled() -> bool:
        """Of ended operations nothing is left, and everything is archived, also the facts about the last purges."""
        if len(meanwhile) < 3:
            meanwhile.append(verify(archive).told)
        ended = [nursery.output()[-3000:] for nursery in nurseries if nursery.poll() is not None]
        assert (ended, others.failed, writing.failed) == ([], [], [])
        # In this order: once nothing is left, no purge writes a further fact.
        return asked(TO_PURGE) == asked(TO_ARCHIVE) == [(0,)]

    end = time.monotonic() + ARCHIVE_S
    try:
        eventually(lambda: time.monotonic() > end, "the time is over", ARCHIVE_S + PATIENCE_S)
        left_meanwhile = asked("SELECT CAST(sum(purged_rows) AS bigint) FROM billing.archive_batches")
        stop.set()
        writing.join()
        # Archivers go on dying meanwhile, so on a busy machine few of them come to their end.
        eventually(settled, "everything is archived, and purged", 3 * PATIENCE_S + ARCHIVE_S)
    finally:
        stop.set()
        done.set()
        writing.join()
        others.join()
        for nursery in nurseries:
            nursery.terminate()
    deaths = sum((Counter(json.loads(nursery.output().splitlines()[-1])) for nursery in nurseries), Counter[str]())
    facts = archive.outside.facts()
    rows = [row for of_class in facts.values() for row in of_class if row["entity_type"] != "batch"]
    purges = [json.loads(row["payload"])["count"] for row in facts["admin"] if row["topic"] == "batch.purged"]
    batches = sum(version["Key"].startswith("v1/") for version in archive.outside.versions())
    print(
        f"{len(rows)} facts in {batches} batches, {writers.rolled_back} rolled back; {sum(purges)} purged in "
        f"{len(purges)} transactions, {left_meanwhile[0][0]} of them meanwhile; {deaths.total()} deaths "
        f"{dict(deaths)}; sorted copies of {made} facts; a watermark has lost {len(writers.overtaken)}"
    )
    assert sorted((row["fact_id"], row["entity_id"], row["entity_version"]) for row in rows) == sorted(
        writers.committed
    )
    assert [row for row in rows if row["minor"] != row["entity_version"]] == []
    in_order(facts)
    gone = Counter(writers.committed) - Counter(asked("SELECT id, entity_id, entity_version FROM billing.facts"))
    (counted,) = asked("SELECT CAST(sum(purged_rows) AS bigint) FROM billing.archive_batches")
    assert (gone.total(),) == (sum(purges),) == counted > (0,)
    assert (deaths.total() > 0, made != []) == (True, True)
    # Whatever died on whichever line: a verification takes none of it for an attack.
    assert [verify(archive).told, *meanwhile] == [[]] * (1 + len(meanwhile))
    said = Auditor(archive.s3, tmp_path).verify(archive.bucket)
    assert (said.differs, said.status) == ([], 0)
    assert sorted(of_sorted_copy(archive, copies)) == sorted(fact_id for fact_id, _, _ in writers.committed)
    # The control: a run in which nothing could get lost would show nothing.
    assert writers.overtaken - set(seen) == writers.overtaken != set()
