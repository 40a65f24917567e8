"""The server itself: it starts and stops, answers nonsense, and never answers 500 by itself."""

import ast
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stripe_standin
from stripe_standin.control import Control, ControlError
from stripe_standin.routes import ROUTES

HERE = Path(stripe_standin.__file__).parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_even_with_requests_held(start, number):
    with start() as (url, process):
        control = Control(url)
        control.add_fault("hold_before")
        client = stripe.StripeClient("sk_test_a", base_addresses={"api": url}, max_network_retries=0)

        def ask():
            with pytest.raises(stripe.APIConnectionError):
                client.v1.accounts.retrieve_current()

        waiting = threading.Thread(target=ask)
        waiting.start()
        control.wait_held()
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        waiting.join()
        assert process.stdout.read() == ""


def test_half_a_request_is_none(url, control, intent):
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(
            f"POST /v1/payment_intents/{intent}/capture HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            "Content-Length: 22\r\n\r\namount_to_capture=1".encode()
        )
        control.health()  # by now it has read what was sent
    assert control.effects("capture") == []
    assert control.requests() == []


def test_help_teaches():
    shown = subprocess.run(
        [sys.executable, "-m", "stripe_standin", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for word in ("base_addresses", "drop_after_commit", "/_standin/effects", "--rate-limit"):
        assert word in shown


def test_it_stands_on_nothing_of_ours_and_not_on_stripe():
    for file in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, file
                names = [node.module or ""] if node.level == 0 else []
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            of_others = [name for name in names if not f"{name}.".startswith("stripe_standin.")]
            assert not {name.split(".")[0] for name in of_others} & {"billing", "jobs", "archive", "stripe"}, file


def test_health_counts(control, intent):
    assert control.health() == {"ok": True, "requests": 0, "effects": 2}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("GET", "/"),
        ("PUT", "/v1/customers"),
        ("DELETE", "/v1/customers"),
        ("POST", "/v1/payment_intents//capture"),
        ("POST", "/v1/payment_intents/pi_1/explode"),
        ("GET", "/v1/payment_intents/pi_1/capture"),
        ("GET", "/v1/a/b/c/d/e"),
        ("PATCH", "/v2/customers"),
    ],
)
def test_an_unknown_route_is_a_404_in_stripes_shape(raw, method, path):
    answer = raw(method, path)
    error = answer.json()["error"]
    assert (answer.status, error["type"]) == (404, "invalid_request_error")
    assert f"({method}: {path})" in error["message"]


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_refuses_a_parameter_it_does_not_know(raw, name):
    method, path = name.replace("{id}", "x_1").split()
    answer = raw("POST", path, {"zz[top]": "1"}) if method == "POST" else raw(method, f"{path}?zz=1")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "parameter_unknown")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"amount": 1}', {"Content_Type": "application/json"}),
        (b"amount=%FF", {}),
        (b"amount=\xff", {}),
        (b"a[b=1", {}),
        (b"[a]=1", {}),
        (b"a[b]]=1", {}),
        (b"amount=1&amount[x]=2", {}),
        (b"amount[x]=2&amount=1", {}),
        (b"a[b]=1&a[b][c]=1", {}),
        (b"a" + b"[b]" * 50 + b"=1", {}),
        (b"amount=1", {"Stripe_Version": "latest"}),
        (b"amount=1", {"Idempotency_Key": "\x85"}),
    ],
    ids=repr,
)
def test_a_request_that_cannot_be_read_is_a_400(raw, body, headers):
    answer = raw("POST", "/v1/payment_intents", body, **headers)
    assert (answer.status, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_the_version_asked_for_is_echoed(client_for, raw):
    assert (
        raw("GET", "/v1/account", Stripe_Version="2026-09-30.endive").headers["Stripe-Version"] == "2026-09-30.endive"
    )
    answer = client_for().v1.accounts.retrieve_current().last_response
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"


names = st.sampled_from(
    "amount currency customer confirm expand expand[] metadata[a] metadata lines[0][amount] lines[][amount] lines "
    "created[gte] created limit starting_after types[] due_date days_until_due period[start] card[number]".split()
) | st.text(max_size=12)
values = st.sampled_from(["", "1", "-1", "999999999999", "usd", "true", "pm_card_visa", "data.customer"]) | st.text(
    max_size=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(ROUTES)),
    form=st.lists(st.tuples(names, values), max_size=5).map(dict),
    body=st.binary(max_size=30) | st.none(),
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10),
)
def test_nonsense_is_never_answered_500(raw, name, form, body, key):
    method, path = name.replace("{id}", "x_1").split()
    answer = raw(method, path, body if body is not None else form, key=key or None)
    assert answer.status < 500
    assert answer.status == 200 or "message" in answer.json()["error"]


def test_long_paths_and_pipelined_requests_are_served(url, control):
    place = urlsplit(url)
    one = "GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall((one * 3).encode())
        read = b""
        while read.count(b"HTTP/1.1 200") < 3 and (more := connection.recv(65536)):
            read += more
    assert read.count(b"HTTP/1.1 200") == 3


def test_the_admin_side_says_what_it_knows(raw, control):
    answer = raw("GET", "/_standin/nothing", api_key=None)
    assert answer.status == 404
    assert "POST faults" in answer.json()["error"]
    assert raw("POST", "/_standin/faults", b"{", api_key=None).status == 400
    for asked in ({"count": 0}, {"amount": "many"}, {"customer": "cus_none"}, {"card": "pm_card_visa_chargeDeclined"}):
        with pytest.raises(ControlError):
            control._ask("POST", "authorizations", asked)
    with pytest.raises(ControlError):
        control.advance(-1)
    assert control.effects() == []


def test_requests_are_remembered_with_what_was_asked(raw, control, intent):
    raw("POST", f"/v1/payment_intents/{intent}/capture", {"metadata[a]": "b"}, key="k")
    raw("GET", f"/v1/payment_intents/{intent}?expand[]=latest_charge")
    first, second = control.requests()
    assert (first["n"], first["method"], first["key"], first["status"]) == (1, "POST", "k", 200)
    assert (first["params"], second["params"]) == ({"metadata": {"a": "b"}}, {"expand": {"0": "latest_charge"}})
    assert (first["livemode"], first["fault"], first["replayed"]) == (False, None, False)
    assert control.requests(after=1) == [second]
    assert control.requests(path=second["path"]) == [second]
    assert control.requests(key="k") == [first]
    effect = control.effects("capture")[0]
    assert (effect["request_id"], effect["idempotency_key"]) == (first["request_id"], "k")
    assert control.effects(after=effect["n"] - 1) == [effect]


def test_many_authorizations_are_made_at_once(client, control, customer):
    made = control.authorizations(500, amount=250, currency="eur", customer=customer, metadata={"demo": "1"})
    assert len(set(made)) == 500
    intent = client.v1.payment_intents.retrieve(made[-1])
    assert (intent.amount, intent.currency, intent.customer, intent.metadata["demo"]) == (250, "eur", customer, "1")
    assert intent.status == "requires_capture"
    assert len(control.effects("authorization")) == 500
