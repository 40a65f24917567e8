"""Older API versions see objects as they were then, in answers and in webhooks; events keep their own."""

import pytest
import stripe

ACACIA, BEFORE_LATEST_CHARGE = "2024-09-30.acacia", "2022-08-01"


@pytest.fixture
def hook(client, receiver):
    def hook(version, *events):
        client.v1.webhook_endpoints.create(
            params={"url": f"{receiver.url}/{version}", "enabled_events": list(events), "api_version": version}
        )

    return hook


def as_of(version):
    return {"Stripe_Version": version}


def test_an_intent_shows_its_charges_before_there_was_a_latest_one(raw, intent):
    now = raw("GET", f"/v1/payment_intents/{intent}").json()
    then = raw("GET", f"/v1/payment_intents/{intent}", **as_of(BEFORE_LATEST_CHARGE)).json()
    assert "charges" not in now
    assert then["charges"]["object"] == "list"
    (charge,) = then["charges"]["data"]
    assert charge["id"] == now["latest_charge"]
    assert charge["refunds"]["data"] == []
    assert charge["invoice"] is None
    assert "charges" not in raw("GET", f"/v1/payment_intents/{intent}", **as_of("2022-11-15")).json()


def test_the_newest_charge_is_the_first(raw):
    form = {"amount": "100", "currency": "usd", "confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    declined = raw("POST", "/v1/payment_intents", form).json()["error"]["payment_intent"]
    path = f"/v1/payment_intents/{declined['id']}"
    raw("POST", path + "/confirm", {"payment_method": "pm_card_visa"})
    then = raw("GET", path, **as_of(BEFORE_LATEST_CHARGE)).json()
    assert [each["status"] for each in then["charges"]["data"]] == ["succeeded", "failed"]


def test_the_intent_in_an_error_is_of_the_same_version(raw):
    form = {"amount": "100", "currency": "usd", "confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    error = raw("POST", "/v1/payment_intents", form, **as_of(BEFORE_LATEST_CHARGE)).json()["error"]
    assert [each["id"] for each in error["payment_intent"]["charges"]["data"]] == [error["charge"]]


def test_an_invoice_has_its_fields_of_before_basil(raw, customer):
    invoice = raw("POST", "/v1/invoices", {"customer": customer}, **as_of(ACACIA)).json()
    assert (invoice["paid"], invoice["paid_out_of_band"], invoice["charge"]) == (False, False, None)
    assert "total_taxes" not in invoice
    assert "parent" not in invoice
    path = f"/v1/invoices/{invoice['id']}"
    invoice = raw("POST", path + "/add_lines", {"lines[0][amount]": "500"}, **as_of(ACACIA)).json()
    (line,) = invoice["lines"]["data"]
    assert (line["type"], line["proration"], line["tax_amounts"]) == ("invoiceitem", False, [])
    assert line["invoice_item"].startswith("ii_")
    assert "parent" not in line
    for version in ("2025-03-31.basil", "2026-10-28.endive"):
        assert "paid" not in raw("GET", path, **as_of(version)).json()


def test_a_deleted_object_has_nothing_to_undo(raw, customer):
    invoice = raw("POST", "/v1/invoices", {"customer": customer}).json()["id"]
    deleted = raw("DELETE", f"/v1/invoices/{invoice}", **as_of(BEFORE_LATEST_CHARGE))
    assert deleted.json() == {"id": invoice, "object": "invoice", "deleted": True}


def test_metadata_is_never_taken_for_an_object(raw):
    form = {"metadata[object]": "invoice", "name": "Ann"}
    made = raw("POST", "/v1/customers", form, **as_of(BEFORE_LATEST_CHARGE))
    assert (made.status, made.json()["metadata"]) == (200, {"object": "invoice"})


def test_reading_in_an_older_version_changes_nothing(raw, intent):
    before = raw("GET", f"/v1/payment_intents/{intent}").data
    raw("GET", f"/v1/payment_intents/{intent}", **as_of(BEFORE_LATEST_CHARGE))
    assert raw("GET", f"/v1/payment_intents/{intent}").data == before


def test_a_saved_answer_is_replayed_as_it_was_whatever_version_asks(raw, intent):
    path = f"/v1/payment_intents/{intent}/capture"
    first = raw("POST", path, {}, key="k", **as_of(BEFORE_LATEST_CHARGE))
    again = raw("POST", path, {}, key="k", **as_of(ACACIA))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.data == first.data
    assert "charges" in again.json()


def test_a_webhook_is_of_its_endpoints_version_and_the_event_of_the_accounts(client, control, receiver, hook, raw):
    hook(BEFORE_LATEST_CHARGE, "payment_intent.succeeded")
    hook(ACACIA, "payment_intent.succeeded")
    client.v1.payment_intents.capture(control.authorizations()[0])
    control.wait_webhooks()
    by_version = {each.path[1:]: each.event for each in receiver.all()}
    assert {path: event["api_version"] for path, event in by_version.items()} == {
        BEFORE_LATEST_CHARGE: BEFORE_LATEST_CHARGE,
        ACACIA: ACACIA,
    }
    assert "charges" in by_version[BEFORE_LATEST_CHARGE]["data"]["object"]
    assert "charges" not in by_version[ACACIA]["data"]["object"]
    assert "invoice" in by_version[ACACIA]["data"]["object"]
    event = by_version[ACACIA]["id"]
    for version in (BEFORE_LATEST_CHARGE, stripe.api_version):
        asked = raw("GET", f"/v1/events/{event}", **as_of(version)).json()
        assert asked["api_version"] == stripe.api_version
        assert "charges" not in asked["data"]["object"]


def test_a_late_webhook_shows_the_object_as_it_was_then(client, control, receiver, hook):
    hook(BEFORE_LATEST_CHARGE, "payment_intent.amount_capturable_updated")
    hook(stripe.api_version, "payment_intent.amount_capturable_updated")
    control.set_webhooks(outage=True)
    client.v1.payment_intents.capture(control.authorizations()[0])
    control.set_webhooks(outage=False)
    control.wait_webhooks()
    by_version = {each.path[1:]: each.event["data"]["object"] for each in receiver.all()}
    assert {each["status"] for each in by_version.values()} == {"requires_capture"}
    assert [each["captured"] for each in by_version[BEFORE_LATEST_CHARGE]["charges"]["data"]] == [False]


def paid_invoice(raw, customer, **params):
    invoice = raw("POST", "/v1/invoices", {"customer": customer}).json()["id"]
    raw("POST", f"/v1/invoices/{invoice}/add_lines", {"lines[0][amount]": "500"})
    paid = raw("POST", f"/v1/invoices/{invoice}/pay", params)
    assert paid.json()["status"] == "paid", paid.data
    return invoice


def test_a_paid_invoice_names_its_one_payment(raw, customer):
    method = raw("POST", "/v1/payment_methods/pm_card_visa/attach", {"customer": customer}).json()["id"]
    path = f"/v1/invoices/{paid_invoice(raw, customer, payment_method=method)}"
    then = raw("GET", path, **as_of(ACACIA)).json()
    assert (then["paid"], then["paid_out_of_band"]) == (True, False)
    intent = raw("GET", f"/v1/payment_intents/{then['payment_intent']}", **as_of(ACACIA)).json()
    charge = raw("GET", f"/v1/charges/{then['charge']}", **as_of(ACACIA)).json()
    assert intent["invoice"] == charge["invoice"] == then["id"]
    assert intent["latest_charge"] == charge["id"]
    for each in (then["payment_intent"], then["charge"]):
        things = "payment_intents" if each.startswith("pi_") else "charges"
        assert "invoice" not in raw("GET", f"/v1/{things}/{each}").json()


def test_an_invoice_paid_out_of_band_says_so(raw, customer):
    path = f"/v1/invoices/{paid_invoice(raw, customer, paid_out_of_band='true')}"
    then = raw("GET", path, **as_of(ACACIA)).json()
    assert (then["paid"], then["paid_out_of_band"], then["charge"]) == (True, True, None)


def test_an_invoice_item_shows_its_unit_amount(raw, customer):
    form = {"customer": customer, "amount": "500", "currency": "usd"}
    item = raw("POST", "/v1/invoiceitems", form, **as_of(ACACIA)).json()
    assert (item["unit_amount"], item["unit_amount_decimal"], item["price"]) == (500, "500", None)
    assert "pricing" not in item


AUTOMATIC = {"allow_redirects": "always", "enabled": True}


def test_payment_methods_are_those_of_the_dashboard_since_2023(raw):
    form = {"amount": "100", "currency": "usd"}
    path = f"/v1/payment_intents/{raw('POST', '/v1/payment_intents', form).json()['id']}"
    assert raw("GET", path).json()["automatic_payment_methods"] == AUTOMATIC
    assert raw("GET", path, **as_of("2023-08-16")).json()["automatic_payment_methods"] == AUTOMATIC
    assert raw("GET", path, **as_of("2022-11-15")).json()["automatic_payment_methods"] is None
    # Unless the request expands them.
    form |= {"automatic_payment_methods[enabled]": "true"}
    made = raw("POST", "/v1/payment_intents", form, **as_of("2022-11-15")).json()
    assert made["automatic_payment_methods"] == AUTOMATIC


def test_a_request_that_names_payment_methods_gets_no_others(raw):
    form = {"amount": "100", "currency": "usd", "payment_method_types[]": "card"}
    made = raw("POST", "/v1/payment_intents", form, **as_of(ACACIA)).json()
    assert made["automatic_payment_methods"] is None
    assert raw("GET", f"/v1/payment_intents/{made['id']}").json()["automatic_payment_methods"] is None


def test_released_money_counted_as_refunded_before_basil(raw, client, intent):
    client.v1.payment_intents.capture(intent, params={"amount_to_capture": 400})
    path = f"/v1/charges?payment_intent={intent}"
    seen = lambda **asked: raw("GET", path, **asked).json()["data"][0]  # noqa: E731
    assert (seen()["amount_refunded"], seen()["refunded"]) == (0, False)
    assert (seen(**as_of(ACACIA))["amount_refunded"], seen(**as_of(ACACIA))["refunded"]) == (600, False)
    client.v1.refunds.create(params={"payment_intent": intent})
    assert (seen()["amount_refunded"], seen()["refunded"]) == (400, True)
    assert (seen(**as_of(ACACIA))["amount_refunded"], seen(**as_of(ACACIA))["refunded"]) == (1000, True)


def test_what_expired_was_refunded_automatically_before_basil(raw, control, intent):
    path, charge = f"/v1/payment_intents/{intent}", f"/v1/charges?payment_intent={intent}"
    assert not raw("GET", charge, **as_of(ACACIA)).json()["data"][0]["refunded"]
    control.advance(8 * 24 * 3600)
    assert raw("GET", path).json()["cancellation_reason"] == "expired"
    assert raw("GET", path, **as_of(ACACIA)).json()["cancellation_reason"] == "automatic"
    (then,) = raw("GET", charge, **as_of(ACACIA)).json()["data"]
    assert (then["amount_refunded"], then["refunded"]) == (1000, True)
    assert not raw("GET", charge).json()["data"][0]["refunded"]


def test_a_declined_charge_never_was_refunded(raw):
    form = {"amount": "100", "currency": "usd", "confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    intent = raw("POST", "/v1/payment_intents", form).json()["error"]["payment_intent"]["id"]
    raw("POST", f"/v1/payment_intents/{intent}/cancel", {})
    (charge,) = raw("GET", f"/v1/charges?payment_intent={intent}", **as_of(ACACIA)).json()["data"]
    assert (charge["amount_refunded"], charge["refunded"]) == (0, False)


def test_a_charge_shows_its_refunds_and_a_credit_note_its_one(raw, customer):
    method = raw("POST", "/v1/payment_methods/pm_card_visa/attach", {"customer": customer}).json()["id"]
    invoice = paid_invoice(raw, customer, payment_method=method)
    form = {"invoice": invoice, "amount": "200", "refund_amount": "200"}
    note = raw("POST", "/v1/credit_notes", form, **as_of(BEFORE_LATEST_CHARGE)).json()
    assert "refunds" not in note
    charge = raw("GET", f"/v1/invoices/{invoice}", **as_of(ACACIA)).json()["charge"]
    then = raw("GET", f"/v1/charges/{charge}", **as_of(BEFORE_LATEST_CHARGE)).json()
    assert [(each["id"], each["amount"]) for each in then["refunds"]["data"]] == [(note["refund"], 200)]


def test_every_event_can_be_sent_in_the_oldest_version(raw, control, customer, receiver, hook):
    hook("2011-01-01", "*")
    method = raw("POST", "/v1/payment_methods/pm_card_visa/attach", {"customer": customer}).json()["id"]
    invoice = paid_invoice(raw, customer, payment_method=method)
    raw("POST", "/v1/credit_notes", {"invoice": invoice, "amount": "200", "refund_amount": "200"})
    item = raw("POST", "/v1/invoiceitems", {"customer": customer, "amount": "5", "currency": "usd"}).json()["id"]
    raw("DELETE", f"/v1/invoiceitems/{item}")
    draft = raw("POST", "/v1/invoices", {"customer": customer}).json()["id"]
    raw("DELETE", f"/v1/invoices/{draft}")
    control.authorizations()
    raw("DELETE", f"/v1/customers/{customer}")
    control.advance(10 * 24 * 3600)
    attempts = control.wait_webhooks()
    assert all(each["delivered"] for each in attempts)
    received = receiver.all()
    assert len(received) == len(attempts) > 20
    made = {each["id"]: each["type"] for each in raw("GET", "/v1/events?limit=100").json()["data"]}
    assert {each.event["id"]: each.event["type"] for each in received}.items() <= made.items()
