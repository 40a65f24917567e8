"""When a relay rests, rings again and asks what is costly. No clock runs here: each time is given."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.road.cadence import (
    BUSY_FOR_S,
    CHECK_REST,
    IDLE_PAUSE_S,
    LONGEST_REST_S,
    POLL_EVERY_S,
    RING_AGAIN_S,
    ROUND_PAUSE_S,
    SLOW_CHECK_S,
    STAMP_EVERY_S,
    UNKNOWN_EVERY_S,
    Cadence,
    CostlyChecks,
    Rest,
)

BOTH, NEITHER = CostlyChecks(stopped=True, unknown=True), CostlyChecks(stopped=False, unknown=False)


def test_an_idle_relay_rests_long_and_looks_for_nothing_meanwhile():
    assert Cadence().rest(100.0, saturated=False) == Rest(100.0 + IDLE_PAUSE_S, None)


def test_for_a_second_after_something_moved_it_rests_shortly_and_looks_for_new_requests():
    cadence = Cadence()
    cadence.moved(100.0)
    assert cadence.rest(100.0, saturated=False) == Rest(100.0 + ROUND_PAUSE_S, POLL_EVERY_S)
    assert cadence.rest(100.0, saturated=True) == Rest(100.0 + ROUND_PAUSE_S, None), "what is planned starts no sooner"
    assert cadence.rest(99.99 + BUSY_FOR_S, saturated=False).poll_every_s == POLL_EVERY_S
    assert cadence.rest(100.0 + BUSY_FOR_S, saturated=False) == Rest(100.0 + BUSY_FOR_S + IDLE_PAUSE_S, None)


def test_an_idle_relay_stamps_whenever_there_is_something_and_a_busy_one_once_a_second():
    cadence = Cadence()
    cadence.stamped(100.0)
    assert cadence.should_stamp(100.01)
    cadence.busy_until = 200.0
    cadence.stamped(150.0)
    assert not cadence.should_stamp(150.0 + STAMP_EVERY_S - 0.01)
    assert cadence.should_stamp(150.0 + STAMP_EVERY_S)
    cadence.stamped(199.9)
    assert not cadence.should_stamp(199.95)
    assert cadence.should_stamp(200.0)


def test_the_first_round_asks_everything():
    assert Cadence().costly_checks(0.0) == BOTH


def test_unknown_contracts_are_asked_for_once_a_second_from_when_the_answer_came():
    cadence = Cadence()
    cadence.checked(BOTH, 100.0, 100.05)
    assert cadence.costly_checks(100.04 + UNKNOWN_EVERY_S) == CostlyChecks(stopped=True, unknown=False)
    assert cadence.costly_checks(100.05 + UNKNOWN_EVERY_S) == BOTH


def test_what_switches_stop_is_asked_for_in_every_round_while_that_is_quick():
    cadence = Cadence()
    for n in range(10):
        cadence.checked(cadence.costly_checks(100.0 + n), 100.0 + n, 100.0 + n + SLOW_CHECK_S)
        assert cadence.costly_checks(100.0 + n + SLOW_CHECK_S).stopped


def test_where_that_was_slow_it_is_asked_again_after_twenty_times_as_long():
    cadence = Cadence()
    cadence.checked(BOTH, 100.0, 102.0)
    assert cadence.costly_checks(102.0 + 2.0 * CHECK_REST - 0.01) == NEITHER
    assert cadence.costly_checks(102.0 + 2.0 * CHECK_REST) == BOTH


def test_a_process_that_was_stopped_for_an_hour_in_the_middle_of_a_check_rests_for_a_minute():
    cadence = Cadence()
    cadence.checked(BOTH, 100.0, 3700.0)
    assert cadence.costly_checks(3700.0 + LONGEST_REST_S) == BOTH
    cadence.measured(100.0, 3700.0)
    assert cadence.should_measure(3700.0 + LONGEST_REST_S)


def test_a_slow_round_that_did_not_ask_for_it_postpones_nothing():
    cadence = Cadence()
    cadence.checked(NEITHER, 100.0, 110.0)
    assert cadence.costly_checks(110.0) == BOTH


def test_a_queue_is_rung_at_once_and_while_work_stays_claimable_once_a_second():
    cadence = Cadence()
    assert cadence.should_ring("captures", 1, 100.0)
    assert cadence.should_ring("captures", 1, 100.0), "only what was rung counts: Redis may have been away"
    cadence.rung("captures", 100.0)
    assert not cadence.should_ring("captures", 1, 100.0 + RING_AGAIN_S - 0.01)
    assert cadence.should_ring("invoices", 1, 100.0)
    assert cadence.should_ring("captures", 1, 100.0 + RING_AGAIN_S)


def test_an_empty_queue_is_not_rung_and_forgets_when_it_last_was():
    cadence = Cadence()
    cadence.rung("captures", 100.0)
    assert not cadence.should_ring("captures", 0, 100.1)
    assert cadence.should_ring("captures", 1, 100.2)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=60))
def test_however_slow_the_costly_questions_are_they_take_no_more_than_a_twentieth_of_the_time(rounds):
    """Of a look that is slow; one that is quick may be asked all the time."""
    cadence, now, asking, began_at = Cadence(), 0.0, 0.0, 0.0
    for pause, took in rounds:
        costly = cadence.costly_checks(now)
        if costly.stopped and took > SLOW_CHECK_S:
            # The time since the last one that was slow was long enough.
            assert asking == 0.0 or now - began_at >= asking * CHECK_REST
            asking, began_at = took, now + took
        cadence.checked(costly, now, now + took)
        now += took + pause
