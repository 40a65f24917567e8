"""E-mail addresses, addresses, currencies: what is refused, and what is shown back."""

import pytest
import stripe

ADDRESS = {"city": "Ulm", "country": "DE", "line1": "Münsterplatz 1", "line2": None, "postal_code": "89073"}
ADDRESS["state"] = None
GIVEN = {name: value for name, value in ADDRESS.items() if value}


@pytest.mark.parametrize(
    "address",
    [
        *("foo", "foo@bar", " who@example.com", "who@example.com ", "who\uff20example.com", "wö@example.com"),
        *("@example.com", "who@localhost", "who@.com", "who@example.", "a b@example.com", "a@b@example.com"),
    ],
)
def test_a_wrong_address_is_refused(raw, control, customer, address):
    refusals = [
        (raw("POST", "/v1/customers", {"email": address}), "email"),
        (raw("POST", f"/v1/customers/{customer}", {"email": address}), "email"),
        (raw("POST", "/v1/payment_intents", {"amount": "1", "currency": "usd", "receipt_email": address}), None),
    ]
    for answer, param in refusals:
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "email_invalid", param or "receipt_email")
        assert error["message"] == f"Invalid email address: {address}"
    assert [each["kind"] for each in control.effects()] == ["customer.created"]


@pytest.mark.parametrize("address", ["a@b.de", "First.Last+tag@sub.example-1.co.uk", "o'hara@example.com"])
def test_an_address_is_kept_as_it_is(client, customer, address):
    assert client.v1.customers.update(customer, params={"email": address}).email == address
    assert client.v1.customers.update(customer, params={"email": ""}).email is None


@pytest.mark.parametrize("code", ["xyz", "euro", "us", "kwd", "bgn", "ghs", "", "usd,eur"])
def test_an_unknown_currency_is_refused(raw, control, customer, code):
    message = f"Invalid currency: {code}. Stripe currently supports these currencies: usd, aed, afn, all, "
    for path, form in (
        ("/v1/payment_intents", {"amount": "100"}),
        ("/v1/invoices", {"customer": customer}),
        ("/v1/invoiceitems", {"customer": customer, "amount": "100"}),
    ):
        error = raw("POST", path, {**form, "currency": code}).json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", "currency")
        assert error["message"].startswith(message)
    assert len(control.effects()) == 1


@pytest.mark.parametrize(("code", "amount"), [("EUR", 100), ("jpy", 100), ("krw", 1), ("isk", 500), ("xcg", 100)])
def test_a_currency_is_shown_in_small_letters(client, code, amount):
    intent = client.v1.payment_intents.create(params={"amount": amount, "currency": code})
    assert (intent.amount, intent.currency) == (amount, code.lower())


def test_the_goods_of_a_payment_go_with_its_charge(client):
    parcel = {"address": GIVEN, "name": "Ann", "carrier": "DHL"}
    shown = {"address": ADDRESS, "name": "Ann", "carrier": "DHL", "phone": None, "tracking_number": None}
    params = {"amount": 500, "currency": "eur", "shipping": parcel, "transfer_group": "order 7"}
    intent = client.v1.payment_intents.create(params=params)
    assert (intent.shipping.to_dict(), intent.transfer_group) == (shown, "order 7")
    params = {"payment_method": "pm_card_visa", "expand": ["latest_charge"]}
    charge = client.v1.payment_intents.confirm(intent.id, params=params).latest_charge
    assert (charge.shipping.to_dict(), charge.transfer_group) == (shown, "order 7")
    # The result is on the intent.
    later = client.v1.payment_intents.update(intent.id, params={"shipping": {**parcel, "tracking_number": "T1"}})
    assert later.shipping.tracking_number == "T1"
    assert client.v1.payment_intents.update(intent.id, params={"shipping": ""}).shipping is None


def test_goods_can_be_named_as_late_as_it_is_confirmed(client):
    intent = client.v1.payment_intents.create(params={"amount": 500, "currency": "eur"})
    params = {"payment_method": "pm_card_visa", "shipping": {"address": {"line1": "x"}, "name": "Ann"}}
    assert client.v1.payment_intents.confirm(intent.id, params=params).shipping.name == "Ann"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"shipping[name]": "Ann"}, "shipping[address]"),
        ({"shipping[address][line1]": "x"}, "shipping[name]"),
        ({"shipping[name]": "Ann", "shipping[address][street]": "x"}, "shipping[address][street]"),
        ({"shipping[name]": "Ann", "shipping[address]": ""}, "shipping[address]"),
    ],
)
def test_goods_need_a_name_and_an_address(raw, form, param):
    for path, more in (("/v1/payment_intents", {"amount": "500", "currency": "eur"}), ("/v1/customers", {})):
        answer = raw("POST", path, {**more, **form})
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)


def test_a_transfer_group_is_given_once(client):
    intent = client.v1.payment_intents.create(params={"amount": 500, "currency": "eur"})
    for _ in range(2):
        assert client.v1.payment_intents.update(intent.id, params={"transfer_group": "a"}).transfer_group == "a"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.update(intent.id, params={"transfer_group": "b"})
    assert refused.value.param == "transfer_group"


def test_a_customer_is_shown_with_everything_on_its_invoice_until_that_is_final(client, customer):
    params = {
        "address": GIVEN,
        "shipping": {"address": GIVEN, "name": "Ann", "phone": "+49"},
        "tax_exempt": "reverse",
        "preferred_locales": ["de", "en"],
        "phone": "+41",
    }
    changed = client.v1.customers.update(customer, params=params).to_dict()
    assert changed["address"] == ADDRESS
    assert changed["shipping"] == {"address": ADDRESS, "name": "Ann", "phone": "+49"}
    assert (changed["tax_exempt"], changed["preferred_locales"]) == ("reverse", ["de", "en"])
    draft = client.v1.invoices.create(params={"customer": customer})
    assert draft.customer_shipping.to_dict() == changed["shipping"]
    client.v1.customers.update(customer, params={"name": "Bob", "shipping": "", "tax_exempt": ""})
    final = client.v1.invoices.finalize_invoice(draft.id)
    client.v1.customers.update(customer, params={"name": "Cid"})
    final = client.v1.invoices.retrieve(final.id).to_dict()
    assert (final["customer_name"], final["customer_phone"], final["customer_address"]) == ("Bob", "+41", ADDRESS)
    assert (final["customer_shipping"], final["customer_tax_exempt"]) == (None, "none")


def test_an_invoice_has_custom_fields(client, raw, customer):
    fields = [{"name": "Order", "value": "7"}, {"name": "Our sign", "value": "x"}]
    draft = client.v1.invoices.create(params={"customer": customer, "custom_fields": fields})
    assert [field.to_dict() for field in draft.custom_fields] == fields
    path = f"/v1/invoices/{draft.id}"
    for form, param in (
        ({"custom_fields[0][name]": "x" * 41, "custom_fields[0][value]": "x"}, "custom_fields[0][name]"),
        ({"custom_fields[0][name]": "x"}, "custom_fields[0][value]"),
        ({f"custom_fields[{n}][{each}]": "x" for n in range(5) for each in ("name", "value")}, "custom_fields"),
    ):
        assert raw("POST", path, form).json()["error"]["param"] == param
    assert client.v1.invoices.update(draft.id, params={"custom_fields": ""}).custom_fields is None


def test_an_invoice_is_sent_only_to_a_customer_with_an_address(client, raw, control):
    nobody = client.v1.customers.create(params={"name": "Ann"}).id
    sent = {"collection_method": "send_invoice", "days_until_due": "3"}
    draft = client.v1.invoices.create(params={"customer": nobody})
    for path, form in (("/v1/invoices", {"customer": nobody, **sent}), (f"/v1/invoices/{draft.id}", sent)):
        answer = raw("POST", path, form)
        assert answer.status == 400
        assert answer.json()["error"]["message"].startswith("Missing email. In order to create invoices that are sent")
    assert len(control.effects("invoice.created")) == 1
    client.v1.customers.update(nobody, params={"email": "ann@example.com"})
    assert raw("POST", f"/v1/invoices/{draft.id}", sent).status == 200
