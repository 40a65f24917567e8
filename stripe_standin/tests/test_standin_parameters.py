"""What a route accepts depends on the API version that asks: a removed parameter still works in older versions."""

import pytest

OLD, NEW = "2025-03-31.basil", "2026-10-28.endive"
FORM = {"amount": "100", "currency": "usd", "payment_method_types[]": "card"}


def send(raw, path, version, **form):
    headers = {"Stripe_Version": version} if version else {}
    return raw("POST", f"/v1/payment_intents{path}", form, **headers)


@pytest.mark.parametrize("version", [OLD, "2024-06-20", "2026-08-26.dahlia"])
def test_payment_method_types_are_taken_from_older_versions(raw, control, version):
    answer = send(raw, "", version, **FORM)
    assert answer.status == 200
    assert answer.headers["Stripe-Version"] == version
    assert len(control.effects("payment_intent.created")) == 1
    confirmed = send(raw, f"/{answer.json()['id']}/confirm", version, payment_method="pm_card_visa", **PLAIN)
    assert confirmed.json()["status"] == "succeeded"


PLAIN = {"payment_method_types[]": "card"}


@pytest.mark.parametrize("version", [None, NEW, "2026-09-30.endive", "2026-10-01.endive"])
def test_payment_method_types_are_refused_since_endive(raw, control, intent, version):
    for path, form in (("", FORM), (f"/{intent}/confirm", PLAIN), (f"/{intent}", PLAIN)):
        answer = send(raw, path, version, **form)
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (400, "payment_method_types_no_longer_supported")
        assert error["param"] == "payment_method_types"
    assert control.effects("payment_intent.created")[1:] == []


def test_what_older_versions_know_is_still_read(raw):
    answer = send(raw, "", OLD, **{**FORM, "payment_method_types[]": "", "payment_method_types[a]": "card"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "payment_method_types")


def test_a_key_used_under_one_version_is_used_under_the_other(raw):
    """The version is not compared: a replay returns the first answer as it was."""
    first = raw("POST", "/v1/payment_intents", FORM, key="k", Stripe_Version=OLD)
    again = raw("POST", "/v1/payment_intents", FORM, key="k", Stripe_Version=NEW)
    assert (again.status, again.data) == (200, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
