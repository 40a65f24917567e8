"""Invoices of several batches that a restored database has forgotten: known again as a whole, or not at all."""

from command import Run
from service import Service, Through
from set_back import Backup, start
from sqlalchemy import func, select

import billing
from billing import database
from billing.gateway import NoAnswer
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
    batches = iter((None, None, NoAnswer("the last batch is lost")))
    lose = Through(service, before=lambda request: next(batches) if request.path.endswith("/add_lines") else None)
    service.work_off("invoices", lose)
    assert [record.state for record in service.records(part)] == ["answered"] * 3 + ["in_doubt"]
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


def test_an_invoice_that_stripe_reckoned_is_known_again_with_its_parts_and_not_asked_for_twice(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] From the archive, or only from Stripe."""
    vat = service.by_hand("/v1/tax_rates", "display_name=VAT&percentage=19&inclusive=false")
    customer, terms = service.customer(), billing.InvoiceTerms(memo="Thank you", tax_rates=[vat])
    lines = [
        billing.Line("a seat", billing.Money(1000, "EUR")),
        billing.Line("b", billing.Money(10, "EUR"), credit=True),
    ]

    def ask(request_id: str) -> billing.InvoiceReceipt:
        with database.transaction(service.engines["application"]) as session:
            due = billing.SendInvoice(14)
            return billing.issue_invoice(
                session, customer=customer, lines=lines, collect=due, terms=terms, request_id=request_id
            )

    assert run("archive", "run", "--once").status == 0
    backup.take()
    archived = ask("order-1").invoice_id
    assert service.settle(archived) == ["sent"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    only_at_stripe = ask("order-2").invoice_id
    assert service.settle(only_at_stripe) == ["sent"]
    sent = len(service.posts(""))
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    for invoice in (archived, only_at_stripe):
        row = service.row(Invoice, invoice)
        assert (row.state, row.subtotal_minor, row.discount_minor, row.tax_minor) == ("sent", 990, 0, 188)
        assert (row.total_minor, row.reckoned_minor) == (990, 1178)
    assert [ask(name).new for name in ("order-1", "order-2")] == [False, False]
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    service.relay.round()
    service.work_off("invoices")
    assert len(service.posts("")) == sent
