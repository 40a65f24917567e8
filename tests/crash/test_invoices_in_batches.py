"""An invoice whose lines take several calls: each line once, in the order asked for, wherever a worker dies."""

from itertools import product

import pytest
from deaths import BOUNDARIES
from service import Service
from worker import KILLED, fork_worker, reap

import billing
from billing.invoice_line_steps import LINES_OF_A_CALL
from billing.tables.entities import MAX_LINES, Invoice

BATCHES = ["add_lines_200", "add_lines_100", "add_lines"]
"""As they are added: the last one first, because Stripe shows later lines first."""
STEPS = ["create", *BATCHES, "finalize", "send"]


def ask(service: Service, customer: str | None = None, count: int = 201) -> str:
    lines = [billing.Line(f"item {number}", billing.Money(number + 1, "EUR")) for number in range(count)]
    return service.ask_for_invoice(customer, lines)


def shown(service: Service, invoice: str) -> list[tuple[str, int]]:
    """The lines of the invoice at Stripe, in their order there: their positions, and their amounts."""
    lines = service.read_list(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/lines")
    return [(line["metadata"]["billing_line"], line["amount"]) for line in lines]


def asked(count: int) -> list[tuple[str, int]]:
    return [(str(number), number + 1) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "calls"),
    [(LINES_OF_A_CALL, 1), (LINES_OF_A_CALL + 1, 2), (2 * LINES_OF_A_CALL, 2), (MAX_LINES, 3)],
)
def test_up_to_250_lines_stand_on_the_invoice_in_their_order(service: Service, count: int, calls: int) -> None:
    invoice = ask(service, count=count)
    assert service.settle(invoice) == ["sent"]
    assert shown(service, invoice) == asked(count)
    assert [record.step for record in service.records(invoice)] == ["create", *BATCHES[-calls:], "finalize", "send"]
    assert len(service.posts("/add_lines")) == calls


@pytest.mark.parametrize(
    ("fault", "lost"), [("drop_before", 1), ("drop_after_commit", 2), ("500_saved", 2), ("500_with_effect", 3)]
)
def test_a_lost_answer_to_any_batch_adds_no_line_twice(service: Service, fault: str, lost: int) -> None:
    """[1, 7, 8, 48]"""
    invoice = ask(service)
    service.standin.add_fault(fault, method="POST", path="/add_lines$", nth=lost)
    assert service.settle(invoice) == ["sent"]
    assert shown(service, invoice) == asked(201)


def test_a_batch_whose_key_is_forgotten_is_recognized_by_its_lines_and_not_added_again(service: Service) -> None:
    """[48] A look finds them after a day, when Stripe would execute the same key anew."""
    invoice = ask(service)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="send.after:3")) == KILLED
    service.age(invoice, 24 * 3600)
    service.standin.advance(24 * 3600)
    assert service.settle(invoice) == ["sent"]
    assert shown(service, invoice) == asked(201)
    assert len(service.posts("/add_lines")) == 3


def test_a_worker_killed_at_any_boundary_of_the_batches_leaves_each_line_once(service: Service) -> None:
    """[48, 54] And at a sample of pairs: the second one dies as it takes up what the first has left."""
    customer, died = service.customer(), dict[str, str]()
    alone = [f"{name}:{count}" for name in BOUNDARIES for count in (2, 3)]
    pairs = product(("send.before:2", "send.after:2"), ("send.before:1", "commit.after:1"))
    for deaths in [*((each,) for each in alone), *pairs]:
        invoice = ask(service, customer, count=LINES_OF_A_CALL + 1)
        service.plan()
        for number, boundary in enumerate(deaths):
            if number:
                service.age(invoice, service.timing.lease_s)
                service.relay.round()
            assert reap(fork_worker(service, "invoices", at=boundary)) == KILLED
        died[" then ".join(deaths)] = invoice
    print(f"batches: {len(died)} crash points: {', '.join(died)}")
    assert set(service.settle(*died.values())) == {"sent"}
    for boundary, invoice in died.items():
        assert shown(service, invoice) == asked(LINES_OF_A_CALL + 1), boundary
        row = service.row(Invoice, invoice)
        assert len(service.effects("invoice.lines_added", row.stripe_invoice)) == 2, boundary
        assert len(service.effects("invoice.finalized", row.stripe_invoice)) == 1, boundary


def test_a_line_that_is_lost_between_two_batches_has_the_draft_deleted_and_a_new_one_gets_them_all(
    service: Service,
) -> None:
    """[62] Somebody deletes one in the dashboard: the last batch compares all lines, and nothing is finalized. What was
    added to that draft says nothing about the next one."""
    invoice = ask(service)
    service.plan()
    assert reap(fork_worker(service, "invoices", at="commit.after:4")) == KILLED
    draft = service.row(Invoice, invoice).stripe_invoice
    line = service.read_list(f"/v1/invoices/{draft}/lines")[0]["id"]
    service.by_hand(f"/v1/invoices/{draft}/remove_lines", f"lines[0][id]={line}&lines[0][behavior]=delete")
    assert service.settle(invoice) == ["refused"]
    assert "lines: expected 201, found 200" in (service.status(invoice).reason or "")
    assert service.effects("invoice.finalized") == []
    assert [effect["id"] for effect in service.effects("invoice.deleted")] == [draft]
    service.reopen(invoice)
    assert service.settle(invoice) == ["sent"]
    assert shown(service, invoice) == asked(201)
    steps = [each.step for each in service.records(invoice) if "duplicate" not in each.step]
    assert steps == [*STEPS[:4], "delete_draft", *STEPS]
