"""How invoices end is compared with Stripe, which nobody told us by a webhook."""

from datetime import timedelta

import pytest
from compared import differences, open_classes, reconcile
from service import Service

from billing.tables.entities import Invoice

ENDS = {"void": "voided", "mark_uncollectible": "uncollectible", "pay": "paid"}


def end(service: Service, invoice: str, how: str) -> None:
    body = "paid_out_of_band=true" if how == "pay" else ""
    service.by_hand(f"/v1/invoices/{service.row(Invoice, invoice).stripe_invoice}/{how}", body)


def observe(service: Service) -> None:
    service.relay.round()
    service.work_off("invoices")


@pytest.mark.parametrize(("how", "state"), ENDS.items())
def test_an_invoice_that_ended_at_stripe_is_noticed_and_settled(service: Service, how: str, state: str) -> None:
    invoice = service.sent_invoice()
    end(service, invoice, how)
    assert reconcile(service).counted.noticed > 0
    assert open_classes(service) == {"state": invoice}
    observe(service)
    assert service.status(invoice).state == state
    assert reconcile(service).counted.noticed == 0
    assert open_classes(service) == {}


@pytest.mark.parametrize(("how", "state"), ENDS.items())
def test_it_is_noticed_although_the_list_of_invoices_was_read_long_before_it_ended(
    service: Service, how: str, state: str
) -> None:
    invoice = service.sent_invoice()
    reconcile(service)
    end(service, invoice, how)
    # As if the time of the invoice itself was over, and that of its end was not.
    moved = "UPDATE billing.stripe_cursors SET {0} = {0} {1} interval '1 day' WHERE list = '{2}'"
    service.execute(moved.format("covered_until", "+", "invoices"))
    service.execute(moved.format("compared_until", "-", "invoice_ends"))
    report = reconcile(service, going_on=True, ahead=timedelta(seconds=40))
    (found,) = differences(service)
    assert found.stripe_id == service.row(Invoice, invoice).stripe_invoice
    assert (open_classes(service), report.counted.noticed) == ({"state": invoice}, 1)
    observe(service)
    assert service.status(invoice).state == state


def test_one_that_is_unpaid_here_and_one_that_was_given_up_are_paid_at_stripe(service: Service) -> None:
    unpaid, given_up = service.sent_invoice(), service.sent_invoice()
    service.execute("UPDATE billing.invoices SET state = 'unpaid' WHERE id = :id", id=unpaid)
    end(service, given_up, "mark_uncollectible")
    reconcile(service)
    observe(service)
    assert service.status(given_up).state == "uncollectible"
    for invoice in (unpaid, given_up):
        end(service, invoice, "pay")
    reconcile(service)
    observe(service)
    assert [service.status(invoice).state for invoice in (unpaid, given_up)] == ["paid", "paid"]
    reconcile(service)
    assert open_classes(service) == {}


@pytest.mark.parametrize(
    ("how", "ours", "kind"),
    [
        ("void", "paid", "missing_there"),
        ("mark_uncollectible", "paid", "missing_there"),
        (None, "paid", "missing_there"),
        ("pay", "voided", "missing_here"),
        ("mark_uncollectible", "voided", "missing_here"),
        (None, "voided", "missing_here"),
        (None, "uncollectible", "missing_here"),
    ],
)
def test_what_no_observation_can_bring_forward_is_a_difference_and_is_not_noticed(
    service: Service, how: str | None, ours: str, kind: str
) -> None:
    invoice = service.sent_invoice()
    if how is not None:
        end(service, invoice, how)
    service.execute(
        "UPDATE billing.invoices SET state = :ours, state_since = state_since - interval '5 minutes' WHERE id = :id",
        ours=ours,
        id=invoice,
    )
    report = reconcile(service)
    assert (open_classes(service), report.counted.noticed) == ({kind: invoice}, 0)


@pytest.mark.parametrize("ours", ["unpaid", "voided", "uncollectible", "paid"])
def test_one_that_stripe_was_asked_about_before_it_ended_here_is_no_difference(service: Service, ours: str) -> None:
    """The mirror shows an invoice as it was when its list was read."""
    invoice = service.sent_invoice()
    reconcile(service)
    service.execute(
        "UPDATE billing.invoices SET state = :ours, state_since = clock_timestamp() WHERE id = :id",
        ours=ours,
        id=invoice,
    )
    reconcile(service)
    assert open_classes(service) == {}
