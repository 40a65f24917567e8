"""Captures that were invoiced after a backup: known again with their invoices, so none is invoiced twice."""

from datetime import UTC, datetime
from typing import Any

from command import Run
from service import Service
from set_back import Backup, start
from sqlalchemy import select

import billing
from billing import database
from billing.periods import Calendars
from billing.tables.invoiced_captures import InvoicedCapture
from jobs.schedules import invoicing

OCTOBER = datetime(2025, 10, 15, 12, tzinfo=UTC)


def ask(service: Service, capture: str, customer: str, **more: Any) -> billing.InvoicedCaptureReceipt:
    with database.transaction(service.engines["application"]) as session:
        return billing.invoice_capture(session, capture=capture, customer=customer, description="an order", **more)


def known(service: Service) -> dict[str, tuple[Any, ...]]:
    """Everything but the text, which is in no fact, and what was computed from calls that are over."""
    with database.transaction(service.engine) as session:
        rows = session.scalars(select(InvoicedCapture)).all()
    names = ("account", "customer", "currency", "at_once", "invoice_id", "position", "billed_minor", "part")
    return {each.capture_id: tuple(getattr(each, name) for name in (*names, "period_start")) for each in rows}


def invoice(service: Service) -> int:
    return invoicing.invoice_captures(service.engines["worker"], Calendars(), lambda: 60).invoices


def test_what_was_invoiced_after_the_backup_is_not_invoiced_again(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] At once, and for a period; with one that waited in the backup, and one that was asked for after it."""
    customer = service.customer()
    captures = [service.captured_one() for _ in range(4)]
    service.execute("UPDATE billing.captures SET state_since = :at", at=OCTOBER)
    service.execute("UPDATE billing.idempotency_records SET first_sent_at = :at", at=OCTOBER)
    ask(service, captures[0], customer)
    assert run("archive", "run", "--once").status == 0
    backup.take()
    ask(service, captures[1], customer)
    told = ask(service, captures[2], customer, when="at_once").invoice_id
    assert invoice(service) == 1
    untold = ask(service, captures[3], customer, when="at_once").invoice_id
    before = known(service)
    assert service.settle(before[captures[0]][4], told, untold) == ["paid"] * 3
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert known(service) == before
    assert [ask(service, each, customer).new for each in captures[:2]] == [False, False]
    again = [ask(service, each, customer, when="at_once").invoice_id for each in captures[2:]]
    assert again == [told, untold]
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    assert invoice(service) == 0
    assert len(service.read_list("/v1/invoices")) == 3


def test_what_only_stripe_knows_is_marked_as_paid_and_not_charged(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] Its draft was made, and neither the request nor what became of it is archived."""
    customer, capture = service.customer(), service.captured_one()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    receipt = ask(service, capture, customer, when="at_once")
    assert service.settle(receipt.invoice_id) == ["paid"]
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert service.status(receipt.invoice_id).state == "paid"
    assert ask(service, capture, customer, when="at_once").invoice_id == receipt.invoice_id
    assert len(service.read_list("/v1/invoices")) == 1
