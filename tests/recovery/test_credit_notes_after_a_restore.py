"""A database is set back while invoices were credited: no note is issued twice, and each sum is right."""

import pytest
from command import Run
from service import Service, eventually
from set_back import Backup, start

from billing.states import WorkState
from billing.tables.credit_notes import CreditNote
from billing.tables.entities import Invoice, Refund
from billing.tables.invoice_actions import InvoiceAction

# No worker here fetches documents.
QUEUES = ("refunds", "invoices")


def turn(service: Service) -> None:
    service.relay.round()
    for queue in QUEUES:
        service.work_off(queue)


def sums(service: Service, invoice: str) -> tuple[int, int, int]:
    row = service.row(Invoice, invoice)
    return row.credited_minor, row.reduced_minor, row.returned_minor


def test_notes_of_the_gap_are_known_again_by_the_archive_and_by_stripe_and_none_is_repeated(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[70, 81] Of each kind one was archived, and one is only known at Stripe."""
    opened, paid = service.sent_invoice(), service.paid_invoice()
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()

    def issued(*notes: str) -> None:
        done = {"issued"}
        eventually(lambda: turn(service) or {service.status(each).state for each in notes} == done, "all are issued")

    archived = [service.credit(opened, 100), service.credit(paid, 200, "refund")]
    issued(*archived)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = [
        service.credit(opened, 10),
        *(service.credit(paid, 20, way) for way in ("balance", "out_of_band", "refund")),
    ]
    issued(*lost)
    refunds = [str(service.row(CreditNote, each).refund_id) for each in (archived[1], lost[3])]
    posted, credited = len(service.posts("/v1/credit_notes")), len(service.effects("credit_note.created"))

    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    eventually(
        lambda: turn(service) or set(service.states_of_work("refunds", "invoices")) == {WorkState.DONE},
        "all work is done",
    )
    assert (len(service.posts("/v1/credit_notes")), len(service.effects("credit_note.created"))) == (posted, credited)
    rows = [service.row(CreditNote, each) for each in (*archived, *lost)]
    assert {row.state for row in rows} == {"issued"}
    assert [row.settle for row in rows] == ["reduce", "refund", "reduce", "balance", "out_of_band", "refund"]
    assert [rows[1].refund_id, rows[5].refund_id] == refunds
    assert {service.row(Refund, each).state for each in refunds} == {"succeeded"}
    assert sums(service, opened) == (110, 110, 0)
    assert sums(service, paid) == (260, 0, 260)


def test_notes_that_were_voided_on_request_in_the_gap_are_known_as_voided_and_none_is_voided_again(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[70, 81] Issued before the backup, and voided after it; both archived after it; and both at Stripe alone."""
    opened = service.sent_invoice()
    before = service.credit(opened, 100)
    assert service.settle(before) == ["issued"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    archived = service.credit(opened, 200)
    assert service.settle(archived) == ["issued"]
    asked = [service.void_note(archived)]
    assert service.settle(*asked) == ["done"]
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = service.credit(opened, 300)
    assert service.settle(lost) == ["issued"]
    asked += [service.void_note(each) for each in (lost, before)]
    assert service.settle(*asked) == ["done"] * 3
    posted = len(service.posts(""))

    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    eventually(
        lambda: turn(service) or set(service.states_of_work("refunds", "invoices")) == {WorkState.DONE},
        "all work is done",
    )
    assert len(service.posts("")) == posted
    assert {service.status(each).state for each in (before, archived, lost)} == {"voided"}
    rows = [service.row(InvoiceAction, each) for each in asked]
    assert [(row.state, row.credit_note_id, row.amount_minor) for row in rows] == [
        ("done", archived, 200),
        ("done", lost, 300),
        ("done", before, 100),
    ]
    assert sums(service, opened) == (0, 0, 0)


@pytest.mark.parametrize("named", ["lines", "memo"])
def test_a_note_of_lines_or_with_a_memo_that_was_not_issued_yet_is_refused_after_a_restore(
    service: Service, run: Run, bucket: None, backup: Backup, named: str
) -> None:
    """Which lines it named, and what it said, is in no fact: it is not issued otherwise."""
    import billing

    invoice = service.sent_invoice()
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    if named == "lines":
        note = service.credit(invoice, None, lines=[billing.CreditLine(0, billing.Money(500, "EUR"))])
    else:
        note = service.credit(invoice, 500, memo="dear Erika")
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.put_back()
    start()
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    eventually(lambda: turn(service) or service.status(note).final, f"{note} is final")
    assert (service.status(note).state, service.status(note).reason) == ("refused", "lines_unknown")
    assert (service.posts("/v1/credit_notes"), sums(service, invoice)) == ([], (0, 0, 0))
