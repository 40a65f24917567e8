"""Runbooks of what happens to processes and servers: the incident is made, and whoever knows only the page ends it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from house import House
from runbook import Play
from service import eventually
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from jobs.checkup import archive as checkup
from jobs.local.seaweed import REGION
from jobs.process.health import heartbeat_file

Follow = Callable[..., Play]


def nothing() -> None:
    """A command of the deployment that only shows something."""


def test_queue_stalls(house: House, play: Follow) -> None:
    """A worker stands still with a call in hand."""
    house.service.standin.add_fault("hold_after", path="/capture$", times=1)
    (first,) = house.ask(1)
    house.service.standin.wait_held(1, 60)
    house.processes["worker-captures"].send(signal.SIGSTOP)
    house.service.standin.release()
    others = house.ask(2)
    # The first comes back to them once its lease is over.
    eventually(lambda: house.service.states_of_work()["ready"] >= 2, "nobody takes them")
    house.service.execute("UPDATE billing.work SET state_since = now() - interval '10 min' WHERE state = 'ready'")
    beat = heartbeat_file("worker-captures", str(house.stack.servers.directory / "health"))
    long_ago = time.time() - 600
    os.utime(beat, (long_ago, long_ago))
    page = play(
        "queue-stalls", hands={"docker compose restart worker-captures": lambda: house.restart("worker-captures")}
    )
    page.follow("First three commands")
    page.follow("Decide")
    page.until_over()
    house.took_each_once([first, *others])


def test_redis_lost(house: House, play: Follow) -> None:
    """It is killed, and comes back empty."""
    valkey = house.stack.servers.valkey
    valkey.kill()
    captures = house.ask()
    eventually(lambda: house.has_logged("worker-captures", "redis.lost"), "its worker has noticed")
    eventually(lambda: house.service.states_of_work()["ready"] == 3, "new work waits")
    page = play(
        "redis-lost",
        hands={
            "docker compose ps valkey": nothing,
            "docker compose logs --tail=20 valkey": nothing,
            "docker compose restart valkey": valkey.restart,
            "docker compose restart relay": lambda: house.restart("relay"),
        },
    )
    page.follow("First three commands")
    page.follow("Decide")
    page.until_over()
    assert house.has_logged("worker-captures", "redis.found")
    house.took_each_once(captures)


def test_postgres_down(house: House, play: Follow) -> None:
    """It is killed while answers are under way; nobody restarts a process of ours."""
    house.service.standin.add_fault("hold_after", path="/capture$", times=2)
    captures = house.ask()
    house.service.standin.wait_held(2, 60)
    before = dict(house.processes)
    house.stack.servers.postgres.kill()
    house.service.standin.release()
    house.service.forget_connections()
    eventually(lambda: house.has_logged("worker-captures", "postgres.away"), "its worker has noticed")
    page = play(
        "postgres-down",
        hands={
            "docker compose ps postgres": nothing,
            "docker compose logs --tail=20 postgres": nothing,
            "docker compose restart postgres": house.stack.servers.postgres.restart,
        },
    )
    page.follow("First three commands")
    page.follow("Decide")
    page.until_over()
    assert house.processes == before
    assert [process.poll() for process in before.values()] == [None] * len(before)
    house.took_each_once(captures)


def test_stripe_outage(house: House, play: Follow) -> None:
    """A proxy in front of Stripe answers everything with its own page, and then Stripe is back."""
    house.service.standin.add_fault("502_html")
    captures = house.ask()
    eventually(lambda: house.has_logged("worker-captures", "provider.silent"), "its worker has noticed")
    page = play("stripe-outage")
    page.follow("First three commands")
    page.follow("Decide")
    house.service.standin.clear_faults()
    page.until_over()
    assert house.has_logged("worker-captures", "provider.found")
    house.took_each_once(captures)


def test_archive_lags(house: House, play: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 is killed; and somebody else has written into the bucket."""
    # Whatever waits is late here: an hour cannot be waited for, and facts are not made older.
    monkeypatch.setattr(checkup, "LAG_WARN_S", -3600)
    s3, bucket = house.stack.servers.seaweedfs, house.stack.environment["BILLING_ARCHIVE_BUCKET"]
    outside = boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name=REGION,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    waiting = "SELECT count(*) FROM billing.facts WHERE batch_no IS NULL"
    unfinished = "SELECT count(*) FROM billing.archive_batches WHERE state = 'claimed'"
    # An archiver that starts while S3 is away waits for it, and has another line in its log.
    house.took_each_once(house.ask(1))
    eventually(lambda: house.count(waiting) == house.count(unfinished) == 0, "everything is archived")
    s3.kill()
    house.took_each_once(house.ask(1))
    eventually(lambda: house.has_logged("archiver", "archive.away"), "its archiver has noticed")

    def restart() -> None:
        s3.restart()
        outside.put_object(Bucket=bucket, Key="v1/stranger", Body=b"not ours")

    page = play(
        "archive-lags",
        hands={
            "docker compose ps archiver seaweedfs": nothing,
            "docker compose restart seaweedfs": restart,
        },
    )
    page.follow("First three commands")
    page.follow("Decide")
    page.follow("It differs")
    for version in outside.list_object_versions(Bucket=bucket, Prefix="v1/stranger")["Versions"]:
        outside.delete_object(Bucket=bucket, Key="v1/stranger", VersionId=version["VersionId"])
    page.until_over()


class Disk:
    """The disk of Postgres. When it is full, whatever writes to our tables gets the answer of a real one, and reading
    goes on."""

    def __init__(self, house: House) -> None:
        self._house = house

    def fill(self) -> None:
        self._house.service.execute(_FILL)

    def make_room(self) -> None:
        self._house.service.execute("DROP FUNCTION IF EXISTS public.disk_is_full() CASCADE")


_FILL = """
    CREATE FUNCTION public.disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
    DO $$ DECLARE t text; BEGIN
        FOR t IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'billing' LOOP
            EXECUTE 'CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON ' || t
                 || ' EXECUTE FUNCTION public.disk_is_full()';
        END LOOP;
    END $$
    """


@pytest.fixture
def disk(house: House) -> Iterator[Disk]:
    disk = Disk(house)
    yield disk
    disk.make_room()


def test_disk_full(house: House, disk: Disk, play: Follow) -> None:
    """Two answers are under way. Nobody restarts a process of ours."""
    house.service.standin.add_fault("hold_after", path="/capture$", times=2)
    captures = house.ask(2)
    house.service.standin.wait_held(2, 60)
    disk.fill()
    house.service.standin.release()
    eventually(lambda: "53100" in house.processes["relay"].output(), "it is noticed")
    with pytest.raises(OperationalError) as refused:
        house.ask(1)
    assert isinstance(refused.value.orig, psycopg.errors.DiskFull)
    before = dict(house.processes)
    df = "docker compose exec postgres df --human-readable /var/lib/postgresql"
    page = play("disk-full", hands={df: nothing})
    page.follow("First three commands")
    page.follow("Decide")
    disk.make_room()
    page.until_over()
    assert house.processes == before
    assert [process.poll() for process in before.values()] == [None] * len(before)
    house.took_each_once(captures)


def test_key_leaked(house: House, play: Follow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stripe's key is rolled, and then the workers get new passwords."""
    servers = house.stack.servers
    (tmp_path / "secrets").symlink_to(servers.access)
    monkeypatch.chdir(tmp_path)
    old_url = (servers.access / "worker_database_url").read_text()
    house.service.standin.set_keys(expired=[house.stripe_key.read_text()])
    captures = house.ask()
    eventually(lambda: house.service.states_of_work()["held"] == 3, "the account is stopped")

    def forget() -> None:
        for name in ("worker_database_url", "worker_redis_url"):
            (servers.access / name).unlink()

    def restart() -> None:
        servers.valkey.add_users((servers.access / "redis.acl").read_text())
        house.restart("worker-captures")

    page = play(
        "key-leaked",
        names={
            "/run/secrets": str(servers.access),
            "production": "development",
            "postgres:5432/billing": f"127.0.0.1:{servers.postgres.port}/postgres",
            "valkey:6379": f"127.0.0.1:{servers.valkey.port}",
        },
        hands={
            "cat > secrets/stripe_key": lambda: house.stripe_key.write_text("sk_test_new"),
            "rm secrets/worker_database_url secrets/worker_redis_url": forget,
            "docker compose restart valkey worker-captures worker-refunds worker-invoices": restart,
        },
    )
    page.follow("First three commands")
    page.follow("Decide")
    page.until_over()
    house.took_each_once(captures)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(make_url(old_url).set(drivername="postgresql").render_as_string(hide_password=False))
