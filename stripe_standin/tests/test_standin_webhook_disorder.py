"""Webhooks go wrong as the settings say, and in the same way for the same seed."""

import asyncio
import threading

import pytest

from stripe_standin.api import webhook_endpoints
from stripe_standin.api.customers import customers
from stripe_standin.call import Call
from stripe_standin.control import ControlError
from stripe_standin.state import State
from stripe_standin.webhooks import lines as webhooks
from stripe_standin.world import Settings

HOUR = 3600


@pytest.fixture
def names(client, control, receiver):
    """Make customers with these names, and return the names in the order of their webhooks."""
    wanted = {"url": receiver.url, "enabled_events": ["customer.created"]}
    client.v1.webhook_endpoints.create(params=wanted)

    def names(made="", *, advance_s=0, wait_s=60):
        for name in made:
            client.v1.customers.create(params={"name": name})
        if advance_s:
            control.advance(advance_s)
        control.wait_webhooks(wait_s)
        return "".join(each.event["data"]["object"]["name"] for each in receiver.all())

    return names


def test_every_second_webhook_comes_twice(control, receiver, names):
    control.set_webhooks(duplicates={"every": 2})
    assert names("abcd") == "abbcdd"
    assert len({each["event"] for each in control.webhooks()["attempts"]}) == 4


def test_duplicates_by_chance_are_the_same_for_a_seed(control, names):
    came = []
    for _ in range(2):
        control.set_webhooks(seed=7, duplicates={"probability": 0.5})
        came.append(names("abcdefgh"))
    assert came[0] == came[1] != "abcdefgh"
    control.set_webhooks(duplicates=None)
    assert names("abcdefgh") == "abcdefgh"


def test_twins_are_two_events_of_one_thing(client, control, receiver, names):
    control.set_webhooks(twins={"every": 1})
    client.v1.customers.create()
    control.wait_webhooks()
    first, second = (each.event for each in receiver.all())
    assert first["id"] != second["id"]
    assert {**first, "id": None} == {**second, "id": None}
    assert {each.id for each in client.v1.events.list().data} == {first["id"], second["id"]}


def test_webhooks_come_late(control, names):
    control.set_webhooks(delay_s=600)
    assert names("ab") == ""
    assert control.webhooks()["scheduled"] == 2
    assert names(advance_s=500) == ""
    assert names(advance_s=101) == "ab"


def test_shuffled_webhooks_come_in_an_order_of_the_seed(control, names):
    came = []
    for seed in (3, 3, 4):
        # Spread over days, and not over seconds: how long the requests take must not change the order.
        control.set_webhooks(seed=seed, shuffle_s=6 * 24 * HOUR)
        came.append(names("abcdefgh", advance_s=6 * 24 * HOUR + 1))
    assert came[0] == came[1] != came[2]
    assert sorted(came[0]) == list("abcdefgh") != list(came[0])


def test_an_outage_holds_everything_back_until_it_ends(control, receiver, names):
    control.set_webhooks(outage=True)
    with pytest.raises(ControlError, match="3 webhooks were still due"):
        names("abc", wait_s=0.5)
    assert receiver.all() == []
    assert control.webhooks()["due"] == 3
    control.set_webhooks(outage=False)
    assert names() == "abc"
    assert [each["attempt"] for each in control.webhooks()["attempts"]] == [1, 1, 1]


def test_a_webhook_is_answered_before_the_request_is(client, control, receiver, names):
    control.set_webhooks(before_response=True)
    answered, known = threading.Event(), []

    def answer(webhook):
        known.append(webhook.event["data"]["object"]["id"])
        assert not answered.wait(0.05)
        return 200

    receiver.answer = answer
    customer = client.v1.customers.create(params={"name": "a"})
    answered.set()
    assert known == [customer.id]
    assert [each["status"] for each in control.webhooks()["attempts"]] == [200]


def test_a_webhook_before_the_response_may_fail(client, control, receiver, names):
    control.set_webhooks(before_response=True)
    receiver.answer = lambda webhook: 500
    client.v1.customers.create(params={"name": "a"})
    assert [each["status"] for each in control.webhooks()["attempts"]] == [500]
    control.set_webhooks(outage=True)
    client.v1.customers.create(params={"name": "b"})
    assert control.webhooks()["due"] == 1


def test_a_lost_answer_has_its_webhook_before(control, receiver, names, raw):
    control.set_webhooks(before_response=True)
    control.add_fault("drop_after_commit", times=1)
    with pytest.raises(Exception, match=r"aborted|closed"):
        raw("POST", "/v1/customers", {"name": "a"})
    assert [each.event["data"]["object"]["name"] for each in receiver.all()] == ["a"]


def test_the_webhook_of_a_500_with_effect_comes_late(client, control, receiver, names, raw):
    control.add_fault("500_with_effect", seconds=300, times=1)
    assert raw("POST", "/v1/customers", {"name": "a"}).status == 500
    assert names() == ""
    assert names("b") == "b"
    assert names(advance_s=301) == "a"


def test_several_attempts_at_a_time_if_wanted(client, control, receiver, names):
    together = threading.Barrier(3, timeout=60)

    def answer(webhook):
        together.wait()
        return 200

    receiver.answer = answer
    control.set_webhooks(parallel=3)
    assert sorted(names("abc")) == ["a", "b", "c"]


def test_the_settings_are_shown_and_a_reset_forgets_them(control):
    changed = control.set_webhooks(
        seed=5, duplicates={"every": 3}, twins={"probability": 0.25}, timeout_s=2, delay_s=1.5
    )
    wanted = {
        "seed": 5,
        "duplicates": {"every": 3},
        "twins": {"probability": 0.25},
        "delay_s": 1.5,
        "shuffle_s": 0,
        "outage": False,
        "before_response": False,
        "parallel": 1,
        "timeout_s": 2.0,
    }
    assert changed["settings"] == control.webhooks()["settings"] == wanted
    control.reset()
    after = control.webhooks()["settings"]
    assert (after["duplicates"], after["twins"], after["timeout_s"]) == (None, None, 10.0)


def test_deliveries_beyond_the_limit_are_not_sent(monkeypatch):
    monkeypatch.setattr(webhooks, "DELIVERIES_MAX", 3)

    async def run():
        state = State(Settings())
        state.webhooks.disorder.change({"outage": True})
        call = Call(state.world, state.world.books("acct_x", False), (), {}, state.world.now(), None, None)
        call.params = {"url": "http://127.0.0.1:9", "enabled_events": ["*"]}
        webhook_endpoints.create(call)
        call.params = {}
        for _ in range(5):
            customers.create(call)
        return state.webhooks, call.books

    kept, books = asyncio.run(run())
    assert kept.counts() == {"due": 3, "scheduled": 0}
    assert [each.outcome.error for each in kept.attempts] == ["not sent: 3 deliveries are waiting already"] * 2
    assert len(books.undelivered) == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"duplicates": {"every": 0}},
        {"duplicates": {"every": True}},
        {"duplicates": {"probability": 2}},
        {"duplicates": {"every": 1, "probability": 1}},
        {"twins": 1},
        {"delay_s": -1},
        {"delay_s": "1"},
        {"shuffle_s": 1.5},
        {"outage": 1},
        {"before_response": "yes"},
        {"parallel": 0},
        {"timeout_s": 0},
        {"seed": "x"},
        {"unknown": 1},
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(control, settings):
    before = control.webhooks()["settings"]
    with pytest.raises(ControlError):
        control.set_webhooks(**{"parallel": 5, **settings})
    assert control.webhooks()["settings"] == before
