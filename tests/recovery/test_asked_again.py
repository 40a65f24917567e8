"""An application repeats what a restored database has forgotten: it gets the first receipt, and nothing is taken twice.

The first request is known again from the archive or from Stripe alone, and it may be repeated after the recovery, or
before it.
"""

import pytest
from command import Run
from service import Service, eventually
from set_back import Backup, start

import billing
from billing import database
from billing.errors import RequestReused
from billing.request_ids import digest_of
from billing.states import WorkState
from billing.tables.entities import Capture, Invoice

QUEUES = ("captures", "invoices")
"""An invoice that was made again may also have its document fetched again, by another queue."""
KNOWN_BY = pytest.mark.parametrize("archived", [True, False], ids=["the archive", "Stripe alone"])


class Shop:
    """It asks for the same capture and the same invoice again and again, under the same request ids."""

    def __init__(self, service: Service) -> None:
        self.service = service
        (self.intent,), self.customer = service.intents(), service.customer()

    def capture(self, amount: int = 1999) -> billing.CaptureReceipt:
        with database.transaction(self.service.engines["application"]) as session:
            return billing.request_capture(
                session,
                payment_intent=self.intent,
                amount=billing.Money(amount, "USD"),
                request_id="order-17",
                # No text that the archive takes: only the digest leads back.
                correlation_id="a,walk",
                authorization=billing.Authorization(1999, "USD", None),
            )

    def invoice(self, amount: int = 4500, days: int = 14, correlation_id: str = "walk-18") -> billing.InvoiceReceipt:
        with database.transaction(self.service.engines["application"]) as session:
            return billing.issue_invoice(
                session,
                customer=self.customer,
                lines=[billing.Line("3 seats", billing.Money(amount, "EUR"))],
                collect=billing.SendInvoice(days_until_due=days),
                request_id="order-18",
                correlation_id=correlation_id,
            )


@pytest.fixture
def shop(service: Service) -> Shop:
    service.make_no_ticks()
    return Shop(service)


def ask_and_settle(shop: Shop, run: Run, *, archived: bool) -> tuple[str, str]:
    capture, invoice = shop.capture().capture_id, shop.invoice().invoice_id
    assert shop.service.settle(capture, invoice) == ["captured", "sent"]
    shop.service.plan()
    if archived:
        assert run("archive", "run", "--once").status == 0
    return capture, invoice


def lose(shop: Shop, run: Run, backup: Backup, *, archived: bool) -> tuple[str, str, int]:
    """Both are done, and forgotten: Postgres is set back behind them. Returns also how many calls that took."""
    backup.take()
    capture, invoice = ask_and_settle(shop, run, archived=archived)
    calls = len(shop.service.posts(""))
    backup.put_back()
    return capture, invoice, calls


def recover(run: Run) -> None:
    applied = run("recover", "--apply", "--reason", "INC-17", "--actor", "grace")
    assert applied.status == 0, applied.out + applied.err
    released = run("recover", "--release", "--reason", "INC-17", "--actor", "grace")
    assert released.status == 0, released.out + released.err


def all_is_done(service: Service) -> None:
    def turn() -> bool:
        service.relay.round()
        for queue in QUEUES:
            service.work_off(queue)
        return set(service.states_of_work(*QUEUES)) == {WorkState.DONE}

    eventually(turn, "all work is done")


@KNOWN_BY
def test_what_is_asked_for_again_after_the_recovery_is_the_first_request(
    service: Service, run: Run, bucket: None, backup: Backup, shop: Shop, archived: bool
) -> None:
    capture, invoice, calls = lose(shop, run, backup, archived=archived)
    start()
    recover(run)
    assert (shop.capture().capture_id, shop.capture().new) == (capture, False)
    assert (shop.invoice().invoice_id, shop.invoice().new) == (invoice, False)
    # Of an invoice that was made again, texts and days are not known.
    assert shop.invoice(days=30, correlation_id="walk-19").invoice_id == invoice
    with pytest.raises(RequestReused, match="amount_minor: first 1999, now 1000"):
        shop.capture(amount=1000)
    with pytest.raises(RequestReused, match="total_minor: first 4500, now 9000"):
        shop.invoice(amount=9000)
    for asked, made in (("order-17", capture), ("order-18", invoice)):
        assert run("explain", asked, "--json").json["operations"][0]["status"]["id"] == made
    all_is_done(service)
    assert len(service.posts("")) == calls
    assert service.captured(capture) == {1999: 1}


@KNOWN_BY
def test_what_was_asked_for_again_before_the_recovery_is_refused_and_never_sent(
    service: Service, run: Run, bucket: None, backup: Backup, shop: Shop, archived: bool
) -> None:
    capture, invoice, calls = lose(shop, run, backup, archived=archived)
    again = shop.capture().capture_id, shop.invoice().invoice_id
    assert set(again).isdisjoint({capture, invoice})
    start()
    # It is planned, and held.
    service.relay.round()
    service.work_off("invoices")
    recover(run)
    for table, second, first in ((Capture, again[0], capture), (Invoice, again[1], invoice)):
        row = service.row(table, second)
        assert (row.state, row.reason) == ("refused", f"asked_before: {first}")
        assert service.topics(second) == ["requested", "refused"]
    assert (shop.capture().capture_id, shop.invoice().invoice_id) == (capture, invoice)
    assert {service.row(Capture, capture).request_id, service.row(Invoice, invoice).request_id} == {
        "order-17",
        "order-18",
    }
    all_is_done(service)
    assert len(service.posts("")) == calls
    assert run("archive", "run", "--once").status == 0
    assert run("archive", "verify").status == 0


def test_what_was_asked_for_again_and_has_its_draft_already_is_for_a_person(
    service: Service, run: Run, bucket: None, backup: Backup, shop: Shop
) -> None:
    """A worker ran through the restore, and made a draft before the switch was pulled."""
    backup.take()
    _, invoice = ask_and_settle(shop, run, archived=False)
    backup.put_back()
    again = shop.invoice().invoice_id
    service.plan()
    for call in service.prepared("invoices").values():
        service.report(call)
    assert service.status(again).state == "drafted"
    start()
    recover(run)
    assert (service.work(again).state, service.work(again).reason) == ("quarantined", f"asked_before: {invoice}")
    service.relay.round()
    service.work_off("invoices")
    assert len(service.effects("invoice.finalized")) == 1
    # Whichever of the two an application is led to, it is no third one.
    assert shop.invoice().invoice_id == invoice


def test_what_is_asked_for_again_while_it_is_recovered_keeps_everything_stopped(
    service: Service, run: Run, bucket: None, backup: Backup, shop: Shop
) -> None:
    """The application's transaction began before the first was known again, and is committed after the comparison."""
    backup.take()
    _, invoice = ask_and_settle(shop, run, archived=True)
    backup.put_back()
    start()
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    # What such a transaction leaves: both are there.
    service.execute("UPDATE billing.invoices SET request_id = 'hidden' WHERE id = :id", id=invoice)
    again = shop.invoice().invoice_id
    digest = digest_of("order-18")
    service.execute(
        "UPDATE billing.invoices SET request_id = 'recovered:' || :digest WHERE id = :id", id=invoice, digest=digest
    )
    refused = run("recover", "--release", "--reason", "INC-17")
    assert refused.status == 1
    assert f"DIFFERS {again}: it repeats {invoice}" in refused.out
    recover(run)
    assert service.row(Invoice, again).state == "refused"
    assert shop.invoice().invoice_id == invoice


def test_no_application_chooses_the_id_of_what_was_made_again(service: Service) -> None:
    with (
        pytest.raises(billing.InvalidText, match="must not begin with recovered:"),
        database.transaction(service.engines["application"]) as session,
    ):
        billing.request_capture(
            session, payment_intent="pi_1", amount=billing.Money(1999, "USD"), request_id="recovered:order-17"
        )
