"""Only the key of a sandbox is used: a run with any other key ends before its first request."""

import pytest
from sandbox import SETTING, Place, check_reached, sandbox_key

LIVE = "sk_live_51NothingThatEverWas"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("env:SOMEWHERE", "no key of a sandbox"),
        ("env:NOWHERE", "not set"),
        (LIVE, "not a reference"),
    ],
)
def test_any_other_key_ends_the_run_and_is_not_shown(monkeypatch, reference, why):
    monkeypatch.setenv("SOMEWHERE", LIVE)
    monkeypatch.setenv(SETTING, reference)
    with pytest.raises(pytest.exit.Exception) as ended:
        sandbox_key()
    assert why in str(ended.value)
    assert LIVE not in str(ended.value)


@pytest.mark.parametrize("api_key", ["sk_test_51Sandbox", "rk_test_51Sandbox"])
def test_a_key_of_a_sandbox_is_used(monkeypatch, api_key):
    monkeypatch.setenv("SOMEWHERE", api_key)
    monkeypatch.setenv(SETTING, "env:SOMEWHERE")
    assert sandbox_key() == api_key


def test_a_place_that_cannot_be_reached_or_knows_another_key_ends_the_run(place):
    for elsewhere, why in (
        (Place("http://127.0.0.1:9", place.api_key, is_stripe=True), "cannot be reached"),
        (Place(place.url, "sk_test_nobody", is_stripe=True), "answers 401"),
    ):
        with pytest.raises(pytest.exit.Exception) as ended:
            check_reached(elsewhere)
        assert why in str(ended.value)


def test_without_a_reference_the_stand_in_is_asked(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    assert sandbox_key() is None
