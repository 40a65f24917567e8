"""Invoice items and lines: what is to be billed, pending, on a draft, and fixed once that is final."""

import pytest
import stripe


@pytest.fixture
def draft(client, customer):
    return client.v1.invoices.create(params={"customer": customer})


def item(client, customer, amount, **more):
    return client.v1.invoice_items.create(params={"customer": customer, "amount": amount, "currency": "usd", **more})


def amounts(invoice):
    return [line.amount for line in invoice.lines.data]


def test_a_pending_item_waits_for_an_invoice_that_includes_it(client, control, customer):
    first, second = item(client, customer, 100), item(client, customer, 200, description="two")
    euros = client.v1.invoice_items.create(params={"customer": customer, "amount": 5, "currency": "eur"})
    assert client.v1.invoices.create(params={"customer": customer}).total == 0
    invoice = client.v1.invoices.create(
        params={"customer": customer, "pending_invoice_items_behavior": "include", "currency": "usd"}
    )
    assert (amounts(invoice), invoice.total) == ([200, 100], 300)
    assert client.v1.invoice_items.retrieve(first.id).invoice == invoice.id
    pending = lambda flag: [each.id for each in client.v1.invoice_items.list(params={"pending": flag}).data]  # noqa: E731
    assert (pending(True), pending(False)) == ([euros.id], [second.id, first.id])
    assert [each.id for each in client.v1.invoice_items.list(params={"invoice": invoice.id}).data] == [
        second.id,
        first.id,
    ]
    assert [each["amount"] for each in control.effects("invoiceitem.created")] == [100, 200, 5]


def test_the_currency_of_what_is_pending_is_the_invoices(client, customer):
    client.v1.invoice_items.create(params={"customer": customer, "amount": 500, "currency": "jpy"})
    invoice = client.v1.invoices.create(params={"customer": customer, "pending_invoice_items_behavior": "include"})
    assert (invoice.currency, invoice.total) == ("jpy", 500)


def test_units_times_their_price_make_the_amount(client, customer, draft):
    made = client.v1.invoice_items.create(
        params={"invoice": draft.id, "unit_amount_decimal": "10.5", "quantity": 3, "period": {"start": 10, "end": 20}}
    )
    assert (made.amount, made.quantity, made.customer) == (32, 3, customer)
    assert str(made.pricing.unit_amount_decimal) == "10.5"
    changed = client.v1.invoice_items.update(made.id, params={"quantity": 4})
    assert (changed.amount, client.v1.invoices.retrieve(draft.id).total) == (42, 42)
    changed = client.v1.invoice_items.update(made.id, params={"amount": 7, "metadata": {"a": "b"}})
    assert (changed.amount, changed.quantity, changed.metadata["a"]) == (7, 1, "b")
    line = client.v1.invoices.retrieve(draft.id).lines.data[0]
    assert (line.amount, line.metadata["a"], line.period.end) == (7, "b", 20)


def test_a_line_is_an_item_of_its_own(client, draft):
    filled = client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 100}, {"amount": 200}]})
    named = [line.parent.invoice_item_details.invoice_item for line in filled.lines.data]
    assert [client.v1.invoice_items.retrieve(each).amount for each in named] == [100, 200]
    deleted = client.v1.invoice_items.delete(named[0])
    assert deleted.deleted
    assert amounts(client.v1.invoices.retrieve(draft.id)) == [200]
    with pytest.raises(stripe.InvalidRequestError) as gone:
        client.v1.invoice_items.retrieve(named[0])
    assert (gone.value.http_status, gone.value.param) == (404, "id")


def test_what_is_added_later_stands_first(client, draft):
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 1}, {"amount": 2}]})
    filled = client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 3}], "invoice_metadata": {"a": "b"}})
    assert (amounts(filled), filled.metadata["a"]) == ([3, 1, 2], "b")


def test_lines_are_changed_and_removed_many_at_once(client, draft, customer):
    filled = client.v1.invoices.add_lines(
        draft.id, params={"lines": [{"amount": 100}, {"amount": 200}, {"amount": 300}]}
    )
    one, two, three = (line.id for line in filled.lines.data)
    changed = client.v1.invoices.update_lines(
        draft.id, params={"lines": [{"id": one, "amount": 110}, {"id": two, "description": "b"}]}
    )
    assert (amounts(changed), changed.lines.data[1].description, changed.total) == ([110, 200, 300], "b", 610)
    line = client.v1.invoices.line_items.update(draft.id, three, params={"amount": 330})
    assert (line.object, line.id, line.amount) == ("line_item", three, 330)
    rest = client.v1.invoices.remove_lines(
        draft.id, params={"lines": [{"id": one, "behavior": "delete"}, {"id": two, "behavior": "unassign"}]}
    )
    assert (amounts(rest), rest.total) == ([330], 330)
    pending = client.v1.invoice_items.list(params={"pending": True}).data
    assert [each.amount for each in pending] == [200]
    again = client.v1.invoices.add_lines(draft.id, params={"lines": [{"invoice_item": pending[0].id}]})
    assert (amounts(again), again.total) == ([200, 330], 530)


def test_an_item_is_fixed_once_its_invoice_is_final(client, customer, draft):
    made = item(client, customer, 100, invoice=draft.id)
    client.v1.invoices.finalize_invoice(draft.id)
    attempts = (
        lambda: client.v1.invoice_items.update(made.id, params={"amount": 1}),
        lambda: client.v1.invoice_items.delete(made.id),
        lambda: item(client, customer, 1, invoice=draft.id),
        lambda: client.v1.invoices.remove_lines(draft.id, params={"lines": [{"id": "il_1", "behavior": "delete"}]}),
    )
    for attempt in attempts:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            attempt()
        assert (refused.value.http_status, refused.value.code) == (400, "invoice_not_editable")
    assert client.v1.invoices.retrieve(draft.id).total == 100


def test_the_items_of_a_deleted_draft_stay_with_it(client, customer, draft):
    made = item(client, customer, 100, invoice=draft.id)
    client.v1.invoices.delete(draft.id)
    assert client.v1.invoice_items.list(params={"pending": True}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="has been deleted"):
        client.v1.invoice_items.update(made.id, params={"description": "x"})
    with pytest.raises(stripe.InvalidRequestError, match="no longer editable"):
        client.v1.invoice_items.delete(made.id)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"amount": "1"}, "customer"),
        ({"customer": "cus_none", "amount": "1"}, "customer"),
        ({"customer": "CUSTOMER"}, "amount"),
        ({"customer": "CUSTOMER", "amount": "1", "quantity": "2"}, "amount"),
        ({"customer": "CUSTOMER", "quantity": "2", "unit_amount_decimal": "1e3"}, "unit_amount_decimal"),
        ({"customer": "CUSTOMER", "quantity": "2", "unit_amount_decimal": "99999999"}, "unit_amount_decimal"),
        ({"customer": "CUSTOMER", "amount": "1", "period[start]": "5", "period[end]": "4"}, "period"),
        ({"customer": "CUSTOMER", "amount": "1", "invoice": "in_none"}, "invoice"),
        ({"customer": "CUSTOMER", "amount": "1", "price_data[currency]": "usd"}, "price_data"),
    ],
)
def test_a_wrong_item_is_refused(raw, control, customer, form, param):
    form = {name: customer if value == "CUSTOMER" else value for name, value in form.items()}
    answer = raw("POST", "/v1/invoiceitems", form)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert control.effects("invoiceitem.created") == []


def test_a_line_has_an_amount_or_a_quantity_and_not_both(raw, draft):
    answer = raw("POST", f"/v1/invoices/{draft.id}/add_lines", {"lines[0][amount]": "1", "lines[0][quantity]": "2"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "lines[0][amount]")
    assert raw("GET", f"/v1/invoices/{draft.id}").json()["total"] == 0


def test_an_item_cannot_be_on_two_invoices(client, raw, customer, draft):
    taken = item(client, customer, 100, invoice=draft.id)
    loose = item(client, customer, 100)
    other = client.v1.invoices.create(params={"customer": customer})
    path = f"/v1/invoices/{other.id}/add_lines"
    assert raw("POST", path, {"lines[0][invoice_item]": taken.id}).status == 400
    assert raw("POST", path, {"lines[0][invoice_item]": loose.id, "lines[1][invoice_item]": loose.id}).status == 400
    assert client.v1.invoices.retrieve(other.id).total == 0
