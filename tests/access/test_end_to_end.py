"""Every process under its own login, on servers that hold each to its kind: the whole service still does its work."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from command import Ran, in_a_process
from service import eventually

from jobs.local.stack import Stack


@pytest.fixture(scope="module")
def whole() -> Iterator[Stack]:
    """Servers of our own, and one process of each kind."""
    with Stack(given={}) as stack:
        with psycopg.connect(stack.servers.postgres.url) as owner:
            # Here, and for whoever connects from now on, a refusal is to be seen in the server's log.
            owner.execute("ALTER DATABASE postgres SET log_min_messages = 'error'")
        stack.start_processes()
        yield stack


@pytest.fixture
def administrator(whole):
    with redis.Redis.from_url(whole.servers.valkey.url) as client:
        client.acl_log_reset()
        yield client


def billing(whole: Stack, kind: str, *arguments: str) -> Ran:
    """The command in a terminal of this kind."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BILLING_")}
    return in_a_process(arguments, clean | whole.environment_of(kind))


@pytest.fixture
def refusals(whole):
    """What Postgres has refused since this test began, by its own log."""

    def refused() -> list[str]:
        return [line for line in whole.servers.postgres.child.output().splitlines() if "permission denied" in line]

    before = len(refused())
    return lambda: refused()[before:]


def test_a_capture_and_an_invoice_are_carried_out_and_archived_without_one_refusal(whole, administrator, refusals):
    intent = billing(whole, "operator", "standin", "authorize", "1999", "USD").out.strip()
    customer = billing(whole, "operator", "standin", "customer").out.strip()
    base = ("capture", "--payment-intent", intent, "--amount", "1999", "--currency", "USD", "--request-id", "order-1")
    capture = billing(whole, "application", *base, "--wait")
    assert capture.status == 0, capture.err
    again = billing(whole, "application", *base)
    assert "asked for before" in again.out
    asked = ("invoice", "issue", "--customer", customer, "--line", "3 seats=4500", "--currency", "EUR")
    invoice = billing(whole, "application", *asked, "--days-until-due", "14", "--request-id", "seats-1", "--wait")
    assert invoice.status == 0, invoice.err
    status = lambda: billing(whole, "reader", "archive", "status", "--json").json  # noqa: E731
    eventually(lambda: not any(status()["lag"].values()), "everything is archived")
    assert {part["retention_class"] for part in status()["classes"]} >= {"capture", "invoice"}
    verified = billing(whole, "reader", "archive", "verify")
    assert verified.status == 0, verified.out + verified.err
    # The key of a local archiver is in a file that no other process is given.
    assert "signed by key" in verified.out
    assert "not signed" not in verified.out
    assert [each["place"] for each in billing(whole, "reader", "archive", "status", "--json").json["published"]] == [
        "postgres"
    ]
    assert refusals() == []
    assert administrator.acl_log() == []
    assert all(child.poll() is None for child in whole.processes)


def test_every_process_has_the_login_of_its_kind(whole):
    query = "SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE application_name LIKE 'billing-%'"
    expected = {
        ("billing-relay", "billing_relay_postgres"),
        ("billing-worker-captures", "billing_worker_postgres"),
        ("billing-worker-invoices", "billing_worker_postgres"),
        ("billing-worker-maintenance", "billing_worker_postgres"),
        ("billing-archiver", "billing_archiver_postgres"),
    }
    # Each connects when it is ready, and again after a trouble.
    with psycopg.connect(whole.servers.postgres.url, autocommit=True) as owner:
        eventually(lambda: expected <= set(owner.execute(query).fetchall()), f"connected: {expected}")
    users = {"billing_relay", "billing_worker"}
    with redis.Redis.from_url(whole.servers.valkey.url) as administrator:
        eventually(lambda: users <= {client["user"] for client in administrator.client_list()}, f"connected: {users}")


def test_a_process_is_given_references_to_its_own_secrets_and_to_no_others(whole):
    for child in whole.processes:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes().decode()
        passwords = [path.read_text() for path in whole.servers.access.iterdir()]
        assert not any(secret in environment for secret in passwords)
        named = {path.name for path in whole.servers.access.iterdir() if str(path) in environment}
        kind = {"relay": "relay", "worker": "worker", "archive": "archiver"}[child.name.split("-")[0]]
        assert named
        # A worker of documents is a worker, with keys of its own in S3.
        of_documents = "documents" in child.name
        assert {name.split("_")[0] for name in named} == ({kind, "documents"} if of_documents else {kind})


def test_an_operator_pulls_a_switch_releases_it_looks_and_examines(whole, administrator, refusals):
    for arguments in (
        ("switch", "pull", "invoices", "--reason", "INC-12"),
        ("switch", "list"),
        ("switch", "release", "invoices", "--reason", "mended"),
        ("quarantine", "list"),
        ("explain", "order-1"),
        ("status", "order-1"),
        ("doctor",),
    ):
        ran = billing(whole, "operator", *arguments)
        assert ran.status == 0, (arguments, ran.out, ran.err)
    assert "each kind of process has exactly its rights; this is billing_operator_postgres" in ran.out
    assert "a locked object could not be deleted" in ran.out
    assert refusals() == []
    assert administrator.acl_log() == []


def test_an_operator_reconciles(whole, refusals):
    ran = billing(whole, "operator", "reconcile", "--json")
    # Its Redis login only reads: what that means for the pass is no part of the answer.
    assert (ran.status, ran.json["open"]) == (0, {}), ran.err
    assert refusals() == []


def test_the_keys_of_setup_make_a_bucket_once_an_operator_s_login_has_recorded_it(whole):
    for kind, status in {"reader": 2, "operator": 0}.items():
        keys = {name: value for name, value in whole.environment_of("setup").items() if "S3" in name}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BILLING_")}
        terminal = clean | whole.environment_of(kind) | keys | {"BILLING_ARCHIVE_BUCKET": "evidence-of-its-own"}
        ran = in_a_process(("archive", "setup", "--reason", "OPS-7", "--actor", "grace"), terminal)
        assert ran.status == status, ran.out + ran.err
        # A reader cannot record it, and so makes nothing.
        assert ("DATABASE_URL: permission denied" in ran.err) is (kind == "reader")
    assert "evidence-of-its-own was made" in ran.out
    told = billing(whole, "reader", "audit", "--command", "archive setup", "--json").json
    assert [(row["actor"], row["about"], row["outcome"]) for row in told] == [("grace", "evidence-of-its-own", "done")]


def test_an_operator_puts_back_what_lies_in_quarantine(whole, refusals):
    with psycopg.connect(whole.servers.postgres.url) as owner:
        owner.execute("UPDATE billing.work SET state = 'quarantined' WHERE contract = 'take_capture'")
        (work_id,) = owner.execute("SELECT id FROM billing.work WHERE state = 'quarantined'").fetchone()
    assert billing(whole, "operator", "quarantine", "show", work_id).status == 0
    replayed = billing(whole, "operator", "quarantine", "replay", work_id, "--reason", "a test")
    assert replayed.status == 0, replayed.err
    with psycopg.connect(whole.servers.postgres.url) as owner:
        done = lambda: owner.execute("SELECT state FROM billing.work WHERE id = %s", (work_id,)).fetchone()  # noqa: E731
        owner.autocommit = True
        eventually(lambda: done() == ("done",), "the worker has concluded it")
    assert refusals() == []


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (
            "reader",
            ("capture", "--payment-intent", "pi_1", "--amount", "1", "--currency", "USD", "--request-id", "x"),
            "DATABASE_URL: permission denied",
        ),
        ("reader", ("explain", "order-1"), "DATABASE_URL: permission denied"),
        ("application", ("switch", "pull", "captures", "--reason", "x"), "DATABASE_URL: permission denied"),
        ("application", ("archive", "run", "--once"), "BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY: "),
        ("worker", ("quarantine", "replay", "wrk_1", "--reason", "x"), "wrk_1"),
        ("archiver", ("relay",), "REDIS_URL: not set, and needed here"),
        ("reader", ("migrate",), "DATABASE_URL: permission denied"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_whoever_may_not_is_told_so_in_one_line(whole, refusals, kind, arguments, told):
    ran = billing(whole, kind, *arguments)
    assert ran.status == 2, ran.out + ran.err
    assert told in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith("billing: ")]) == 1
    # The control of "not one refusal" above: this is where one would be seen.
    assert bool(refusals()) is ("permission denied" in told)


def test_deliberate_violations_and_only_those_are_in_the_log_of_redis(whole, administrator):
    url = (whole.servers.access / "worker_redis_url").read_text()
    with redis.Redis.from_url(url, protocol=2) as worker:
        for command in ("FLUSHALL", "KEYS *", "GET session"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.execute_command(*command.split())
    logged = {(entry["username"], entry["object"]) for entry in administrator.acl_log()}
    assert logged == {("billing_worker", name) for name in ("flushall", "keys", "session")}


def test_with_a_database_of_your_own_every_process_uses_the_login_that_you_gave(template, service):
    given = {"DATABASE_URL": service.url}
    stack = Stack(given=given)
    stack.servers.start()
    try:
        for kind in ("relay", "worker", "operator"):
            assert stack.environment_of(kind)["DATABASE_URL"] == service.url
            assert stack.environment_of(kind)["REDIS_URL"].startswith("file:")
    finally:
        stack.stop()
