"""What processes export equals what they did, and they export all of the table and nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from scraping import MEASURED, Page, address, scrape
from service import Service, eventually

import billing
from billing import database, switches
from jobs.local.supervisor import Child
from jobs.metrics.instruments import RELAY, WORKER, instruments
from jobs.metrics.reading import SQL

TAKEN = 3
SOON = datetime.now(UTC) + timedelta(hours=2)


@pytest.fixture
def done(service: Service) -> dict[str, str]:
    """One capture of every kind, asked for before anything runs: by what becomes of it."""
    *taken, lost, declined, doubtful, odd, held = service.intents(TAKEN + 5)
    service.standin.add_fault("drop_after_commit", path=f"{lost}/capture$", times=1)
    service.standin.add_fault("402_declined", path=f"{declined}/capture$", times=1)
    service.standin.add_fault("drop_before", path=doubtful)
    asked = {name: service.ask_for_capture(intent) for name, intent in zip("abc", taken, strict=True)}
    asked |= {"lost": service.ask_for_capture(lost), "declined": service.ask_for_capture(declined)}
    asked["doubtful"] = service.ask_for_capture(doubtful)
    asked["odd"] = service.ask_for_capture(odd)
    asked["held"] = service.ask_for_capture(
        held, account="acct_1", authorization=billing.Authorization(1999, "USD", SOON)
    )
    asked["invoice"] = service.ask_for_invoice()
    # Past our functions: no call can be made from it, and there is no such currency.
    service.execute("UPDATE billing.captures SET currency = 'ZZZ' WHERE id = :id", id=asked["odd"])
    with database.transaction(service.engine) as session:
        switches.pull(session, "account:acct_1", actor="ops", reason="a test")
    return asked


def test_the_numbers_equal_what_was_done(service: Service, done: dict[str, str], spawn: Callable[..., Child]) -> None:
    relay, captures, invoices = (
        spawn(*role, **MEASURED) for role in (("relay",), ("worker", "captures"), ("worker", "invoices"))
    )
    ends = [done[name] for name in (*"abc", "lost", "declined", "invoice")]
    eventually(lambda: all(service.status(each).final for each in ends), "what can be final is final")
    eventually(lambda: service.work(done["odd"]).state == "quarantined", "what is odd is in quarantine")
    eventually(lambda: service.work(done["held"]).state == "held", "what is switched off is held")
    eventually(lambda: service.record(done["doubtful"]).state == "in_doubt", "what is lost is in doubt")

    def counted() -> Page | None:
        page = scrape(address(captures))
        return page if page.sum("billing_ended_total") == TAKEN + 2 else None

    worker = eventually(counted, "the last line is counted")
    assert worker.value("billing_captured_money_minor_total", currency="USD") == (TAKEN + 1) * 1999
    assert worker.value("billing_ended_total", contract="take_capture", state="captured") == TAKEN + 1
    assert worker.value("billing_ended_total", contract="take_capture", state="declined") == 1
    assert worker.value("billing_run_seconds_count", contract="take_capture") == TAKEN + 2
    # What is held or odd has no first call.
    assert worker.value("billing_wait_seconds_count", contract="take_capture") == TAKEN + 3
    assert worker.sum("billing_settled_total", standing="concluded") >= TAKEN + 2
    assert worker.sum("billing_settled_total", standing="in_doubt") >= 2
    assert worker.value("billing_settled_total", contract="take_capture", standing="unfit") == 1
    calls = {"contract": "take_capture", "called": "capture"}
    # How many calls it took depends on the machine: after a lease that ran out there is one more.
    assert worker.sum("billing_provider_call_seconds_count", **calls, answer="200") >= 1
    assert worker.sum("billing_provider_call_seconds_count", **calls, answer="402") >= 1
    assert worker.sum("billing_provider_call_seconds_count", answer="no_answer") >= 2
    assert worker.sum("billing_log_lines_total", event="operation.settled", level="error") >= 1
    assert worker.value("billing_lines_uncounted_total") == 0

    sent = eventually(lambda: _with_all_sent(invoices), "the invoice's last line is counted")
    assert sent.value("billing_invoiced_money_minor_total", currency="EUR") == 4501
    steps = {dict(labels)["called"] for labels in sent.all("billing_provider_call_seconds_count")}
    assert steps == {"create", "add_lines", "finalize", "send"}

    told = eventually(lambda: _with_all_read(relay), "everything is read from the database")
    assert told.value("billing_planned_total", contract="take_capture") == TAKEN + 5
    assert told.value("billing_work", queue="captures", state="held") == 1
    assert told.value("billing_work", queue="captures", state="quarantined") == 1
    assert told.value("billing_work", queue="invoices", state="ready") == 0
    doubtful = {"operation": "capture", "currency": "USD"}
    assert told.value("billing_in_doubt_operations", **doubtful) == 1
    assert told.value("billing_in_doubt_money_minor", **doubtful) == 1999
    stopped = {"operation": "capture", "state": "held", "currency": "USD"}
    assert told.value("billing_stopped_money_minor", **stopped) == 1999
    assert told.value("billing_stopped_money_minor", **{**stopped, "state": "quarantined", "currency": "other"}) == 1999
    assert told.value("billing_expiring_money_minor", currency="USD") == 1999
    assert told.value("billing_switches_pulled") == 1
    assert told.sum("billing_unarchived_facts") > 0

    for role, page in ((WORKER, worker), (RELAY, told)):
        assert ours(page) == table(role), role
    # Ids, names and accounts are in no number.
    everything = worker.labels | sent.labels | told.labels
    assert [each for each in everything if "_1" in each or each in done.values()] == []


def _with_all_sent(process: Child) -> Page | None:
    page = scrape(address(process))
    return page if page.value("billing_invoices_sent_total", currency="EUR") == 1 else None


def _with_all_read(process: Child) -> Page | None:
    """What is read is no older than the first scrape."""
    page = scrape(address(process))
    read = {dict(labels)["statement"] for labels in page.all("billing_database_reads_total")}
    return page if read == set(SQL) and page.value("billing_switches_pulled") is not None else None


def ours(page: Page) -> set[str]:
    return {name for name in page.names if name.startswith("billing_")}


def table(role: str) -> set[str]:
    return {each.name for each in instruments() if role in each.roles}
