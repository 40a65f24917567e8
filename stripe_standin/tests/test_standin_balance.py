"""The ledger: each movement of money has its entry, the fee is kept, and a payout is the sum of what is in it."""

import pytest
import stripe

DAY = 86_400


@pytest.fixture(autouse=True)
def morning(control):
    """Shortly after midnight UTC, so that what a test does happens on one day."""
    control.advance(DAY - control.clock()["now"] % DAY + 1)


def entry_of(client, intent):
    charge = client.v1.payment_intents.retrieve(
        intent, params={"expand": ["latest_charge.balance_transaction"]}
    ).latest_charge
    return charge.balance_transaction


def entries(client, **params):
    return list(client.v1.balance_transactions.list(params={"limit": 100, **params}).auto_paging_iter())


def balance(client, status):
    return {each.currency: each.amount for each in client.v1.balance.retrieve()[status]}


@pytest.mark.parametrize(
    ("amount", "currency", "fee"),
    [
        (1000, "usd", 59),
        (1999, "usd", 88),  # 57.971 + 30
        (50, "usd", 31),  # 1.45 + 30
        (500, "jpy", 45),  # half a yen is rounded up: 14.5 + 30
        (99_999_999, "eur", 2_900_030),
    ],
)
def test_a_capture_is_entered_with_its_fee(client, control, amount, currency, fee):
    intent = control.authorizations(amount=amount, currency=currency)[0]
    captured = client.v1.payment_intents.capture(
        intent, params={"expand": ["latest_charge", "latest_charge.balance_transaction"]}
    )
    entry = captured.latest_charge.balance_transaction
    assert (entry.type, entry.reporting_category, entry.source) == ("charge", "charge", captured.latest_charge.id)
    assert (entry.amount, entry.fee, entry.net, entry.currency) == (amount, fee, amount - fee, currency)
    assert [(each.amount, each.currency, each.type) for each in entry.fee_details] == [(fee, currency, "stripe_fee")]
    assert (entry.status, entry.available_on) == ("pending", (entry.created // DAY + 2) * DAY)
    assert client.v1.balance_transactions.retrieve(entry.id).to_dict() == entry.to_dict()


def test_a_partial_capture_is_entered_as_what_was_captured(client, intent):
    client.v1.payment_intents.capture(intent, params={"amount_to_capture": 400})
    assert [(entry.amount, entry.type) for entry in entries(client)] == [(400, "charge")]


def test_only_money_that_moved_is_entered(client, control):
    held, gone = control.authorizations(2)
    client.v1.payment_intents.cancel(gone)
    assert (
        client.v1.payment_intents.retrieve(held, params={"expand": ["latest_charge"]}).latest_charge.captured is False
    )
    assert entries(client) == []


def test_entries_are_found_by_their_source(client, control):
    dollars, euros = control.authorizations(amount=1000), control.authorizations(amount=500, currency="eur")
    for intent in dollars + euros:
        client.v1.payment_intents.capture(intent)
    refund = client.v1.refunds.create(params={"payment_intent": dollars[0], "amount": 100})
    assert [entry.source for entry in entries(client, type="refund")] == [refund.id]
    assert [entry.amount for entry in entries(client, currency="eur")] == [500]
    assert [entry.id for entry in entries(client, source=refund.id)] == [refund.balance_transaction]
    assert [entry.amount for entry in entries(client)] == [-100, 500, 1000]
    with_source = entries(client, expand=["data.source", "data.source.payment_intent"])
    assert [entry.source.object for entry in with_source] == ["refund", "charge", "charge"]
    assert [entry.source.payment_intent.id for entry in with_source] == [dollars[0], *euros, *dollars]


def test_money_is_pending_for_two_days_and_then_goes_to_the_bank(client, control, intent):
    client.v1.payment_intents.capture(intent)
    entry = entry_of(client, intent)
    assert (balance(client, "pending"), balance(client, "available")) == ({"usd": 941}, {"usd": 0})
    control.advance(entry.available_on - control.clock()["now"] - 600)
    assert client.v1.payouts.list().data == []
    control.advance(600)
    assert client.v1.balance_transactions.retrieve(entry.id).status == "available"
    payout = client.v1.payouts.list().data[0]
    assert (payout.amount, payout.currency, payout.status) == (941, "usd", "in_transit")
    assert (payout.automatic, payout.reconciliation_status) == (True, "completed")
    assert payout.arrival_date == entry.available_on + DAY
    assert (balance(client, "pending"), balance(client, "available")) == ({"usd": 0}, {"usd": 0})
    control.advance(DAY)
    assert client.v1.payouts.retrieve(payout.id).status == "paid"
    events = client.v1.events.list(params={"type": "payout.*"}).data
    assert [event.type for event in events] == ["payout.paid", "payout.reconciliation_completed", "payout.created"]
    assert [effect["amount"] for effect in control.effects("payout")] == [941]


def test_a_payout_is_the_sum_of_what_is_in_it(client, control):
    for count, currency in ((3, "usd"), (2, "eur")):
        for intent in control.authorizations(count, amount=10_00, currency=currency):
            client.v1.payment_intents.capture(intent)
    control.advance(DAY)
    for intent in control.authorizations(2, amount=25_00):
        client.v1.payment_intents.capture(intent)
    client.v1.refunds.create(params={"payment_intent": intent, "amount": 700})
    control.advance(5 * DAY)
    payouts = client.v1.payouts.list().data
    assert sorted((payout.currency, payout.amount) for payout in payouts) == [
        ("eur", 2 * 941),
        ("usd", 3 * 941),
        ("usd", 2 * (2500 - 103) - 700),
    ]
    for payout in payouts:
        within = entries(client, payout=payout.id)
        own = [entry for entry in within if entry.type == "payout"]
        assert [(entry.id, entry.net) for entry in own] == [(payout.balance_transaction, -payout.amount)]
        assert sum(entry.net for entry in within if entry.type != "payout") == payout.amount
    assert sum(entry.net for entry in entries(client)) == 0


def test_nothing_goes_out_while_the_balance_is_negative(client, control):
    first = control.authorizations(amount=1000)[0]
    client.v1.payment_intents.capture(first)
    control.advance(3 * DAY)
    client.v1.refunds.create(params={"payment_intent": first})
    control.advance(3 * DAY)
    assert [payout.amount for payout in client.v1.payouts.list().data] == [941]
    assert balance(client, "available") == {"usd": -1000}
    # Later captures are added to it, and the payout contains both.
    for intent in control.authorizations(2, amount=1000):
        client.v1.payment_intents.capture(intent)
    control.advance(3 * DAY)
    payout = client.v1.payouts.list().data[0]
    assert payout.amount == 2 * 941 - 1000
    assert [entry.net for entry in entries(client, payout=payout.id, type="refund")] == [-1000]


def test_payouts_are_listed_by_status_and_by_arrival(client, control):
    for _ in range(2):
        client.v1.payment_intents.capture(control.authorizations()[0])
        control.advance(2 * DAY)
    new, old = client.v1.payouts.list().data
    assert [payout.id for payout in client.v1.payouts.list(params={"status": "paid"}).data] == [old.id]
    after_old = {"arrival_date": {"gt": old.arrival_date}}
    assert [payout.id for payout in client.v1.payouts.list(params=after_old).data] == [new.id]


def test_an_automatic_capture_is_entered_a_little_later(client, control):
    intent = client.v1.payment_intents.create(
        params={
            "amount": 1000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "expand": ["latest_charge.balance_transaction"],
        }
    )
    assert (intent.capture_method, intent.latest_charge.captured) == ("automatic_async", True)
    assert intent.latest_charge.balance_transaction is None
    control.advance(5)
    event = client.v1.events.list(params={"type": "charge.updated"}).data[0]
    entry = entry_of(client, intent.id)
    assert event.data.object["balance_transaction"] == entry.id
    assert entry.created == intent.latest_charge.created + 5
    assert [(entry.amount, entry.net) for entry in entries(client)] == [(1000, 941)]


def test_a_customer_is_found_four_levels_below(client, customer):
    client.v1.payment_intents.create(
        params={
            "amount": 1000,
            "currency": "usd",
            "customer": customer,
            "payment_method": "pm_card_visa",
            "confirm": True,
            "capture_method": "automatic",
        }
    )
    path = "data.source.payment_intent.customer"
    entry = entries(client, expand=[path])[0]
    assert entry.source.payment_intent.customer.id == customer


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("latest_charge.payment_intent.latest_charge.payment_intent.customer", "more than 4 levels"),
        ("latest_charge.review", "cannot be expanded"),
        ("amount", "cannot be expanded"),
    ],
)
def test_what_cannot_be_expanded_is_refused(client, intent, path, says):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.retrieve(intent, params={"expand": [path]})
    assert says in refused.value.user_message


def test_each_account_and_mode_has_a_balance_of_its_own(client, client_for, control, intent):
    client.v1.payment_intents.capture(intent)
    for other in (client_for("sk_live_standin"), client_for(stripe_account="acct_other")):
        assert entries(other) == []
        assert balance(other, "pending") == {"usd": 0}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client_for("sk_live_standin").v1.balance_transactions.retrieve(entry_of(client, intent).id)
    assert (refused.value.http_status, refused.value.error.code) == (404, "resource_missing")
