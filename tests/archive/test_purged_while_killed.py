"""Archivers that also purge, and are killed all the time: each committed fact is in Postgres or in the bucket, once.

As test_two_archivers.py, whose writers and checker it uses. Everything here happened long ago and is over, so that a
fact may leave as soon as it is archived.
"""

import json
import threading
import time
from collections import Counter

import psycopg
from evidence import Archive
from outside import in_order
from service import PATIENCE_S, eventually
from sqlalchemy.engine import make_url
from test_two_archivers import ARCHIVE_S, LEFT, SEED, Threads, Writers, be_relay, start_archivers
from test_verification import verify

from jobs.local.servers import LocalServers

OVER = (
    "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state, state_since)"
    " SELECT 'cap_' || n, n, 'pi_' || n, 1, 'USD', 'captured', '2020-01-01' FROM generate_series(1, 20) AS n",
    "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, state, state_since)"
    " SELECT 'inv_' || n, n, 'cus_1', 'EUR', 1, 14, 'sent', '2020-01-01' FROM generate_series(1, 20) AS n",
)


def test_every_committed_fact_is_somewhere_and_every_purge_is_a_fact(archive: Archive, template: LocalServers) -> None:
    url = make_url(archive.service.url).set(drivername="postgresql").render_as_string(hide_password=False)
    for statement in OVER:
        archive.service.execute(statement)
    stop, done = threading.Event(), threading.Event()
    writers = Writers(url, stop, ago="120 days")
    nurseries = [start_archivers(archive, template, n, PURGES="yes") for n in range(2)]
    relay = Threads(lambda: be_relay(archive.service.url, done))
    writing = Threads(*(lambda n=n: writers.write(f"{SEED}-{n}") for n in range(2)))

    def asked(query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]

    def settled() -> bool:
        """Of ended operations nothing is left, and everything is archived, also the facts about the last purges."""
        ended = [nursery.output()[-3000:] for nursery in nurseries if nursery.poll() is not None]
        assert (ended, relay.failed, writing.failed) == ([], [], [])
        left = "SELECT count(*) FROM billing.facts WHERE entity_type IN ('capture', 'invoice')"
        # In this order: once nothing is left, no purge writes a further fact.
        return asked(left) == asked(LEFT) == [(0,)]

    end = time.monotonic() + ARCHIVE_S / 2
    try:
        eventually(lambda: time.monotonic() > end, "the time is over", ARCHIVE_S + PATIENCE_S)
        stop.set()
        writing.join()
        # Archivers go on dying meanwhile, so on a busy machine few of them come to their end.
        eventually(settled, "everything is archived, and purged", 3 * PATIENCE_S)
    finally:
        stop.set()
        done.set()
        writing.join()
        relay.join()
        for nursery in nurseries:
            nursery.terminate()
    deaths = sum((Counter(json.loads(nursery.output().splitlines()[-1])) for nursery in nurseries), Counter[str]())
    facts = archive.outside.facts()
    archived = [(row["fact_id"], row["entity_id"], row["entity_version"]) for rows in facts.values() for row in rows]
    purges = [json.loads(row["payload"])["count"] for row in facts["admin"] if row["topic"] == "batch.purged"]
    print(f"{len(archived)} facts, {sum(purges)} purged in {len(purges)} transactions; {deaths}")
    assert sorted(each for each in archived if not each[1].startswith("batch_")) == sorted(writers.committed)
    in_order(facts)
    gone = Counter(writers.committed) - Counter(asked("SELECT id, entity_id, entity_version FROM billing.facts"))
    (counted,) = asked("SELECT CAST(sum(purged_rows) AS bigint) FROM billing.archive_batches")
    assert (gone.total(),) == (sum(purges),) == counted > (0,)
    assert deaths.total() > 0
    assert verify(archive).told == []
