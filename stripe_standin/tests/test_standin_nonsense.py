"""Nonsense over HTTP and to /_standin: it is refused in Stripe's shape, nobody hangs up, and nothing has changed."""

import os
import re
import socket
import string
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from quiet import Quiet

from stripe_standin.admin import ROUTES

EXAMPLES = int(os.environ.get("BILLING_TEST_EXAMPLES", "20"))
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261125"))

# Requests that HTTP can say and the stand-in has to answer itself: method, path, headers, body, status.
PAY = "/v1/payment_intents"
FORM = b"amount=100&currency=usd"
ODD = [
    ("GET", "/", {}, b"", 404),
    ("GET", "//v1/account", {}, b"", 404),
    ("GET", "/v1/account/", {}, b"", 404),
    ("GET", "/V1/account", {}, b"", 404),
    ("GET", "/v1/%00", {}, b"", 404),
    ("GET", "/v1/%FF%FE", {}, b"", 404),
    ("GET", "/v1/payment_intents/%F0%9F%92%B8", {}, b"", 404),
    ("GET", "/v1/payment_intents/%0d%0aSet-Cookie:a=b", {}, b"", 404),
    ("GET", "/v1/payment_intents/" + "x" * 9000, {}, b"", 404),
    ("PATCH", "/v1/account", {}, b"", 404),
    ("PUT", "/v1/customers", {}, FORM, 404),
    ("OPTIONS", "/v1/customers", {}, b"", 404),
    ("TRACE", "/v1/account", {}, b"", 404),
    ("GET", "/v1/account", {"Authorization": "Basic \xe9\xe9"}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Basic !!!!"}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Basic Og=="}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Bearer"}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Bearer \xff"}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Bearer sk_test_" + "x" * 300}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "Digest sk_test_x"}, b"", 401),
    ("GET", "/v1/account", {"Authorization": "sk_test_x"}, b"", 401),
    ("GET", "/v1/account", {"Stripe-Account": ""}, b"", 403),
    ("GET", "/v1/account", {"Stripe-Account": "acct_\xe9"}, b"", 403),
    ("GET", "/v1/account", {"Stripe-Account": "acct_a, acct_b"}, b"", 403),
    ("GET", "/v1/account", {"Stripe-Version": "latest"}, b"", 400),
    ("GET", "/v1/account", {"Stripe-Version": "\xff"}, b"", 400),
    ("GET", "/v1/account?expand[]=%ff", {}, b"", 400),
    ("GET", "/v1/account?expand[", {}, b"", 400),
    ("GET", "/v1/account?" + "a&" * 20_001, {}, b"", 400),
    ("POST", PAY, {"Content-Type": "application/json"}, b'{"amount": 1}', 400),
    ("POST", PAY, {"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 400),
    ("POST", PAY, {"Content-Type": ""}, FORM, 400),
    ("POST", PAY, {}, b"\0\0\0", 400),
    ("POST", PAY, {}, b"amount=%zz&currency=usd", 400),
    ("POST", PAY, {}, b"amount=1&amount[]=2&currency=usd", 400),
    ("POST", PAY, {}, b"amount[[=1", 400),
    ("POST", PAY, {}, b"amount[]]=1", 400),
    ("POST", PAY, {}, b"[]=1", 400),
    ("POST", PAY, {}, FORM + b"&expand=latest_charge", 400),
    ("POST", PAY, {}, FORM + b"&expand[]=latest_charge.nothing", 400),
    ("POST", PAY, {}, FORM + b"&expand[a]=latest_charge", 400),
    ("POST", PAY, {}, FORM + b"&description=" + b"x" * 10_000_000, 400),
    ("POST", PAY, {}, b"&".join(b"zz[%d]=1" % n for n in range(19_000)), 400),
    ("POST", PAY, {"Idempotency-Key": "\xe9\x81"}, FORM, 400),
    ("POST", PAY, {"Idempotency-Key": "a\tb"}, FORM, 400),
    ("POST", PAY, {"Idempotency-Key": "k" * 256}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "explode"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": ""}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "latency; seconds=nan"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "latency; seconds=-1"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "latency; secs=1"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "redirect_307; location=ftp://x"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "\xff; \xff=\xff"}, FORM, 400),
    ("POST", PAY, {"X-Standin-Fault": "500_saved; with_effect=true"}, FORM, 400),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), ODD, ids=lambda part: repr(part)[:40])
def test_an_odd_request_is_refused_in_stripes_shape(raw, control, method, path, headers, body, status):
    quiet = Quiet(control)
    headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded", **headers}
    answer = raw(method, path, body, api_key=None, **headers)
    quiet.judge(answer)
    assert (answer.status, "Idempotent-Replayed" in answer.headers) == (status, False)


@pytest.mark.parametrize("key", ["k" * 255, "\xe9\xe8", "0", "'\";<>", "{}"])
def test_an_odd_key_is_a_key(raw, control, key):
    first, again = (raw("POST", PAY, FORM, key=key) for _ in range(2))
    assert first.data == again.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Idempotency-Key"] == key
    assert control.requests()[-1]["key"] == key


def test_an_empty_key_is_none(raw, control):
    assert raw("POST", PAY, FORM, key="").json()["id"] != raw("POST", PAY, FORM, key="").json()["id"]
    assert control.clock()["keys_kept"] == 0


def test_a_head_is_answered_without_a_body(raw):
    answer = raw("HEAD", "/v1/account")
    assert (answer.status, answer.data) == (404, b"")


def talk(url, sent, *, ends=False):
    """Everything that comes back on a connection of its own; the last request of `sent` should close it."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        read = b""
        while piece := connection.recv(65_536):
            read += piece
    return read


LINE = f"POST {PAY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
TYPE = "Content-Type: application/x-www-form-urlencoded\r\n"
LAST = b"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\nConnection: close\r\n\r\n"


def test_a_body_in_chunks_is_read_whole(url, control):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in FORM) + b"0\r\n\r\n"
    read = talk(url, f"{LINE}{TYPE}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + LAST)
    assert read.count(b"HTTP/1.1 200") == 2
    assert [effect["amount"] for effect in control.effects()] == [100]


def test_pipelined_requests_are_answered_in_their_order(url, control):
    one = f"{LINE}{TYPE}Content-Length: {len(FORM)}\r\n\r\n".encode() + FORM
    read = talk(url, one + one.replace(b"100", b"-10") + one + LAST)
    assert re.findall(rb"HTTP/1.1 (\d+)", read) == [b"200", b"400", b"200", b"200"]
    assert len(control.effects()) == 2


# Not valid HTTP: the web server answers these itself, in plain text, before the stand-in sees them.
BROKEN = [
    b"\0\0\0\0\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /v1/account HTTP/9.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    LINE.encode() + b"Content-Length: -1\r\n\r\n",
    LINE.encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    LINE.encode() + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    LINE.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    LINE.encode() + b"X\0Y: 1\r\n\r\n",
]


@pytest.mark.parametrize("sent", BROKEN, ids=lambda sent: repr(sent)[-40:])
def test_what_is_not_http_is_answered_400_or_not_at_all(url, control, sent):
    read = talk(url, sent, ends=True)
    assert read == b"" or read.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), read
    assert control.effects() == []
    assert control.health()["ok"]


@pytest.mark.parametrize("length", [0, 1, 30, 100, 150, -1])
def test_half_a_request_has_no_effect(url, control, length):
    whole = f"{LINE}{TYPE}Content-Length: {len(FORM)}\r\n\r\n".encode() + FORM
    assert b"200" not in talk(url, whole[:length], ends=True)
    assert control.effects() == []


# /_standin: JSON of every kind, with the field names that each route knows.
ADMIN = {
    "faults": "fault path key method nth times probability seed seconds location with_effect survives",
    "release": "ids then",
    "clock": "advance_s expire",
    "keys": "accepted expired accounts permissions",
    "search": "lag_s",
    "authorizations": "count amount currency customer metadata card off_session livemode account",
    "authentications": "payment_intent outcome livemode account",
    "webhooks": "seed duplicates twins delay_s shuffle_s outage before_response parallel timeout_s",
    "deliveries": "event endpoint",
    "secrets": "endpoint keep_s",
    "reset": "",
}
INNER = ["rk_test_x", "sk_test_x", "acct_x", "charges", "every", "probability", "fault"]
json_leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "424", "500_saved", "(", "a{99999999999}", "(" * 2000, "sk_test_x", "rk_test_x", "acct_x", "read", "true"]
    )
    | st.text(max_size=8)
)
json_value = st.recursive(
    json_leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=8,
)


def test_every_admin_route_that_is_asked_by_a_body_is_attacked_here():
    assert {f"POST {route}" for route in ADMIN} == {route for route in ROUTES if route.startswith("POST")}


@pytest.mark.parametrize("route", ADMIN)
def test_the_admin_side_refuses_nonsense_and_changes_nothing(raw, control, route):
    known = st.sampled_from([*ADMIN[route].split(), "nonsense"])

    def state():
        clock = control.clock()
        del clock["now"]
        webhooks = control.webhooks()
        return clock, control.keys(), control.faults(), len(control.effects()), control.search(), webhooks

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(known, json_value, max_size=3) | json_value)
    def ask(asked):
        control.reset()
        before = state()
        try:
            answer = control._http.request("POST", f"{control.url}/_standin/{route}", json=asked)
        except UnicodeEncodeError:
            return  # half a surrogate pair is no text
        assert answer.status in (200, 400), answer.data
        if answer.status == 400:
            assert answer.json()["error"]
            assert state() == before

    ask()


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 5000, b"nul", b'{"a":1e999}', b"\0"])
@pytest.mark.parametrize("route", ADMIN)
def test_the_admin_side_reads_json_only(raw, route, body):
    answer = raw("POST", f"/_standin/{route}", body, api_key=None)
    assert answer.status == 400
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "query",
    [
        *("effects?after=-1", "effects?after=x", "requests?after=1.5", "held?count=x", "held?wait_s=nan"),
        *("held?wait_s=-1", "webhooks?wait_s=61", "webhooks?after=1e400", f"effects?after={'9' * 5000}"),
    ],
)
def test_the_admin_side_refuses_wrong_numbers(raw, query):
    assert raw("GET", f"/_standin/{query}", api_key=None).status == 400


@pytest.mark.parametrize("route", [route.removeprefix("GET ") for route in ROUTES if route.startswith("GET")])
def test_the_admin_side_refuses_a_query_that_is_nonsense(raw, control, route):
    names = st.sampled_from(["kind", "after", "path", "key", "count", "wait_s", "event", "endpoint", "nonsense"])
    # No other digits, so that no request waits for long.
    odd = st.text("ab-=%&.é💸", max_size=5)
    values = odd | st.sampled_from(["capture", "0", "-0", "1", "0.0", "1e-9", "1_0", "true", "evt_x"])

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(names, values), max_size=2))
    def ask(pairs):
        answer = raw("GET", f"/_standin/{route}?{urlencode(pairs)}", api_key=None)
        assert answer.status in (200, 400), answer.data
        assert answer.status == 200 or answer.json()["error"]

    ask()


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "DELETE"])
def test_the_admin_side_has_no_other_methods(raw, method):
    assert raw(method, "/_standin/clock", api_key=None).status == 404


def test_the_printable_part_of_every_header_is_harmless(raw):
    """Each header that is read, with each printable character alone and doubled: refused or taken, never a 500."""
    for name in ("Authorization", "Stripe-Account", "Stripe-Version", "Idempotency-Key", "Content-Type"):
        for value in string.punctuation:
            headers = {"Authorization": "Bearer sk_test_x", name: value * 2}
            assert raw("POST", "/v1/customers", b"", api_key=None, **headers).status < 500, (name, value)
