"""Invoices: draft, lines, final, sent; and a draft can be deleted."""

import pytest
import stripe


@pytest.fixture
def draft(client, customer):
    return client.v1.invoices.create(
        params={
            "customer": customer,
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "metadata": {"op_id": "inv_1"},
        }
    )


def add(client, invoice, *amounts):
    lines = [
        {"amount": amount, "description": f"line {n}", "metadata": {"n": str(n)}} for n, amount in enumerate(amounts)
    ]
    return client.v1.invoices.add_lines(invoice.id, params={"lines": lines})


def test_an_invoice_goes_from_draft_to_sent(client, control, draft):
    assert (draft.status, draft.number, draft.total, draft.auto_advance) == ("draft", None, 0, False)
    assert draft.hosted_invoice_url is None
    filled = add(client, draft, 1000, 250, -50)
    assert (filled.status, filled.subtotal, filled.total, filled.amount_due) == ("draft", 1200, 1200, 1200)
    assert [(line.amount, line.description, line.quantity) for line in filled.lines.data] == [
        (1000, "line 0", 1),
        (250, "line 1", 1),
        (-50, "line 2", 1),
    ]
    assert [line.metadata["n"] for line in filled.lines.data] == ["0", "1", "2"]
    final = client.v1.invoices.finalize_invoice(draft.id)
    assert (final.status, final.total, final.metadata["op_id"]) == ("open", 1200, "inv_1")
    assert final.number.endswith("-0001")
    assert final.hosted_invoice_url.startswith("https://")
    assert final.status_transitions.finalized_at == final.effective_at >= final.created
    assert final.due_date == final.effective_at + 30 * 86_400
    sent = client.v1.invoices.send_invoice(draft.id)
    assert sent.status == "open"
    assert [effect["kind"] for effect in control.effects() if effect["object"] == "invoice"] == [
        "invoice.created",
        "invoice.lines_added",
        "invoice.finalized",
        "invoice.sent",
    ]
    assert [event.type for event in client.v1.events.list(params={"type": "invoice.*"}).data] == [
        "invoice.sent",
        "invoice.finalized",
        "invoice.updated",
        "invoice.created",
    ]


def test_numbers_of_a_customer_have_no_gaps(client, customer):
    numbers = []
    for _ in range(3):
        invoice = client.v1.invoices.create(params={"customer": customer})
        add(client, invoice, 100)
        numbers.append(client.v1.invoices.finalize_invoice(invoice.id).number)
    assert [number[-4:] for number in numbers] == ["0001", "0002", "0003"]


def test_an_invoice_number_of_the_caller_is_accepted_once(client, customer):
    made = client.v1.invoices.create(params={"customer": customer, "number": "2026-0001"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.create(params={"customer": customer, "number": "2026-0001"})
    assert refused.value.param == "number"
    add(client, made, 100)
    assert client.v1.invoices.finalize_invoice(made.id).number == "2026-0001"


def test_an_invoice_of_nothing_is_paid_when_final(client, draft):
    final = client.v1.invoices.finalize_invoice(draft.id)
    assert (final.status, final.amount_due) == ("paid", 0)
    assert final.status_transitions.paid_at == final.status_transitions.finalized_at


def test_sending_a_draft_finalizes_it_first(client, control, draft):
    add(client, draft, 100)
    assert client.v1.invoices.send_invoice(draft.id).status == "open"
    kinds = [effect["kind"] for effect in control.effects()]
    assert kinds[-2:] == ["invoice.finalized", "invoice.sent"]


def test_a_draft_can_be_deleted_and_is_gone(client, control, draft):
    assert client.v1.invoices.delete(draft.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.retrieve(draft.id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    assert control.effects("invoice.deleted")[0]["id"] == draft.id
    assert client.v1.invoices.list().data == []


def test_a_final_invoice_is_fixed(client, draft):
    add(client, draft, 100)
    client.v1.invoices.finalize_invoice(draft.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.finalize_invoice(draft.id)
    assert (refused.value.http_status, refused.value.code) == (400, None)
    assert "already finalized" in str(refused.value)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        add(client, draft, 100)
    assert refused.value.code == "invoice_not_editable"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.delete(draft.id)


def test_only_an_invoice_to_be_sent_can_be_sent(client, customer):
    invoice = client.v1.invoices.create(params={"customer": customer})
    add(client, invoice, 100)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.send_invoice(invoice.id)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"


def test_more_than_ten_lines_are_read_page_by_page(client, draft):
    filled = add(client, draft, *range(1, 26))
    assert (len(filled.lines.data), filled.lines.has_more, filled.total) == (10, True, sum(range(1, 26)))
    assert [line.amount for line in filled.lines.auto_paging_iter()] == list(range(1, 26))


def test_an_invoice_has_at_most_250_lines(client, draft):
    add(client, draft, *[1] * 200)
    with pytest.raises(stripe.InvalidRequestError):
        add(client, draft, *[1] * 51)
    assert client.v1.invoices.retrieve(draft.id).total == 200


def test_invoices_are_listed_by_customer_status_and_time(client, control, customer, draft):
    add(client, draft, 100)
    client.v1.invoices.finalize_invoice(draft.id)
    control.advance(60)
    since = int(control.clock()["now"])
    late = client.v1.invoices.create(params={"customer": customer})

    def listed(**params):
        return [invoice.id for invoice in client.v1.invoices.list(params=params).data]

    assert listed(customer=customer) == [late.id, draft.id]
    assert listed(customer=customer, status="open") == [draft.id]
    assert listed(status="draft", created={"gte": since}) == [late.id]
    assert listed(customer=customer, limit=1, starting_after=late.id) == [draft.id]
    assert client.v1.invoices.list(params={"limit": 1}).has_more


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({}, "customer"),
        ({"customer": "cus_none"}, "customer"),
        ({"auto_advance": "yes"}, "auto_advance"),
        ({"pending_invoice_items_behavior": "some"}, "pending_invoice_items_behavior"),
        ({"subscription": "sub_1"}, "subscription"),
        ({"metadata": "words"}, "metadata"),
        ({"metadata[a][b]": "c"}, "metadata[a]"),
    ],
)
def test_a_create_that_asks_for_the_impossible_is_refused(raw, control, form, param):
    answer = raw("POST", "/v1/invoices", form)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert control.effects() == []


def test_a_due_date_belongs_to_an_invoice_to_be_sent(raw, customer):
    assert raw("POST", "/v1/invoices", {"customer": customer, "collection_method": "send_invoice"}).status == 400
    assert raw("POST", "/v1/invoices", {"customer": customer, "days_until_due": "3"}).status == 400


def test_a_line_without_an_amount_names_it(raw, draft):
    answer = raw("POST", f"/v1/invoices/{draft.id}/add_lines", {"lines[0][description]": "x"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "lines[0][amount]")
    answer = raw("POST", f"/v1/invoices/{draft.id}/add_lines", {"lines[0][amount]": "1", "lines[0][price]": "p"})
    assert answer.json()["error"]["code"] == "parameter_unknown"
