"""One key, one effect: what Stripe saves under an idempotency key, what it does not, and how a replay looks.

docs.stripe.com/api/idempotent_requests and docs.stripe.com/error-low-level
"""

import threading

CREATE = {"amount": "1000", "currency": "usd"}
PATH = "/v1/payment_intents"


def error_of(answer):
    return answer.json()["error"]


def test_a_replay_is_the_same_to_the_byte_and_says_so(raw, label):
    first = raw("POST", PATH, CREATE, key=label)
    again = raw("POST", PATH, CREATE, key=label)
    assert (first.status, again.status, again.data) == (200, 200, first.data)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Original-Request"] == first.headers["Request-Id"]
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert first.headers["Idempotency-Key"] == again.headers["Idempotency-Key"] == label


def test_a_replay_shows_the_object_as_it_was(raw, label):
    first = raw("POST", PATH, CREATE, key=label).json()
    assert raw("POST", f"{PATH}/{first['id']}/cancel").json()["status"] == "canceled"
    again = raw("POST", PATH, CREATE, key=label).json()
    assert (again["id"], again["status"]) == (first["id"], "requires_payment_method")


def test_every_answer_names_its_version(raw, label):
    answer = raw("POST", PATH, CREATE, key=label, version="2026-10-28.endive")
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"
    assert answer.headers["Stripe-Should-Retry"] == "false"


def test_other_parameters_under_a_used_key_are_refused(raw, label):
    raw("POST", PATH, CREATE, key=label)
    answer = raw("POST", PATH, {**CREATE, "amount": "1001"}, key=label)
    assert (answer.status, error_of(answer)["type"], "code" in error_of(answer)) == (400, "idempotency_error", False)
    assert raw("POST", PATH, CREATE, key=label).headers["Idempotent-Replayed"] == "true"


def test_another_path_under_a_used_key_is_refused(raw, label):
    made = raw("POST", PATH, CREATE, key=label).json()["id"]
    answer = raw("POST", f"{PATH}/{made}/cancel", CREATE, key=label)
    assert answer.status == 400
    assert raw("GET", f"{PATH}/{made}").json()["status"] == "requires_payment_method"


def test_a_decline_is_saved(raw, label):
    declined = {**CREATE, "payment_method": "pm_card_visa_chargeDeclined", "confirm": "true"}
    declined |= {"automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
    first = raw("POST", PATH, declined, key=label)
    again = raw("POST", PATH, declined, key=label)
    assert (first.status, again.status, again.data) == (402, 402, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_refusal_because_of_state_is_saved(raw, label):
    made = raw("POST", PATH, CREATE).json()["id"]
    first = raw("POST", f"{PATH}/{made}/capture", key=label)
    again = raw("POST", f"{PATH}/{made}/capture", key=label)
    assert (first.status, again.status, again.data) == (400, 400, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_validation_error_is_not_saved(raw, label):
    assert raw("POST", PATH, {**CREATE, "amount": "many"}, key=label).status == 400
    mended = raw("POST", PATH, CREATE, key=label)
    assert mended.status == 200
    assert "Idempotent-Replayed" not in mended.headers


def test_a_key_has_255_characters_at_most(raw, label):
    assert raw("POST", PATH, CREATE, key=label.ljust(255, "x")).status == 200
    answer = raw("POST", PATH, CREATE, key=label.ljust(256, "x"))
    assert (answer.status, error_of(answer)["type"]) == (400, "invalid_request_error")


def test_a_key_means_nothing_to_get(raw, label):
    made = raw("POST", PATH, CREATE).json()["id"]
    before = raw("GET", f"{PATH}/{made}", key=label)
    raw("POST", f"{PATH}/{made}/cancel")
    after = raw("GET", f"{PATH}/{made}", key=label)
    assert (before.json()["status"], after.json()["status"]) == ("requires_payment_method", "canceled")
    assert "Idempotent-Replayed" not in after.headers


def test_a_key_means_nothing_to_delete(raw, customer, label):
    path = f"/v1/invoices/{raw('POST', '/v1/invoices', {'customer': customer}).json()['id']}"
    assert raw("DELETE", path, key=label).json()["deleted"] is True
    assert raw("DELETE", path, key=label).status == 404


def test_without_a_key_every_request_is_its_own(raw):
    one, two = (raw("POST", PATH, CREATE) for _ in range(2))
    assert one.json()["id"] != two.json()["id"]


def test_many_at_once_under_one_key_have_one_effect(raw, client, customer, label):
    form = {**CREATE, "customer": customer}
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(raw("POST", PATH, form, key=label))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A request during the first one got a 409 or 429; a later one got the first one's answer.
    assert {answer.status for answer in answers} <= {200, 409, 429}
    assert {error_of(answer)["code"] for answer in answers if answer.status == 409} <= {"idempotency_key_in_use"}
    answers.append(raw("POST", PATH, form, key=label))
    made = {answer.json()["id"] for answer in answers if answer.status == 200}
    assert made == {intent.id for intent in client.v1.payment_intents.list(params={"customer": customer}).data}
    assert len(made) == 1


def test_the_order_of_parameters(raw, unknown, label):
    raw("POST", PATH, CREATE, key=label)
    again = raw("POST", PATH, dict(reversed(CREATE.items())), key=label)
    unknown("parameters in another order under a used key", "replayed", how(again))


def test_an_unknown_id_in_the_path_under_a_key(raw, unknown, label):
    path = f"{PATH}/pi_{label[-24:]}/cancel"
    assert raw("POST", path, key=label).status == 404
    unknown("a 404 for an id in the path, under a key", "replayed", how(raw("POST", path, key=label)))


def test_an_unknown_id_in_a_parameter_under_a_key(raw, unknown, label):
    form = {**CREATE, "customer": f"cus_{label[-14:]}"}
    assert raw("POST", PATH, form, key=label).status == 400
    unknown("a 400 for an unknown id in a parameter, under a key", "replayed", how(raw("POST", PATH, form, key=label)))


def test_another_version_under_a_used_key(raw, unknown, label):
    raw("POST", PATH, CREATE, key=label)
    again = raw("POST", PATH, CREATE, key=label, version="2026-09-30.endive")
    unknown("another Stripe-Version under a used key", "replayed", how(again))


def how(answer):
    """One word for what happened to a second request under one key."""
    if answer.headers.get("Idempotent-Replayed") == "true":
        return "replayed"
    return "executed" if answer.status == 200 else f"{answer.status} {error_of(answer)['type']}"
