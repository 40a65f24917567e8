"""What one worker process may send, what it tells the others, and what it does while Redis is away."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from proxy import Proxy
from service import Service
from sqlalchemy.engine import make_url

from billing.calls import Report
from billing.gateway import NoAnswer
from billing.learned import Learned
from billing.steps import LookResult
from jobs.limits import pace
from jobs.limits.bucket import FAILURES, Terms
from jobs.limits.pace import ALONE_S, HELD_S, HUNGRY_S, MOST_ACCOUNTS, Pace
from jobs.limits.shared import SharedBuckets
from jobs.rq import bells

TERMS = Terms(most=100.0, probe_s=0.2)


class Clock:
    """The boot clock of a worker, that a test moves. The buckets in Redis go by Redis' own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def worker(service: Service, clock: Clock, terms: Terms = TERMS, **more: float) -> Pace:
    return Pace(terms, shared=SharedBuckets(service.redis, "test"), clock=clock, **more)


def use_up(pace: Pace, clock: Clock, account: str | None = None) -> int:
    """Spend what it gets until it gets nothing more."""
    used = 0
    while room := pace.room(48):
        for _ in range(room):
            pace.spend(account)
        used += room
        clock.now += pace.opens_in_s()
        if used > 1000:
            break
    return used


def test_two_workers_get_no_more_than_the_bucket_of_their_account_holds(service: Service, clock: Clock) -> None:
    terms = Terms(most=4.0, probe_s=5.0)
    first, second = worker(service, clock, terms), worker(service, clock, terms)
    assert first.room(48) + second.room(48) <= 2
    assert first.room(48) == 1, "what it holds it may use"


def test_a_token_that_is_not_used_is_lost(service: Service, clock: Clock) -> None:
    """Or workers would save them, and use them all at once."""
    pace = worker(service, clock, Terms(most=4.0, probe_s=5.0))
    assert pace.room(48) == 1
    assert pace.opens_in_s() == 0
    clock.now += HELD_S
    service.redis.hset("billing-test:limits:own", mapping={"tokens": "-100"})
    assert pace.room(48) == 0
    assert pace.opens_in_s() > 0


def test_a_next_step_is_made_on_credit_and_paid_by_the_next_exchange(service: Service, clock: Clock) -> None:
    pace = worker(service, clock)
    use_up(pace, clock)
    service.redis.hset("billing-test:limits:own", mapping={"tokens": "25"})
    for _ in range(20):
        pace.spend(None)
    clock.now += 1
    pace.room(48)
    assert float(service.redis.hget("billing-test:limits:own", "tokens") or 0) < 25 - 20 + 5  # type: ignore[arg-type]


def test_the_requests_of_a_look_are_counted(service: Service, clock: Clock) -> None:
    pace = worker(service, clock)
    room = pace.room(1)
    assert room == 1
    pace.spend(None)
    pace.learn(None, reached=True, requests=60)
    assert pace.room(48) == 0


def test_an_account_that_is_new_here_gets_one_call_and_then_its_own_tokens(service: Service, clock: Clock) -> None:
    pace = worker(service, clock)
    assert pace.allows("acct_1")
    pace.spend("acct_1")
    assert not pace.allows("acct_1")
    assert pace.room(48) > 0
    assert pace.allows("acct_1")


def test_a_worker_remembers_a_limited_number_of_accounts_and_always_its_own(service: Service, clock: Clock) -> None:
    pace = worker(service, clock)
    for number in range(MOST_ACCOUNTS * 3):
        pace.spend(f"acct_{number}")
    pace.room(48)
    assert service.redis.zcard("billing-test:limits") == MOST_ACCOUNTS
    assert service.redis.exists("billing-test:limits:own")
    assert pace.allows("acct_0"), "it was forgotten, and is new again"


def test_a_429_slows_down_the_other_workers_of_the_account_and_no_other_account(service: Service, clock: Clock) -> None:
    first, second = worker(service, clock), worker(service, clock)
    assert second.room(48) > 0
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            first.learn(None, reached=True, throttled="rate_limit")
            assert first.tell() is False
    assert [(line["event"], line["account"], line["rate"]) for line in lines] == [("provider.throttled", "own", 70.0)]
    clock.now += HELD_S
    second.room(48)
    assert second._accounts[None].rate < 75
    second.spend("acct_1")
    second.room(48)
    assert second._accounts["acct_1"].rate == 100.0


def test_of_all_workers_one_calls_a_silent_account_and_its_first_answer_wakes_all(
    service: Service, clock: Clock
) -> None:
    # Shorter than three calls can take: the account has answered nothing for so long.
    terms = Terms(most=100.0, probe_s=1e-6)
    first, second = worker(service, clock, terms), worker(service, clock, terms)
    first.room(48), second.room(48)
    with structlog.testing.capture_logs() as lines:
        for _ in range(FAILURES):
            first.learn(None, reached=False)
            first.tell()
    assert [line["event"] for line in lines] == ["provider.silent"]
    clock.now += 10 * HELD_S
    service.redis.hset("billing-test:limits:own", mapping={"next_at": "0"})
    slow = Terms(most=100.0, probe_s=600.0)
    first._terms = second._terms = slow
    assert first.room(48) + second.room(48) == 1
    clock.now += 600
    first.learn(None, reached=True)
    assert first.tell() is True
    assert first.tell() is False, "said once"
    assert second.tell() is False, "it does not know yet"
    assert second.room(48) > 1
    assert second.tell() is True


def test_a_queue_that_can_wait_asks_like_every_other_after_a_second_without_a_token(
    service: Service, clock: Clock
) -> None:
    pace = worker(service, clock, Terms(most=4.0, probe_s=5.0), leaves=0.5)
    assert use_up(pace, clock) >= 1
    service.redis.hset("billing-test:limits:own", mapping={"tokens": "1.2", "at": "99999999999"})
    clock.now += ALONE_S
    assert pace.room(48) == 1, "hungry"
    pace.spend(None)
    service.redis.hset("billing-test:limits:own", mapping={"tokens": "1.2", "at": "99999999999"})
    clock.now += HUNGRY_S / 2
    assert pace.room(48) == 0


# While Redis is away.


@pytest.fixture
def redis_behind(service: Service) -> Iterator[Proxy]:
    address = make_url(service.redis_url)
    with Proxy(address.host or "", address.port or 0) as proxy:
        yield proxy


def far_worker(service: Service, proxy: Proxy, clock: Clock, **more: float) -> Pace:
    url = make_url(service.redis_url).set(host="127.0.0.1", port=proxy.port)
    redis = bells.open_redis(url.render_as_string(hide_password=False), pace.ALONE_S)
    return Pace(TERMS, shared=SharedBuckets(redis, "test"), clock=clock, **more)


def test_while_redis_is_away_a_worker_keeps_to_its_share_and_then_shares_again(
    service: Service, redis_behind: Proxy, clock: Clock
) -> None:
    alone = far_worker(service, redis_behind, clock, share=0.25)
    assert alone.room(48) > 0
    redis_behind.refuse()
    used, until = 0, clock.now + 20
    with structlog.testing.capture_logs() as lines:
        clock.now += HELD_S
        while clock.now < until:
            for _ in range(alone.room(48)):
                alone.spend(None)
                used += 1
            clock.now += 0.02
    assert 20 * 25 * 0.9 <= used <= 20 * 25 * 1.1
    assert [(line["event"], line["rate"]) for line in lines] == [("limits.alone", 25.0)]
    redis_behind.heal()
    clock.now += ALONE_S + 0.01
    alone.room(48)
    assert alone._accounts[None].rate == 100.0


def test_while_redis_is_away_a_worker_finds_a_silent_account_by_itself(
    service: Service, redis_behind: Proxy, clock: Clock
) -> None:
    alone = far_worker(service, redis_behind, clock)
    redis_behind.refuse()
    for _ in range(FAILURES):
        alone.learn(None, reached=False)
    alone.tell()
    clock.now += TERMS.probe_s + HELD_S
    assert [alone.room(48), alone.room(48)] == [1, 1], "one token, and it is held"
    alone.spend(None)
    assert alone.room(48) == 0
    alone.learn(None, reached=True)
    assert alone.tell() is True
    assert alone.room(48) > 1


def test_a_worker_asks_a_redis_that_is_away_once_in_a_while_only(
    service: Service, redis_behind: Proxy, clock: Clock
) -> None:
    alone = far_worker(service, redis_behind, clock)
    redis_behind.refuse()
    alone.room(48)
    calls = 0

    def counting(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise pace.RedisError

    assert alone._shared is not None
    alone._shared.exchange = counting  # type: ignore[assignment,method-assign]
    for _ in range(100):
        alone.room(48)
        alone.spend(None)
        clock.now += ALONE_S / 50
    assert calls == 1


def test_a_look_that_runs_out_of_its_time_in_a_long_list_has_reached_the_provider() -> None:
    """Otherwise three of them, tried again and again, would stop all other calls of their account."""
    unanswered = LookResult(Learned.LOOK_UNANSWERED, answer=NoAnswer("OverBudget"))
    call: Any = None  # not asked
    assert Report(call, unanswered, 1, requests=9).reached is True
    assert Report(call, unanswered, 1, requests=1).reached is False
