"""Every fault acts where its table says: with or without effect, saved or not, seen by the client as it should be."""

import socket
import threading
from urllib.parse import urlsplit

import pytest
import stripe
import urllib3

from stripe_standin.control import ControlError
from stripe_standin.faults import FAULTS, OPTIONS, Moment

# What the client sees of a fault on a capture, whether the money was taken, and what the same key gives afterwards.
LOST = "lost"
EXPECTED = {
    "drop_before": (LOST, False, "executed"),
    "redirect_307": (307, False, "executed"),
    "502_html": (502, False, "executed"),
    "200_html": (200, False, "executed"),
    "401": (401, False, "executed"),
    "403": (403, False, "executed"),
    "429_rate": (429, False, "executed"),
    "409_in_use": (409, False, "executed"),
    "latency": (200, True, "replayed"),
    "hold_before": (200, True, "replayed"),
    "402_declined": (402, False, "replayed"),
    "500_saved": (500, False, "replayed"),
    "500_no_effect": (500, False, "executed"),
    "429_lock_saved": (429, False, "replayed"),
    "424": (424, False, "replayed"),
    "500_with_effect": (500, True, "replayed"),
    "drop_after_commit": (LOST, True, "replayed"),
    "latency_after": (200, True, "replayed"),
    "hold_after": (200, True, "replayed"),
    "truncate_body": (LOST, True, "replayed"),
    "drip_body": (200, True, "replayed"),
    "huge_body": (200, True, "replayed"),
    "other_id": (200, True, "replayed"),
    "other_object": (200, True, "replayed"),
    "other_livemode": (200, True, "replayed"),
    "other_currency": (200, True, "replayed"),
    "other_amount": (200, True, "replayed"),
    "not_end_state": (200, True, "replayed"),
}


def capture(raw, intent, **headers):
    try:
        return raw("POST", f"/v1/payment_intents/{intent}/capture", key="k", **headers)
    except urllib3.exceptions.HTTPError:
        return None


def test_every_fault_is_expected_here():
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("by", ["header", "rule"])
def test_a_fault_acts_where_the_table_says(raw, control, intent, fault, by):
    seen, effect, afterwards = EXPECTED[fault]
    known = {"seconds": 0.01, "megabytes": 1, "location": "http://127.0.0.1:9/elsewhere"}
    options = {name: known[name] for name in FAULTS[fault].options if name in known}
    headers = {}
    if by == "header":
        headers["X_Standin_Fault"] = "; ".join([fault, *(f"{name}={value}" for name, value in options.items())])
    else:
        control.add_fault(fault, path="/capture$", times=1, **options)
    answers = []
    client = threading.Thread(target=lambda: answers.append(capture(raw, intent, **headers)))
    client.start()
    if fault.startswith("hold"):
        control.wait_held()
        assert bool(control.effects("capture")) is (fault == "hold_after")
        control.release()
    client.join()
    assert (answers[0].status if answers[0] else LOST) == seen
    assert bool(control.effects("capture")) is effect
    assert control.requests()[-1]["fault"] == fault
    again = capture(raw, intent)
    assert ("Idempotent-Replayed" in again.headers) is (afterwards == "replayed")
    if answers[0] and afterwards == "replayed" and fault not in EXPECTED_LIES:
        assert (again.status, again.data) == (answers[0].status, answers[0].data.rstrip(b" "))
    assert len(control.effects("capture")) == (effect or afterwards == "executed")
    assert control.requests()[-1]["replayed"] is (afterwards == "replayed")


EXPECTED_LIES = {"other_id", "other_object", "other_livemode", "other_currency", "other_amount", "not_end_state"}


@pytest.mark.parametrize("fault", sorted(EXPECTED_LIES))
def test_a_lie_changes_one_thing_and_a_replay_returns_the_true_answer(raw, control, intent, fault):
    lie = capture(raw, intent, X_Standin_Fault=fault).json()
    truth = capture(raw, intent).json()
    changed = {name for name in truth if lie[name] != truth[name]}
    assert (
        changed
        == {
            "other_id": {"id"},
            "other_object": {"object"},
            "other_livemode": {"livemode"},
            "other_currency": {"currency"},
            "other_amount": {"amount", "amount_received"},
            "not_end_state": {"status", "amount_capturable", "amount_received"},
        }[fault]
    )
    assert (truth["id"], truth["status"], truth["livemode"]) == (intent, "succeeded", False)


@pytest.mark.parametrize("fault", ["drop_before", "drop_after_commit"])
def test_a_drop_sends_no_byte(url, control, intent, fault):
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(
            f"POST /v1/payment_intents/{intent}/capture HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
            f"X-Standin-Fault: {fault}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert connection.recv(100) == b""
    assert control.requests()[-1]["status"] is None


def test_the_sdk_sees_a_drop_as_a_lost_connection(client, control, intent):
    control.add_fault("drop_after_commit", times=1)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.payment_intents.capture(intent, options={"idempotency_key": "k"})
    captured = client.v1.payment_intents.capture(intent, options={"idempotency_key": "k"})
    assert captured.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(control.effects("capture")) == 1


def test_the_sdk_cannot_read_half_a_body(client, intent):
    with pytest.raises(stripe.APIConnectionError):
        client.v1.payment_intents.capture(intent, options={"headers": {"X-Standin-Fault": "truncate_body"}})


def test_a_limiter_names_its_reason_and_a_lock_does_not(raw, intent):
    limited = capture(raw, intent, X_Standin_Fault="429_rate")
    assert limited.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert limited.json()["error"]["code"] == "rate_limit"
    locked = capture(raw, intent, X_Standin_Fault="429_lock_saved")
    assert "Stripe-Rate-Limited-Reason" not in locked.headers
    assert locked.json()["error"]["code"] == "lock_timeout"


def test_an_access_fault_looks_like_the_real_one(raw, intent):
    assert capture(raw, intent, X_Standin_Fault="401").json()["error"]["code"] == "api_key_expired"
    assert "permissions" in capture(raw, intent, X_Standin_Fault="403").json()["error"]["message"]


def test_a_redirect_goes_where_the_rule_says(raw, intent):
    answer = capture(raw, intent, X_Standin_Fault="redirect_307;location=http://127.0.0.1:9/x?a=b")
    assert answer.headers["Location"] == "http://127.0.0.1:9/x?a=b"


@pytest.mark.parametrize("page", ["502_html", "200_html"])
def test_a_proxys_page_may_hide_an_effect(raw, control, intent, page):
    answer = capture(raw, intent, X_Standin_Fault=f"{page};with_effect=true")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert len(control.effects("capture")) == 1
    assert capture(raw, intent).headers["Idempotent-Replayed"] == "true"


def test_a_fault_acts_on_a_get_as_well(raw, control, intent):
    control.add_fault("500_saved", method="GET", times=1)
    path = f"/v1/payment_intents/{intent}"
    assert [raw("GET", path).status for _ in range(2)] == [500, 200]
    assert raw("GET", path, X_Standin_Fault="other_currency").json()["currency"] == "eur"
    assert raw("GET", "/v1/payment_intents", X_Standin_Fault="other_id").json()["data"][0]["id"] != intent


def test_a_rule_matches_method_path_and_key(raw, control):
    one, two = control.authorizations(2)
    control.add_fault("500_no_effect", method="POST", path=f"^/v1/payment_intents/{one}/capture$", key="^svc:")
    assert raw("GET", f"/v1/payment_intents/{one}", key="svc:1").status == 200
    assert raw("POST", f"/v1/payment_intents/{two}/capture", key="svc:2").status == 200
    assert raw("POST", f"/v1/payment_intents/{one}/capture", key="other").status == 200
    assert raw("POST", f"/v1/payment_intents/{one}/capture", key="svc:3").status == 500


@pytest.mark.parametrize(
    ("when", "statuses"),
    [
        ({}, [500, 500, 500, 500]),
        ({"times": 2}, [500, 500, 200, 200]),
        ({"nth": 3}, [200, 200, 500, 200]),
        ({"nth": 2, "times": 2}, [200, 500, 500, 200]),
        ({"probability": 0}, [200, 200, 200, 200]),
    ],
    ids=str,
)
def test_a_rule_fires_when_it_says(raw, control, intent, when, statuses):
    control.add_fault("500_no_effect", **when)
    assert [raw("GET", f"/v1/payment_intents/{intent}").status for _ in range(4)] == statuses
    rule = control.faults()[0]
    assert (rule["matched"], rule["fired"]) == (4, statuses.count(500))


def test_chance_is_the_same_for_the_same_seed(raw, control, intent):
    runs = []
    for _ in range(2):
        control.clear_faults()
        control.add_fault("500_no_effect", probability=0.5, seed=7)
        runs.append([raw("GET", f"/v1/payment_intents/{intent}").status for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


@pytest.mark.parametrize("gone", ["before", "after"])
def test_a_client_that_dies_while_held_leaves_what_had_happened(url, raw, control, intent, gone):
    """A worker is killed during the call. Before the charge nothing has happened; after it, everything has."""
    control.add_fault(f"hold_{gone}", times=1)
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(
            f"POST /v1/payment_intents/{intent}/capture HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
            "Idempotency-Key: k\r\nContent-Length: 0\r\n\r\n".encode()
        )
        control.wait_held()
    while control.held():
        pass
    assert len(control.effects("capture")) == (gone == "after")
    answer = capture(raw, intent)
    assert answer.status == 200
    assert ("Idempotent-Replayed" in answer.headers) is (gone == "after")


def test_a_held_request_may_survive_its_client(url, raw, control, intent):
    """Stripe has the request and is slow: the client is dead, and the charge comes later."""
    control.add_fault("hold_before", times=1, survives=True)
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(
            f"POST /v1/payment_intents/{intent}/capture HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"
            "Idempotency-Key: k\r\nContent-Length: 0\r\n\r\n".encode()
        )
        [held] = control.wait_held()
    assert capture(raw, intent).status == 409
    assert control.effects("capture") == []
    assert control.release([held["id"]]) == [held["id"]]
    assert capture(raw, intent).headers["Idempotent-Replayed"] == "true"
    assert len(control.effects("capture")) == 1


def test_a_held_request_can_be_forgotten(raw, control, intent):
    control.add_fault("hold_before", times=1)
    answers = []
    client = threading.Thread(target=lambda: answers.append(capture(raw, intent)))
    client.start()
    control.wait_held()
    control.release(then="forget")
    client.join()
    assert answers == [None]
    assert control.effects("capture") == []
    assert capture(raw, intent).status == 200


def test_a_reset_drops_held_requests(raw, control, intent):
    control.add_fault("hold_before", times=1)
    client = threading.Thread(target=lambda: capture(raw, intent))
    client.start()
    control.wait_held()
    control.reset()
    client.join()
    assert (control.effects(), control.held(), control.faults()) == ([], [], [])


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"fault": "explode"}, "drop_after_commit"),
        ({"fault": "redirect_307"}, "location"),
        ({"fault": "redirect_307", "location": "http://x\r\nSet-Cookie: a=b"}, "location"),
        ({"fault": "424", "nth": 0}, "nth"),
        ({"fault": "424", "times": "two"}, "`times` is a whole number from 1 to 1,000,000,000"),
        ({"fault": "424", "times": None}, "times"),
        ({"fault": "424", "probability": 2}, "probability"),
        ({"fault": "424", "path": "("}, "regular expression"),
        ({"fault": "424", "color": "red"}, "color"),
        ({"fault": "424", "with_effect": True}, "424 has no `with_effect`: it takes no options"),
        ({"fault": "drop_before", "survives": True}, "drop_before has no `survives`"),
        ({"fault": "drop_before", "location": "http://x"}, "drop_before has no `location`"),
        ({"fault": "500_saved", "seconds": 1}, "500_saved has no `seconds`"),
        ({"fault": "latency", "survives": True}, "latency has no `survives`: it takes seconds"),
        ({"fault": "502_html", "with_effect": "true"}, "`with_effect` is true or false"),
        ({"fault": "latency", "seconds": "long"}, "`seconds` is a number from 0 to 3,600"),
        ({"fault": "latency", "seconds": True}, "seconds"),
        ({"fault": "424", "method": "PSOT"}, "`method` is one of GET, POST, DELETE"),
        ({"fault": "424", "seed": [1]}, "seed"),
        ({"fault": "424", "id": "rule_1"}, "there is no `id`"),
        ({}, "`fault` is missing"),
        ({"fault": None}, "`fault` is one of"),
        ("424", "JSON object"),
    ],
    ids=str,
)
def test_a_rule_that_could_never_act_is_refused(control, rule, says):
    for asked in (rule, [{"fault": "424"}, rule]):
        with pytest.raises(ControlError) as refused:
            control._ask("POST", "faults", asked)
        assert says.replace("`", "") in str(refused.value).replace("`", "").replace("[1].", "")
    assert control.faults() == []


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("explode", "`fault` is one of"),
        ("", "`fault` is one of"),
        ("latency; times=1", "there is no `times`"),
        ("latency; fault=424", "`fault` is there twice"),
        ("latency; seconds=1; seconds=2", "`seconds` is there twice"),
        ("latency; seconds", "`seconds` is a number"),
        ("latency; seconds=true", "`seconds` is a number"),
        ("hold_before; survives=1", "`survives` is true or false"),
        ("402_declined; seconds=1", "402_declined has no `seconds`"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(raw, control, intent, header, says):
    answer = capture(raw, intent, X_Standin_Fault=header)
    assert answer.status == 400
    assert f"X-Standin-Fault: {says}" in answer.json()["error"]["message"]
    assert control.effects("capture") == []


def test_each_moment_has_a_fault():
    assert {kind.moment for kind in FAULTS.values()} == set(Moment)


def test_each_option_is_one_that_some_fault_takes():
    assert {option for kind in FAULTS.values() for option in kind.options} == set(OPTIONS)
