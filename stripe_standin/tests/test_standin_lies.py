"""Every lie works on every kind of object: alone, on a page, in a search, in an event. The true answer is saved."""

import pytest

from stripe_standin.hostile import LIES, UNSETTLED
from stripe_standin.routes import ROUTES

# The fields that each lie changes, if the object has them.
CHANGES = {
    "other_id": {"id"},
    "other_object": {"object"},
    "other_livemode": {"livemode"},
    "other_currency": {"currency"},
    "other_amount": {
        *("amount", "amount_received", "amount_captured", "amount_refunded", "amount_due", "amount_paid"),
        *("amount_requested", "subtotal", "total", "net"),
    },
    "not_end_state": {"status", "captured", "amount_received", "amount_capturable"},
}


@pytest.fixture
def objects(raw, control, customer):
    """The path of one of each kind of object that can be read by its id."""

    def post(path, **form):
        answer = raw("POST", f"/v1/{path}", {name.replace("__", "["): value for name, value in form.items()})
        assert answer.status == 200, answer.data
        return answer.json()["id"]

    paid = post(
        "payment_intents",
        amount="1000",
        currency="usd",
        customer=customer,
        payment_method="pm_card_visa",
        confirm="true",
        capture_method="automatic",
    )
    refund = post("refunds", payment_intent=paid, amount="100")
    invoice = post("invoices", customer=customer)
    item = post("invoiceitems", customer=customer, invoice=invoice, amount="500")
    post(f"invoices/{invoice}/pay", payment_method="pm_card_visa")
    note = post("credit_notes", invoice=invoice, amount="50", out_of_band_amount="50")
    price = post("prices", currency="usd", unit_amount="500", **{"product_data[name]": "seats"})
    rate = post("tax_rates", display_name="VAT", percentage="20", inclusive="false")
    coupon = post("coupons", percent_off="10", duration="once")
    hook = post("webhook_endpoints", url="http://127.0.0.1:9/hook", **{"enabled_events[]": "payout.failed"})
    control.advance(4 * 86_400)

    def first(things):
        return raw("GET", f"/v1/{things}").json()["data"][0]["id"]

    ids = {
        "payment_intents": paid,
        "refunds": refund,
        "invoices": invoice,
        "invoiceitems": item,
        "credit_notes": note,
        "prices": price,
        "tax_rates": rate,
        "coupons": coupon,
        "webhook_endpoints": hook,
        "customers": customer,
        "payment_methods": post("payment_methods", type="card", **{"card[token]": "tok_visa"}),
    }
    for things in ("charges", "events", "balance_transactions", "payouts", "invoice_payments"):
        ids[things] = raw("GET", f"/v1/{things}").json()["data"][0]["id"]
    return {things: f"/v1/{things}/{named}" for things, named in ids.items()}


def changed(truth, shown):
    assert truth.keys() == shown.keys()
    return {name for name in truth if truth[name] != shown[name]}


def lied(raw, path, lie):
    truth, shown = raw("GET", path).json(), raw("GET", path, X_Standin_Fault=lie).json()
    assert raw("GET", path).json() == truth
    return truth, shown


def test_every_kind_of_object_gets_a_lie_here(objects):
    readable = {name.split("/")[2] for name in ROUTES if name.startswith("GET ") and name.endswith("s/{id}")}
    assert set(objects) == readable
    assert set(CHANGES) == set(LIES)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_an_object_changes_what_its_name_says(raw, objects, lie):
    told_of = set()
    for things, path in objects.items():
        truth, shown = lied(raw, path, lie)
        if truth["object"] == "event":
            inner = changed(truth["data"]["object"], shown["data"]["object"])
            assert inner <= CHANGES[lie]
            truth["data"] = shown["data"]
            if lie == "other_id":
                assert inner == {"id"}
        changes = changed(truth, shown)
        assert changes <= CHANGES[lie], things
        if changes:
            told_of.add(things)
        for name in changes & CHANGES["other_amount"] if lie == "other_amount" else ():
            assert shown[name] == truth[name] + 1
    everything = set(objects)
    assert (
        told_of
        >= {
            "other_id": everything,
            "other_object": everything,
            "other_livemode": everything - {"refunds", "balance_transactions"},  # they have no `livemode`
            "other_currency": {"payment_intents", "charges", "refunds", "invoices", "credit_notes", "invoice_payments"},
            "other_amount": {"payment_intents", "charges", "refunds", "invoices", "credit_notes", "invoice_payments"},
            "not_end_state": {"payment_intents", "charges", "refunds", "invoices", "invoice_payments", "payouts"},
        }[lie]
    )


def test_every_object_with_a_state_before_its_end_is_served(raw, objects):
    assert set(UNSETTLED) <= {raw("GET", path).json()["object"] for path in objects.values()}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    "path",
    ["/v1/payment_intents", "/v1/refunds", "/v1/events", "/v1/invoices", "/v1/payment_intents/search?query=amount>1"],
)
def test_a_lie_about_a_page_is_about_each_of_its_objects(raw, objects, lie, path):
    truth, shown = lied(raw, path, lie)
    assert truth["data"]
    assert (shown["object"], shown["has_more"], shown["url"]) == (truth["object"], truth["has_more"], truth["url"])
    for before, after in zip(truth["data"], shown["data"], strict=True):
        event = before["object"] == "event"
        changes = changed(before["data"]["object"], after["data"]["object"]) if event else changed(before, after)
        assert changes <= CHANGES[lie]
        if lie in ("other_id", "other_object"):
            assert changes == CHANGES[lie]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_never_changes_a_refusal(raw, lie):
    truth, shown = lied(raw, "/v1/payment_intents/pi_none", lie)
    assert shown == truth


@pytest.mark.parametrize("things", ["refunds", "credit_notes", "payment_intents"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_one_answer_and_the_key_replays_the_true_one(raw, objects, lie, things):
    made_of = {
        "refunds": {"payment_intent": objects["payment_intents"].rpartition("/")[2], "amount": "7"},
        "credit_notes": {
            "invoice": objects["invoices"].rpartition("/")[2],
            "amount": "7",
            "credit_amount": "7",
        },
        "payment_intents": {"amount": "7", "currency": "usd"},
    }[things]
    shown = raw("POST", f"/v1/{things}", made_of, key="k", X_Standin_Fault=lie)
    truth = raw("POST", f"/v1/{things}", made_of, key="k")
    assert truth.headers["Idempotent-Replayed"] == "true"
    assert raw("GET", f"/v1/{things}/{truth.json()['id']}").json() == truth.json()
    assert changed(truth.json(), shown.json()) <= CHANGES[lie]
