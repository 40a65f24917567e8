"""Invoices of several batches that a restored database has forgotten: known again as a whole, or not at all."""

from command import Run
from service import Service
from set_back import Backup, start
from sqlalchemy import func, select
from worker import KILLED, fork_worker, reap

import billing
from billing import database
from billing.tables.entities import Invoice, InvoiceLine

LINES = [billing.Line(f"item {number}", billing.Money(number + 1, "EUR")) for number in range(201)]


def test_a_draft_with_a_part_of_its_lines_is_not_taken_for_the_whole_invoice(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[48, 81]"""
    backup.take()
    whole = service.ask_for_invoice(lines=LINES)
    assert service.settle(whole) == ["sent"]
    part = service.ask_for_invoice(lines=LINES)
    service.plan()
    # Its worker dies after the second batch.
    assert reap(fork_worker(service, "invoices", at="commit.after:4")) == KILLED
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    row = service.row(Invoice, whole)
    assert (row.state, row.total_minor) == ("sent", sum(line.amount.minor for line in LINES))
    with database.transaction(service.engine) as session:
        lines = dict(
            session.execute(select(InvoiceLine.invoice_id, func.count()).group_by(InvoiceLine.invoice_id)).all()
        )
        assert lines == {whole: 201}
        assert session.get(Invoice, part) is None
    assert len(service.effects("invoice.finalized")) == 1
