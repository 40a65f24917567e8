"""A database is set back while invoices were charged, and acted on by request: nothing is charged or done twice."""

from collections.abc import Mapping

import pytest
from command import Run
from service import Service, eventually
from set_back import Backup, start
from sqlalchemy import select

import billing
from billing import database
from billing.states import WorkState
from billing.tables.entities import Invoice
from billing.tables.invoice_actions import InvoiceAction
from billing.tables.work import Work

VISA, DECLINES = "pm_card_visa", "pm_card_chargeCustomerFail"
CHARGE = billing.ChargeAutomatically()
ENDS = {
    "pay_invoice": "paid",
    "mark_invoice_paid": "paid",
    "void_invoice": "voided",
    "mark_invoice_uncollectible": "uncollectible",
}
TOLD = ("invoice.partly_paid", "invoice.payment_failed")
EFFECTS = (
    *("capture", "invoice.created", "invoice.finalized", "invoice.sent", "invoice.paid", "invoice.paid_out_of_band"),
    *("invoice.voided", "invoice.marked_uncollectible"),
)


def archive(service: Service, run: Run) -> None:
    service.plan()
    assert run("archive", "run", "--once").status == 0


def charge(service: Service, card: str) -> str:
    return service.ask_for_invoice(service.payer(card)[0], collect=CHARGE)


def opened(service: Service, card: str = VISA) -> str:
    """One that was sent, to a customer who has a payment method."""
    customer, _ = service.payer(card)
    service.by_hand(f"/v1/customers/{customer}", "email=test%40example.com")
    return service.sent_invoice(customer=customer)


def later(service: Service, *entity_ids: str) -> None:
    """Nothing is done for these until `now`."""
    service.execute(
        "UPDATE billing.work SET due_at = now() + interval '1 hour', state = 'waiting' WHERE entity_id = ANY (:ids)",
        ids=list(entity_ids),
    )


def now(service: Service) -> None:
    service.execute("UPDATE billing.work SET due_at = clock_timestamp() WHERE state = 'waiting'")


def done_at_stripe(service: Service) -> Mapping[str, int]:
    """How often each effect took place, and how many requests changed something."""
    return {kind: len(service.effects(kind)) for kind in EFFECTS} | {"posts": len(service.posts(""))}


def recover(service: Service, run: Run, backup: Backup) -> None:
    """Nothing may differ in the end, and all work is done."""
    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0

    with_invoices = select(Work.entity_id).where(Work.queue == "invoices", Work.state != WorkState.DONE)

    def turn() -> bool:
        service.relay.round()
        service.work_off("invoices")
        with database.transaction(service.engine) as session:
            return session.scalars(with_invoices).first() is None

    eventually(turn, "all work with invoices is done")


def test_invoices_that_were_charged_in_the_gap_are_known_again_and_none_is_charged_again(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] Paid and declined: asked for before the backup; archived; or known at Stripe alone."""
    asked = [charge(service, VISA), charge(service, DECLINES)]
    archive(service, run)
    backup.take()
    later(service, *asked)
    archived = [charge(service, VISA), charge(service, DECLINES)]
    assert service.settle(*archived) == ["paid", "unpaid"]
    archive(service, run)
    now(service)
    assert service.settle(*asked) == ["paid", "unpaid"]
    lost = [charge(service, VISA), charge(service, DECLINES)]
    assert service.settle(*lost) == ["paid", "unpaid"]
    before = done_at_stripe(service)

    recover(service, run, backup)

    assert done_at_stripe(service) == before
    assert [effect["amount"] for effect in service.effects("capture")] == [4501] * 3
    for paid, unpaid in (asked, archived, lost):
        row = service.row(Invoice, paid)
        assert (row.state, row.final_minor, row.reason) == ("paid", 4501, None)
        row = service.row(Invoice, unpaid)
        assert (row.state, row.reason) == ("unpaid", "generic_decline")


def test_who_asks_for_a_charged_invoice_again_after_a_restore_gets_the_receipt_of_the_first(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] From the archive, or only from Stripe."""
    customer, _ = service.payer()
    archive(service, run)
    backup.take()
    archived = service.ask_for_invoice(customer, collect=CHARGE)
    assert service.settle(archived) == ["paid"]
    archive(service, run)
    lost = service.ask_for_invoice(customer, collect=CHARGE)
    assert service.settle(lost) == ["paid"]
    before = done_at_stripe(service)
    recover(service, run, backup)
    service._asked -= 2
    assert [service.ask_for_invoice(customer, collect=CHARGE) for _ in range(2)] == [archived, lost]
    assert done_at_stripe(service) == before


@pytest.mark.parametrize("action", ENDS)
def test_what_was_done_with_an_invoice_in_the_gap_is_known_again_and_is_not_repeated(
    service: Service, run: Run, bucket: None, backup: Backup, action: str
) -> None:
    """[81] Asked for before the backup; archived; at Stripe alone; and of an invoice that is there alone, too."""
    invoices = [opened(service) for _ in range(3)]
    actions = [service.act_on(invoices[0], action)]
    archive(service, run)
    backup.take()
    later(service, *actions)
    actions.append(service.act_on(invoices[1], action))
    assert service.settle(actions[1]) == ["done"]
    archive(service, run)
    now(service)
    assert service.settle(actions[0]) == ["done"]
    invoices.append(opened(service))
    actions += [service.act_on(invoice, action) for invoice in invoices[2:]]
    assert service.settle(*actions[2:]) == ["done", "done"]
    before, kind = done_at_stripe(service), service.row(InvoiceAction, actions[0]).action

    recover(service, run, backup)

    assert done_at_stripe(service) == before
    for asked, invoice in zip(actions, invoices, strict=True):
        row = service.row(InvoiceAction, asked)
        assert (row.state, row.action, row.invoice_id, row.amount_minor) == ("done", kind, invoice, 4501)
        assert service.status(invoice).state == ENDS[action]


def test_a_charge_on_request_that_was_declined_in_the_gap_is_not_made_again(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] Asked for before the backup; archived; or known at Stripe alone. The next request charges, once."""
    invoices = [opened(service, DECLINES) for _ in range(3)]
    actions = [service.act_on(invoices[0], "pay_invoice")]
    archive(service, run)
    backup.take()
    later(service, *actions)
    actions.append(service.act_on(invoices[1], "pay_invoice"))
    assert service.settle(actions[1]) == ["declined"]
    archive(service, run)
    now(service)
    assert service.settle(actions[0]) == ["declined"]
    actions.append(service.act_on(invoices[2], "pay_invoice"))
    assert service.settle(actions[2]) == ["declined"]
    before = done_at_stripe(service)

    recover(service, run, backup)

    assert done_at_stripe(service) == before
    for asked, invoice in zip(actions, invoices, strict=True):
        row = service.row(InvoiceAction, asked)
        assert (row.state, row.reason, row.invoice_id) == ("declined", "generic_decline", invoice)
        assert service.status(invoice).state == "sent"
    customer = service.row(Invoice, invoices[2]).customer
    method = service.by_hand("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
    assert service.settle(service.act_on(invoices[2], "pay_invoice", payment_method=method)) == ["done"]
    assert [effect["amount"] for effect in service.effects("capture")] == [4501]


def test_a_payment_that_failed_before_the_restore_is_not_told_a_second_time(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[81] Declined by its own charge, and on request: attempts and what was paid are in the facts, and so in the row
    that is made of them."""
    archive(service, run)
    backup.take()
    charged, sent = charge(service, DECLINES), opened(service, DECLINES)
    assert service.settle(charged) == ["unpaid"]
    assert service.settle(service.act_on(sent, "pay_invoice")) == ["declined"]
    service.notice(charged, sent)
    eventually(lambda: settled_looks(service), "both were looked at")
    paid = charge(service, VISA)
    assert service.settle(paid) == ["paid"]
    archive(service, run)
    of = (charged, sent, paid)
    before = {each: (told_of_payments(service, each), seen(service, each)) for each in of}
    assert before[sent][0] == ["invoice.payment_failed"]
    assert [each[1] for each in before.values()] == [(0, 1), (0, 1), (4501, 1)]

    recover(service, run, backup)
    assert {each: (told_of_payments(service, each), seen(service, each)) for each in of} == before

    service.notice(charged, sent)
    eventually(lambda: settled_looks(service), "both were looked at again")
    assert {each: (told_of_payments(service, each), seen(service, each)) for each in of} == before


def settled_looks(service: Service) -> bool:
    """Whether all work with invoices is done."""
    service.relay.round()
    service.work_off("invoices")
    return set(service.states_of_work("invoices")) <= {WorkState.DONE}


def seen(service: Service, invoice: str) -> tuple[int, int]:
    row = service.row(Invoice, invoice)
    return row.paid_minor or 0, row.attempts or 0


def told_of_payments(service: Service, invoice: str) -> list[str]:
    return [fact.topic for fact in service.facts(invoice) if fact.topic in TOLD]
