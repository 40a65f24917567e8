"""Customers and their payment methods: changed, listed, deleted, detached."""

import pytest
import stripe


def test_a_customer_changes(client, customer):
    changed = client.v1.customers.update(
        customer,
        params={
            "name": "Ann",
            "email": "ann@example.com",
            "address": {"city": "Ulm"},
            "metadata": {"a": "b"},
            "invoice_prefix": "ANN",
            "next_invoice_sequence": 7,
        },
    )
    assert (changed.name, changed.email, changed.address.city, changed.metadata["a"]) == (
        "Ann",
        "ann@example.com",
        "Ulm",
        "b",
    )
    assert client.v1.customers.update(customer, params={"address": ""}).address is None
    draft = client.v1.invoices.create(params={"customer": customer})
    assert client.v1.invoices.finalize_invoice(draft.id).number == "ANN-0007"
    assert [event.type for event in client.v1.events.list(params={"type": "customer.updated"}).data] == [
        "customer.updated"
    ] * 2


@pytest.mark.parametrize("prefix", ["", "ab", "ann", "A-B", "A" * 13])
def test_an_invoice_prefix_has_its_form(raw, customer, prefix):
    answer = raw("POST", f"/v1/customers/{customer}", {"invoice_prefix": prefix})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "invoice_prefix")


def test_customers_are_listed_by_email_and_time(client, control, customer):
    control.advance(60)
    since = int(control.clock()["now"])
    other = client.v1.customers.create(params={"email": "other@example.com", "balance": 5})
    listed = lambda **asked: [each.id for each in client.v1.customers.list(params=asked).data]  # noqa: E731
    assert listed() == [other.id, customer]
    assert listed(email="who@example.com") == [customer]
    assert listed(email="WHO@example.com") == []
    assert listed(created={"gte": since}) == [other.id]
    assert (other.balance, other.currency) == (5, "usd")


def test_a_deleted_customer_is_only_a_name(client, control, raw, customer):
    assert client.v1.customers.delete(customer).deleted
    gone = client.v1.customers.retrieve(customer)
    assert gone.to_dict() == {"id": customer, "object": "customer", "deleted": True}
    assert client.v1.customers.list().data == []
    assert raw("POST", "/v1/invoices", {"customer": customer}).json()["error"]["code"] == "resource_missing"
    assert raw("POST", f"/v1/customers/{customer}", {"name": "x"}).status == 404
    assert raw("DELETE", f"/v1/customers/{customer}").status == 404
    assert [each["id"] for each in control.effects("customer.deleted")] == [customer]


def test_an_invoice_outlives_its_customer(client, control, customer):
    draft = client.v1.invoices.create(params={"customer": customer, "auto_advance": True})
    opened = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.add_lines(opened.id, params={"lines": [{"amount": 100}]})
    client.v1.invoices.finalize_invoice(opened.id)
    client.v1.customers.delete(customer)
    control.advance(2 * 3600)
    assert client.v1.invoices.retrieve(draft.id).status == "draft"
    assert len(client.v1.events.list(params={"type": "invoice.finalization_failed"}).data) == 1
    assert client.v1.invoices.void_invoice(opened.id).status == "void"


def test_payment_methods_are_listed_by_customer(client, customer):
    one, two = (
        client.v1.payment_methods.attach(card, params={"customer": customer}).id
        for card in ("pm_card_visa", "pm_card_amex")
    )
    client.v1.payment_methods.create(params={"type": "card", "card": {"token": "tok_visa"}})
    assert [each.id for each in client.v1.payment_methods.list(params={"customer": customer}).data] == [two, one]
    assert [each.id for each in client.v1.customers.payment_methods.list(customer).data] == [two, one]
    assert client.v1.customers.payment_methods.retrieve(customer, one).card.brand == "visa"
    assert client.v1.payment_methods.update(one, params={"metadata": {"a": "b"}}).metadata["a"] == "b"


def test_a_detached_payment_method_cannot_be_used_again(client, control, customer):
    method = client.v1.payment_methods.attach("pm_card_visa", params={"customer": customer})
    client.v1.customers.update(customer, params={"invoice_settings": {"default_payment_method": method.id}})
    assert client.v1.payment_methods.detach(method.id).customer is None
    assert client.v1.customers.retrieve(customer).invoice_settings.default_payment_method is None
    assert len(control.effects("payment_method.detached")) == 1
    attempts = (
        lambda: client.v1.payment_methods.detach(method.id),
        lambda: client.v1.payment_methods.attach(method.id, params={"customer": customer}),
        lambda: client.v1.payment_methods.update(method.id, params={"metadata": {"a": "b"}}),
        lambda: client.v1.payment_intents.create(
            params={"amount": 100, "currency": "usd", "payment_method": method.id, "confirm": True}
        ),
    )
    for attempt in attempts:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            attempt()
        assert refused.value.http_status == 400


def test_a_default_payment_method_belongs_to_the_customer(client, raw, customer):
    other = client.v1.customers.create(params={"payment_method": "pm_card_visa"})
    [theirs] = client.v1.customers.payment_methods.list(other.id).data
    answer = raw("POST", f"/v1/customers/{customer}", {"invoice_settings[default_payment_method]": theirs.id})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "invoice_settings[default_payment_method]")
    made = client.v1.customers.create(
        params={"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    assert made.invoice_settings.default_payment_method is not None
    shown = client.v1.customers.retrieve(made.id, params={"expand": ["invoice_settings.default_payment_method"]})
    assert shown.invoice_settings.default_payment_method.card.brand == "visa"


def test_a_balance_is_in_one_currency(client, raw, customer):
    client.v1.customers.balance_transactions.create(customer, params={"amount": -100, "currency": "eur"})
    answer = raw("POST", f"/v1/customers/{customer}/balance_transactions", {"amount": "1", "currency": "usd"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "currency")
    draft = client.v1.invoices.create(params={"customer": customer, "currency": "usd"})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 100}]})
    assert client.v1.invoices.finalize_invoice(draft.id).amount_due == 100
    assert client.v1.customers.retrieve(customer).balance == -100
