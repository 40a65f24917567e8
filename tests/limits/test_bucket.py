"""The rule of one account's bucket: its rate, its tokens, and whether it answers; in Python and in Redis alike."""

import random
from dataclasses import fields

from redis import Redis
from service import Service

from jobs.limits import bucket
from jobs.limits.bucket import CUT, CUTS, FAILURES, Ask, Bucket, Change, Grant, Terms
from jobs.limits.shared import SharedBuckets, standings

TERMS = Terms(most=100.0, probe_s=5.0)
START = 1_000_000.0
LOT = 10


class Account:
    """A bucket, and a clock that a test moves."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.terms, self.now, self.bucket = terms, START, Bucket.full(terms, START)

    def asks(self, want: int = 0, *, after_s: float = 0.0, **told: float) -> Grant:
        self.now += after_s
        return self.bucket.exchange(Ask(want, **told), self.terms, self.now)  # type: ignore[arg-type]

    def takes_for(self, seconds: float) -> int:
        """By somebody who asks a hundred times a second for as much as there is."""
        return sum(self.asks(1000, after_s=0.01).tokens for _ in range(round(seconds * 100)))

    def falls_silent(self) -> Grant:
        return self.asks(failed=FAILURES, after_s=self.terms.probe_s)


# The rate.


def test_an_account_gets_its_rate_and_no_more_however_much_is_wanted() -> None:
    account = Account()
    account.takes_for(1)
    assert 98 <= account.takes_for(1) <= 101


def test_a_bucket_that_was_not_used_holds_a_quarter_of_a_second() -> None:
    account = Account()
    account.asks(after_s=3600)
    taken = [account.asks(1000).tokens for _ in range(4)]
    assert taken == [LOT, LOT, 5, 0]


def test_a_429_cuts_the_rate_at_once_and_it_recovers_in_a_line_within_a_minute() -> None:
    account = Account()
    cut = account.asks(1000, cut=CUT)
    assert (cut.tokens, cut.rate, cut.changes) == (0, 70.0, (Change.THROTTLED,))
    half = account.asks(after_s=9)
    assert 84.9 < half.rate < 85.1
    assert account.asks(after_s=8).changes == ()
    assert account.asks(after_s=2).changes == (Change.RECOVERED,)
    assert account.asks(after_s=60).rate == 100.0


def test_the_429s_of_calls_that_were_in_flight_cut_it_once() -> None:
    account = Account()
    assert [account.asks(cut=CUT, after_s=0.1).rate > 69 for _ in range(5)] == [True] * 5
    assert account.asks(cut=CUT, after_s=0.2).rate < 50


def test_a_lock_timeout_slows_its_account_a_little_and_any_other_429_more() -> None:
    assert Account().asks(cut=CUTS["lock_timeout"]).rate == 90.0
    assert CUTS.keys() == {"lock_timeout"}


def test_an_account_is_called_once_a_second_however_often_it_is_throttled() -> None:
    account = Account()
    for _ in range(100):
        account.asks(cut=CUT, after_s=0.5)
    assert account.bucket.rate >= 1.0
    assert account.takes_for(3) >= 3


def test_what_was_taken_on_credit_is_paid_before_anything_else_is_given() -> None:
    account = Account()
    account.takes_for(1)
    account.asks(owed=50)
    assert account.takes_for(0.45) == 0
    assert account.takes_for(0.2) > 0


def test_a_debt_is_paid_within_a_second_however_large_it_is() -> None:
    account = Account()
    account.asks(owed=10**9)
    assert account.takes_for(1.05) > 0


def test_a_queue_that_can_wait_leaves_the_last_tokens_to_the_others() -> None:
    account = Account()
    assert sum(account.asks(1000, leaves=0.5).tokens for _ in range(5)) == 12
    assert account.asks(1000, leaves=0.5).wait_s > 0
    assert sum(account.asks(1000).tokens for _ in range(5)) == 13


def test_a_slow_account_is_called_by_a_queue_that_can_wait_too() -> None:
    account = Account(Terms(most=1.0, probe_s=5.0))
    assert sum(account.asks(5, leaves=0.5, after_s=1).tokens for _ in range(10)) >= 9


# Whether it answers.


def test_an_account_that_answers_some_calls_is_never_silent() -> None:
    account, rng = Account(), random.Random(7)
    answered_at = START
    for _ in range(2000):
        answers = rng.random() < 0.2
        told = account.asks(1, after_s=0.2, **({"answered_ago_s": 0.0} if answers else {"failed": 1}))
        answered_at = account.now if answers else answered_at
        assert not told.silent or account.now >= answered_at + 5.0


def test_a_silent_account_gets_one_token_in_a_while_and_all_once_it_answers() -> None:
    account = Account()
    assert account.asks(1000, failed=100).silent is False, "for a moment it may be anything"
    silent = account.asks(1000, after_s=5.0)
    assert (silent.tokens, silent.changes, silent.wait_s) == (1, (Change.SILENT,), 5.0)
    assert account.asks(1000, after_s=4.9).tokens == 0
    assert account.asks(0, after_s=0.1).tokens == 0, "nobody wants it"
    assert [account.asks(1000).tokens for _ in range(3)] == [1, 0, 0], "of all who ask, one gets it"
    found = account.asks(1000, answered_ago_s=0.0)
    assert (found.silent, found.changes) == (False, (Change.FOUND,))
    assert found.tokens == LOT
    assert account.asks(answered_ago_s=0.0, after_s=10).changes == (), "said once"


def test_few_failures_make_no_silence_and_the_answer_after_them_is_told() -> None:
    account = Account()
    assert account.asks(failed=FAILURES - 1).silent is False
    assert account.asks(1000, after_s=3600).tokens == LOT, "one operation that fails by itself stops no other"
    assert account.asks(answered_ago_s=0.0).changes == (Change.FOUND,), "what it waited with goes on"


def test_an_answer_from_before_a_silence_that_comes_late_does_not_end_it() -> None:
    account = Account()
    assert account.falls_silent().silent
    assert account.asks(after_s=3, answered_ago_s=6.0).silent
    assert account.asks(after_s=3, answered_ago_s=1.0).silent is False


def test_a_clock_that_was_set_back_stops_no_account_for_longer_than_a_probe() -> None:
    account = Account()
    account.takes_for(1)
    account.asks(after_s=-3600)
    assert account.takes_for(0.5) > 0
    account.falls_silent()
    account.asks(1, after_s=-3600)
    assert account.asks(1, after_s=5.0).tokens == 1


# In Redis.


def test_the_script_in_redis_is_the_same_rule(service: Service) -> None:
    """Over random histories both give the same, to the last digit; a third of the way the settings change."""
    shared, rng = SharedBuckets(service.redis, "test"), random.Random(11)
    seen: set[Change] = set()
    for history in range(12):
        terms, name = Terms(rng.choice([1.0, 3.5, 25.0, 1000.0]), 5.0), f"acct_{history}"
        now, mirror = START, Bucket.full(terms, START)
        mood = rng.random()
        for step in range(120):
            if step == 40:
                terms = Terms(rng.choice([2.0, 50.0]), 5.0)
            now += rng.choice([0.0, 0.001, 0.05, 0.7, 4.0, -2.0 if step % 30 == 0 else 1.0])
            ask = Ask(
                want=rng.choice([0, 1, 48]),
                owed=rng.choice([0, 0, 3]),
                cut=rng.choice([1.0, 1.0, 1.0, CUT, 0.9]),
                answered_ago_s=rng.choice([0.0, 0.3, 9.0]) if rng.random() < mood else None,
                failed=rng.choice([0, 1, 5]),
                leaves=rng.choice([0.0, 0.5]),
            )
            expected = mirror.exchange(ask, terms, now)
            assert shared.exchange({name: ask}, terms, now)[name] == expected
            seen.update(expected.changes)
    assert seen == set(Change)


def test_all_accounts_of_an_exchange_take_one_round_trip_also_after_a_flush(service: Service) -> None:
    shared = SharedBuckets(service.redis, "test")
    asks = {None: Ask(1), "acct_1": Ask(2), "acct_2": Ask(0)}
    for _ in range(2):
        service.redis.flushall()
        service.redis.script_flush()
        assert [grant.tokens for grant in shared.exchange(asks, TERMS).values()] == [1, 2, 0]
    before = _commands(service.redis)
    shared.exchange(asks, TERMS)
    assert _commands(service.redis) - before == 3


def _commands(redis: Redis) -> int:
    return sum(each["calls"] for name, each in redis.info("commandstats").items() if name == "cmdstat_evalsha")  # type: ignore[union-attr]


def test_every_key_ends_by_itself_and_stands_below_the_environment_s_own_prefix(service: Service) -> None:
    service.redis.flushall()
    SharedBuckets(service.redis, "test").exchange({None: Ask(1), "acct_1": Ask(1)}, TERMS)
    keys = {key.decode() for key in service.redis.keys("*")}  # type: ignore[union-attr]
    assert keys == {"billing-test:limits", "billing-test:limits:own", "billing-test:limits:acct_1"}
    assert all(0 < service.redis.ttl(key) <= 3600 for key in keys)  # type: ignore[operator]
    written = service.redis.hgetall("billing-test:limits:own")
    assert {key.decode() for key in written} == {each.name for each in fields(Bucket)}  # type: ignore[union-attr]


def test_what_is_shown_of_a_bucket_is_what_it_is_by_now(service: Service) -> None:
    shared = SharedBuckets(service.redis, "test")
    shared.exchange({"acct_1": Ask(0, failed=2)}, TERMS)
    shared.exchange({None: Ask(0, cut=CUT)}, TERMS)
    own, other = standings(service.redis, "test", TERMS)
    assert (own.account, other.account) == ("own", "acct_1")
    assert 70.0 <= own.rate < 100.0
    assert own.throttled_since is not None
    assert (other.rate, other.tokens, other.failures, other.throttled_since) == (100.0, 25.0, 2, None)
    # Something else has the name of a bucket.
    service.redis.delete("billing-test:limits:own")
    service.redis.hset("billing-test:limits:own", "rate", "much")
    assert [each.account for each in standings(service.redis, "test", TERMS)] == ["acct_1"]
    assert bucket.FAILURES == 3
