"""Webhooks are signed, go to the endpoints that asked for them, and are retried until they are delivered."""

import http.client
import signal
import threading
import time

import pytest
import stripe
from sdk_schema import problems

from stripe_standin.control import Control, ControlError

HOUR = 3600


@pytest.fixture
def listen(client, receiver):
    """An endpoint that sends to the receiver."""

    def listen(*events, path="/hook", **params):
        wanted = {"url": receiver.url + path, "enabled_events": list(events) or ["*"], **params}
        return client.v1.webhook_endpoints.create(params=wanted)

    return listen


def attempts(control, **filters):
    return [(each["attempt"], each["status"]) for each in control.webhooks(wait_s=60, **filters)["attempts"]]


def types(webhooks):
    return [each.event["type"] for each in webhooks]


def test_a_webhook_is_what_the_official_library_accepts(client, control, receiver, listen):
    endpoint = listen("payment_intent.succeeded")
    intent = control.authorizations()[0]
    client.v1.payment_intents.capture(intent, options={"idempotency_key": "order:7"})
    webhook = receiver.next()
    event = client.construct_event(webhook.body, webhook.headers["Stripe-Signature"], endpoint.secret)
    assert (event.type, event.data.object["id"], event.request.idempotency_key) == (
        "payment_intent.succeeded",
        intent,
        "order:7",
    )
    assert event.pending_webhooks == 1
    assert webhook.headers["Content-Type"].startswith("application/json")
    assert problems(webhook.event, stripe.Event) == []
    assert problems(webhook.event["data"]["object"], stripe.PaymentIntent) == []
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(webhook.body + b" ", webhook.headers["Stripe-Signature"], endpoint.secret)
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(webhook.body, webhook.headers["Stripe-Signature"], "whsec_other")


def test_a_webhook_verifies_after_the_clock_was_moved(client, control, receiver, listen):
    endpoint = listen("charge.expired")
    control.authorizations()
    control.advance(8 * 24 * HOUR)
    webhook = receiver.next()
    stamp = int(webhook.headers["Stripe-Signature"].split(",")[0].removeprefix("t="))
    assert abs(stamp - time.time()) < 60
    assert client.construct_event(webhook.body, webhook.headers["Stripe-Signature"], endpoint.secret).created > stamp


def test_each_endpoint_gets_what_it_asked_for_in_the_order_of_the_events(client, control, receiver, listen):
    listen("charge.captured", "charge.succeeded", path="/charges")
    listen(path="/all")
    client.v1.payment_intents.capture(control.authorizations()[0])
    control.wait_webhooks()
    received = receiver.all()
    assert types(each for each in received if each.path == "/charges") == ["charge.succeeded", "charge.captured"]
    assert types(each for each in received if each.path == "/all") == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]


def test_nothing_goes_to_another_account_or_mode(client_for, control, receiver, raw):
    control.set_keys(accounts={"sk_test_other": "acct_other"})
    for key in ("sk_test_other", "sk_test_standin"):
        raw(
            "POST",
            "/v1/webhook_endpoints",
            {"url": f"{receiver.url}/{key}", "enabled_events[0]": "customer.created"},
            api_key=key,
        )
    raw("POST", "/v1/customers", {"name": "live"}, api_key="sk_live_standin")
    raw("POST", "/v1/customers", {"name": "other"}, api_key="sk_test_other")
    control.wait_webhooks()
    assert [(each.path, each.event["data"]["object"]["name"]) for each in receiver.all()] == [
        ("/sk_test_other", "other")
    ]


def test_a_disabled_endpoint_never_gets_the_events_of_that_time(client, control, receiver, listen, raw):
    endpoint = listen("customer.created")
    for disabled, name in ((True, "a"), (False, "b")):
        client.v1.webhook_endpoints.update(endpoint.id, params={"disabled": disabled})
        raw("POST", "/v1/customers", {"name": name})
    control.wait_webhooks()
    assert [each.event["data"]["object"]["name"] for each in receiver.all()] == ["b"]


def test_a_failed_webhook_is_tried_three_more_times_in_a_sandbox(client, control, receiver, listen, customer):
    endpoint = listen("customer.created")
    receiver.answer = lambda webhook: 500
    client.v1.customers.create()
    event = client.v1.events.list(params={"type": "customer.created"}).data[0]
    assert attempts(control) == [(1, 500)]
    assert client.v1.events.retrieve(event.id).pending_webhooks == 1
    first = receiver.next()
    for retried, hours in ((2, 0.6), (3, 1.1), (4, 2.1)):
        assert control.webhooks()["scheduled"] == 1
        control.advance(hours * HOUR)
        assert attempts(control)[-1] == (retried, 500)
        webhook = receiver.next()
        assert webhook.event["id"] == first.event["id"]
        assert client.construct_event(webhook.body, webhook.headers["Stripe-Signature"], endpoint.secret).id == event.id
    assert control.webhooks()["scheduled"] == 0
    assert client.v1.events.retrieve(event.id).pending_webhooks == 1


def test_a_moved_clock_makes_all_retries_at_once_and_in_order(client, control, receiver, listen):
    listen("customer.created")
    receiver.answer = lambda webhook: 500
    for name in ("a", "b"):
        client.v1.customers.create(params={"name": name})
    control.wait_webhooks()
    control.advance(24 * HOUR)
    control.wait_webhooks()
    names = [each.event["data"]["object"]["name"] for each in receiver.all()]
    assert names == ["a", "b"] * 4


def test_live_mode_tries_for_three_days_with_growing_pauses(client_for, control, raw):
    live = client_for("sk_live_standin")
    unreachable = {"url": "https://127.0.0.1:9/", "enabled_events": ["customer.created"]}
    live.v1.webhook_endpoints.create(params=unreachable)
    live.v1.customers.create()
    began = control.clock()["now"]
    tried = []
    for _ in range(4 * 24):
        control.advance(HOUR)
        tried += control.webhooks(after=len(tried), wait_s=60)["attempts"]
    assert len(tried) == 11
    assert 2.5 * 24 * HOUR < tried[-1]["time"] - began < 3 * 24 * HOUR
    assert all(each["status"] is None and "refused" in each["error"] for each in tried)


def test_delivered_and_undelivered_events_are_listed_apart(client, control, receiver, listen):
    listen("customer.created", path="/good")
    listen("customer.created", "customer.updated", path="/bad")
    receiver.answer = lambda webhook: 200 if webhook.path == "/good" else 500
    client.v1.customers.create()
    control.wait_webhooks()
    undelivered = client.v1.events.list(params={"delivery_success": False}).data
    assert [(each.type, each.pending_webhooks) for each in undelivered] == [("customer.created", 1)]
    assert client.v1.events.list(params={"delivery_success": True}).data == []
    receiver.answer = lambda webhook: 200
    control.advance(HOUR)
    control.wait_webhooks()
    assert client.v1.events.list(params={"delivery_success": False}).data == []
    assert [each.pending_webhooks for each in client.v1.events.list(params={"delivery_success": True}).data] == [0]


@pytest.mark.parametrize("end", ["deleted", "disabled"])
def test_an_endpoint_that_is_gone_gets_no_retries(client, control, receiver, listen, end):
    endpoint = listen("customer.created")
    receiver.answer = lambda webhook: 500
    client.v1.customers.create()
    assert attempts(control) == [(1, 500)]
    if end == "deleted":
        client.v1.webhook_endpoints.delete(endpoint.id)
    else:
        client.v1.webhook_endpoints.update(endpoint.id, params={"disabled": True})
    control.advance(24 * HOUR)
    assert attempts(control) == [(1, 500)]
    assert control.webhooks()["scheduled"] == 0
    assert len(client.v1.events.list(params={"delivery_success": False}).data) == 1


def test_an_endpoint_enabled_again_in_time_gets_its_retry(client, control, receiver, listen):
    endpoint = listen("customer.created")
    receiver.answer = lambda webhook: 500
    client.v1.customers.create()
    control.wait_webhooks()
    client.v1.webhook_endpoints.update(endpoint.id, params={"disabled": True})
    client.v1.webhook_endpoints.update(endpoint.id, params={"disabled": False})
    receiver.answer = lambda webhook: 204
    control.advance(HOUR)
    assert attempts(control) == [(1, 500), (2, 204)]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(client, control, receiver, listen, status):
    listen("customer.created")
    receiver.answer = lambda webhook: status
    client.v1.customers.create()
    assert attempts(control) == [(1, status)]
    assert [each.path for each in receiver.all()] == ["/hook"]
    assert control.webhooks()["scheduled"] == 1


def test_a_receiver_that_hangs_delays_no_other(client, control, receiver, listen):
    release = threading.Event()
    receiver.answer = lambda webhook: 200 if webhook.path == "/good" or release.wait(90) else 500
    listen("customer.created", path="/hangs")
    listen("customer.created", path="/good")
    control.set_webhooks(timeout_s=60)
    for _ in range(2):
        client.v1.customers.create()
    # The second webhook to /good starts when the first is answered; /hangs answers nothing until it is released.
    assert sorted(receiver.next().path for _ in range(3)) == ["/good", "/good", "/hangs"]
    release.set()
    assert [each["delivered"] for each in control.wait_webhooks()] == [True] * 4


def test_a_receiver_that_does_not_answer_in_time_is_a_failure(client, control, receiver, listen):
    release = threading.Event()
    receiver.answer = lambda webhook: 200 if release.wait(90) else 500
    listen("customer.created")
    control.set_webhooks(timeout_s=0.3)
    client.v1.customers.create()
    (attempt,) = control.wait_webhooks()
    release.set()
    assert (attempt["delivered"], attempt["error"]) == (False, "no answer within 0.3 s")


def test_the_stand_in_stops_at_once_though_a_receiver_hangs(start, receiver):
    release = threading.Event()
    receiver.answer = lambda webhook: 200 if release.wait(90) else 500
    with start() as (url, process):
        client = stripe.StripeClient("sk_test_x", base_addresses={"api": url})
        wanted = {"url": receiver.url, "enabled_events": ["customer.created"]}
        client.v1.webhook_endpoints.create(params=wanted)
        Control(url).set_webhooks(timeout_s=60)
        client.v1.customers.create()
        receiver.next()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    release.set()


def test_a_late_answer_does_not_reach_the_world_after_a_reset(client, control, receiver, listen):
    release = threading.Event()
    receiver.answer = lambda webhook: 200 if not release.wait(30) else 500
    listen("customer.created")
    client.v1.customers.create()
    receiver.next()
    control.reset()
    release.set()
    state = control.webhooks(wait_s=5)
    assert (state["attempts"], state["due"], state["scheduled"]) == ([], 0, 0)
    receiver.answer = lambda webhook: 200
    listen("customer.created", path="/new")
    client.v1.customers.create()
    control.wait_webhooks()
    assert [each.path for each in receiver.all()] == ["/new"]
    assert attempts(control) == [(1, 200)]


def test_a_resent_event_is_one_more_attempt_and_ends_no_retries(client, control, receiver, listen):
    endpoint = listen("customer.created")
    receiver.answer = lambda webhook: 500
    client.v1.customers.create()
    event = client.v1.events.list().data[0].id
    control.wait_webhooks()
    receiver.answer = lambda webhook: 200
    control.resend(event, endpoint.id)
    made = control.wait_webhooks()
    assert [(each["status"], each["by_hand"]) for each in made] == [(500, False), (200, True)]
    assert client.v1.events.retrieve(event).pending_webhooks == 0
    control.advance(HOUR)
    assert attempts(control) == [(1, 500), (1, 200), (2, 200)]
    assert [each.event["id"] for each in receiver.all()] == [event] * 3


def test_a_resent_event_that_fails_is_not_tried_again(client, control, receiver, listen):
    endpoint = listen("customer.created")
    client.v1.customers.create()
    control.wait_webhooks()
    receiver.answer = lambda webhook: 500
    control.resend(client.v1.events.list().data[0].id, endpoint.id)
    assert attempts(control) == [(1, 200), (1, 500)]
    assert control.webhooks()["scheduled"] == 0


def test_resending_an_unknown_event_or_endpoint_is_refused(client, control, listen, raw):
    endpoint = listen()
    client.v1.customers.create()
    event = client.v1.events.list().data[0].id
    with pytest.raises(ControlError, match="no event 'evt_x'"):
        control.resend("evt_x", endpoint.id)
    with pytest.raises(ControlError, match="no endpoint"):
        control.resend(event, "we_x")
    client.v1.webhook_endpoints.update(endpoint.id, params={"disabled": True})
    with pytest.raises(ControlError, match="disabled"):
        control.resend(event, endpoint.id)


def test_both_secrets_sign_while_one_is_rolled(client, control, receiver, listen):
    endpoint = listen("customer.created")
    rolled = control.roll_secret(endpoint.id, keep_s=HOUR)
    assert rolled != endpoint.secret
    client.v1.customers.create()
    webhook = receiver.next()
    header = webhook.headers["Stripe-Signature"]
    assert header.count("v1=") == 2
    for secret in (endpoint.secret, rolled):
        client.construct_event(webhook.body, header, secret)
    control.advance(HOUR)
    client.v1.customers.create()
    webhook = receiver.next()
    header = webhook.headers["Stripe-Signature"]
    client.construct_event(webhook.body, header, rolled)
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(webhook.body, header, endpoint.secret)
    with pytest.raises(ControlError, match="keep_s"):
        control.roll_secret(endpoint.id, keep_s=24 * HOUR + 1)


def test_attempts_are_shown_by_event_and_endpoint(client, control, listen):
    first, second = listen("customer.created"), listen("customer.created")
    client.v1.customers.create()
    event = client.v1.events.list().data[0].id
    client.v1.customers.create()
    # Each endpoint has a line of its own: only the order within one is known.
    order = [each["endpoint"] for each in control.wait_webhooks()]
    assert sorted(order) == sorted([first.id, second.id] * 2)
    assert [each["event"] for each in control.webhooks(event=event)["attempts"]] == [event] * 2
    assert {each["endpoint"] for each in control.webhooks(endpoint=second.id)["attempts"]} == {second.id}
    assert len(control.webhooks(endpoint=first.id, after=order.index(first.id) + 1)["attempts"]) == 1


def test_a_long_answer_is_a_delivery_and_delays_nothing(client, control, receiver, listen):
    listen("customer.created")
    receiver.page = b"x" * 300_000
    for _ in range(2):
        client.v1.customers.create()
    assert attempts(control) == [(1, 200), (1, 200)]


def test_an_answer_that_is_not_http_is_a_failure(client, control, receiver):
    with http.client.socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wanted = {"url": f"http://127.0.0.1:{port}/", "enabled_events": ["customer.created"]}
        client.v1.webhook_endpoints.create(params=wanted)
        client.v1.customers.create()
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"hello\r\n\r\n")
        (attempt,) = control.wait_webhooks()
    assert attempt["status"] is None
    assert attempt["error"]
