"""Rare cases: two unusual things at once, a bug of our own, a clock that jumped over both."""

import threading
import time

import orjson
import pytest
import stripe
from inside import ask
from validated import Judged

from stripe_standin.api import ROUTES
from stripe_standin.books import Shelf
from stripe_standin.expansion import paths
from stripe_standin.objects import Endpoint
from stripe_standin.world import Settings

DAY = 24 * 3600
OLD = ("2025-03-01.acacia", "2024-06-20", "2022-08-01")
CONFIRMED = {
    "amount": 1000,
    "currency": "usd",
    "confirm": True,
    "payment_method": "pm_card_visa",
    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
}


def asked(app, method, path, **headers):
    start, sent = ask(app, method, path, **headers)
    return start["status"], dict(start["headers"]), orjson.loads(sent["body"])


def test_a_bug_of_its_own_is_answered_and_saved_like_one_of_stripes(monkeypatch, capsys):
    """A 500 that freed its key would let a retry act again."""
    route = ROUTES["POST /v1/customers"]
    acted = []

    def broken(call):
        acted.append(route.answer(call))
        raise KeyError("a bug")

    monkeypatch.setitem(ROUTES, "POST /v1/customers", route._replace(answer=broken))
    app = Judged(Settings())
    first, again = (asked(app, "POST", "/v1/customers", idempotency_key="k") for _ in range(2))
    assert (first[0], first[2]) == (500, {"error": {"message": "An unknown error occurred.", "type": "api_error"}})
    assert again[0] == 500
    assert again[1][b"idempotent-replayed"] == b"true"
    assert len(acted) == 1
    assert "KeyError: 'a bug'" in capsys.readouterr().err


def test_a_bug_in_a_job_of_the_agenda_fails_no_request(monkeypatch, capsys):
    """The next request is answered, and later jobs run."""
    app = Judged(Settings())
    world, done = app.state.world, []

    def broken(call):
        raise KeyError("a bug")

    books = world.books(world.settings.account, False)
    world.agenda.note(0, broken, books, "x")
    world.agenda.note(1, lambda call: done.append(call.ids), books, "y")
    assert asked(app, "GET", "/v1/account")[0] == 200
    assert done == [("y",)]
    assert "KeyError: 'a bug'" in capsys.readouterr().err


def test_an_unsaved_refusal_that_left_something_is_a_violation(monkeypatch):
    """The judge checks this after each request."""
    route = ROUTES["POST /v1/customers"]

    def half(call):
        route.answer(call)
        from stripe_standin.errors import bad_request

        raise bad_request("no")

    monkeypatch.setitem(ROUTES, "POST /v1/customers", route._replace(answer=half))
    app = Judged(Settings())
    assert asked(app, "POST", "/v1/customers")[0] == 400
    assert [each["message"] for each in app.violations] == ["refused unsaved, with an effect"]


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize("path", paths("payment_intent"))
def test_older_versions_know_what_is_expanded(client_for, control, version, path):
    client = client_for(stripe_version=version)
    params = {**CONFIRMED, "expand": [path]}
    client.v1.payment_intents.create(params=params, options={"idempotency_key": "order:7"})
    assert len(control.effects("capture")) == 1


@pytest.mark.parametrize("what", ["add_lines", "remove_lines", "update_lines"])
def test_lines_that_are_refused_for_their_metadata_leave_nothing(client, control, customer, what):
    full = {f"k{n}": "v" for n in range(50)}
    draft = client.v1.invoices.create(params={"customer": customer, "metadata": full})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 100}]})
    line = client.v1.invoices.retrieve(draft.id).lines.data[0].id
    lines = {
        "add_lines": {"amount": 500},
        "remove_lines": {"id": line, "behavior": "delete"},
        "update_lines": {"id": line, "amount": 900},
    }
    before = len(control.effects()), len(client.v1.events.list(params={"limit": 100}).data)
    with pytest.raises(stripe.InvalidRequestError):
        getattr(client.v1.invoices, what)(
            draft.id, params={"lines": [lines[what]], "invoice_metadata": {"one": "more"}}
        )
    assert (len(control.effects()), len(client.v1.events.list(params={"limit": 100}).data)) == before
    assert client.v1.invoices.retrieve(draft.id).total == 100
    assert [item.amount for item in client.v1.invoice_items.list(params={"invoice": draft.id}).data] == [100]


def test_a_postponed_job_makes_nothing_older_than_what_came_since(client, control):
    """An event that is found by its key must not vanish behind one that looks older."""
    control.authorizations()
    control.advance(40 * DAY, expire=False)
    client.v1.payment_intents.create(params={"amount": 5, "currency": "usd"}, options={"idempotency_key": "k1"})
    since = int(control.clock()["now"]) - 60

    def keys():
        found = client.v1.events.list(params={"types": ["payment_intent.created"], "created": {"gte": since}})
        return [event.request.idempotency_key for event in found.data]

    assert keys() == ["k1"]
    control.advance(0, expire=True)
    assert len(control.effects("authorization.expired")) == 1
    assert keys() == ["k1"]


def test_a_key_that_was_in_flight_for_more_than_a_day_has_one_effect(client, control, intent):
    control.add_fault("hold_before", path="/capture$", times=1)
    taken = threading.Thread(
        target=lambda: client.v1.payment_intents.capture(intent, options={"idempotency_key": "late"})
    )
    taken.start()
    control.wait_held()
    # Its authorization has expired, too; only its key matters here.
    control.advance(DAY + 3600)
    client.v1.customers.create(options={"idempotency_key": "another"})
    control.release()
    taken.join()
    again = client.v1.payment_intents.capture(intent, options={"idempotency_key": "late"})
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    control.advance(DAY)
    client.v1.customers.create(options={"idempotency_key": "a third"})
    assert control.clock()["keys_kept"] == 1


def test_a_decline_on_request_shows_the_intent_that_it_is_about(client, control):
    made = client.v1.payment_intents.create(params={"amount": 5, "currency": "usd"})
    control.add_fault("402_declined", times=1)
    with pytest.raises(stripe.CardError) as refused:
        client.v1.payment_intents.confirm(made.id, params={"payment_method": "pm_card_visa"})
    assert refused.value.error.payment_intent.id == made.id


def test_a_500_with_effect_covers_a_decline(client, control):
    control.add_fault("500_with_effect", times=1)
    declined = {**CONFIRMED, "payment_method": "pm_card_visa_chargeDeclined"}
    with pytest.raises(stripe.APIError) as lost:
        client.v1.payment_intents.create(params=declined)
    assert lost.value.http_status == 500
    assert len(control.effects("decline")) == 1


@pytest.fixture
def paid(client, customer):
    """An invoice over 700: a line of 900, and a discount of 200."""
    draft = client.v1.invoices.create(params={"customer": customer})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 900}, {"amount": -200}]})
    return client.v1.invoices.pay(draft.id, params={"payment_method": "pm_card_visa"})


@pytest.mark.parametrize(
    ("credited", "units"),
    [((0, 0), ({"amount": 500}, {"amount": 500})), ((1,), ({"quantity": 3},)), ((0,), ({"quantity": 2},))],
)
def test_a_line_is_credited_up_to_its_amount_within_one_note(client, paid, credited, units):
    lines = [
        {"type": "invoice_line_item", "invoice_line_item": paid.lines.data[n].id, **each}
        for n, each in zip(credited, units, strict=True)
    ]
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.create(params={"invoice": paid.id, "lines": lines, "out_of_band_amount": 300})
    assert client.v1.credit_notes.list(params={"invoice": paid.id}).data == []


def test_a_credit_in_another_currency_is_not_lost(client, customer):
    client.v1.customers.balance_transactions.create(customer, params={"amount": -100, "currency": "usd"})
    draft = client.v1.invoices.create(params={"customer": customer, "currency": "eur"})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": -500}]})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.finalize_invoice(draft.id)
    assert client.v1.invoices.retrieve(draft.id).status == "draft"
    assert client.v1.customers.retrieve(customer).balance == -100


def test_the_card_of_a_deleted_customer_cannot_pay(client, control):
    customer = client.v1.customers.create(params={"email": "a@example.com", "payment_method": "pm_card_visa"})
    card = client.v1.customers.payment_methods.list(customer.id).data[0].id
    client.v1.customers.update(customer.id, params={"invoice_settings": {"default_payment_method": card}})
    draft = client.v1.invoices.create(params={"customer": customer.id, "auto_advance": True})
    client.v1.invoices.add_lines(draft.id, params={"lines": [{"amount": 700}]})
    asked = {"amount": 5, "currency": "usd", "customer": customer.id, "payment_method": card}
    intent = client.v1.payment_intents.create(params=asked)
    client.v1.customers.delete(customer.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.confirm(intent.id)
    control.advance(DAY)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(draft.id)
    assert control.effects("capture") == []


def test_a_receiver_that_drips_its_answer_keeps_no_thread(client, control, receiver, url):
    """Its bytes come one by one, each within the limit for one read."""
    import http.server

    class Drip(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b".")
                    time.sleep(0.02)
            except OSError:
                hung_up.set()

        def log_message(self, *_):
            pass

    hung_up = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        control.set_webhooks(timeout_s=0.2)
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        client.v1.webhook_endpoints.create(params={"url": address, "enabled_events": ["customer.created"]})
        client.v1.customers.create()
        assert hung_up.wait(90)
        server.shutdown()


def test_rows_made_and_removed_again_and_again_leave_no_gaps():
    shelf = Shelf[Endpoint]("webhook endpoint")
    kept = shelf.put(Endpoint("we_kept", 0, False, "", (), None, None, {}, ()))
    for n in range(20):
        shelf.put(Endpoint(f"we_{n}", 0, False, "", (), None, None, {}, ()))
        shelf.remove(f"we_{n}")
    assert shelf._rows == [kept]
