"""The one decision about money, over its whole domain: every record, every age, every rule."""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.idempotency import (
    ALREADY_DONE,
    LOOKS_BEFORE_ALARM,
    MAX_ROTATIONS,
    MAX_SERVER_ERRORS,
    REFUSED_EACH_TIME,
    Conflict,
    Done,
    Look,
    Move,
    Park,
    Resend,
    Rotate,
    Rules,
    Send,
    Wait,
    key_for,
    lease_alive,
    look_backoff,
    next_move,
)
from billing.learned import CONTRADICTIONS, DEFINITE, FOUND, UNCHANGED, Learned
from billing.timing import PRODUCTION as TIMING

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HORIZON = timedelta(hours=23)
SETTLE = timedelta(seconds=TIMING.settle_s)
MARGIN = timedelta(seconds=TIMING.deadline_margin_s)


@dataclass
class Known:
    """A record as the decision sees it; nothing of a database."""

    learned: str = "nothing"
    sends: int = 0
    unanswered: int = 0
    unreported: int = 0
    server_errors: int = 0
    replayed: bool = False
    look_only: bool = False
    margin_looked: bool = False
    looks: int = 0
    first_sent_at: datetime | None = None
    last_prepared_at: datetime | None = None
    last_reported_at: datetime | None = None
    lease_until: datetime | None = None
    lease_s: float | None = None
    deadline: datetime | None = None
    looked_at: datetime | None = None
    answer_status: int | None = None


# (sends, unanswered, unreported, server errors)
COUNTS = (
    (0, 0, 0, 0),
    (1, 0, 0, 0),  # throttled, or its connection was never opened
    (1, 1, 0, 1),
    (1, 1, 1, 0),
    (3, 2, 1, 2),
    (3, 3, 0, 3),
    (4, 4, 1, 3),
)
AGES = (
    timedelta(0),
    SETTLE - SECOND,
    SETTLE + 2 * SECOND,
    TIMING.abandoned + 2 * SECOND,
    HORIZON - SECOND,
    HORIZON,
    HORIZON + SECOND,
    -SECOND,
)
DEADLINES = (None, timedelta(days=6), MARGIN - SECOND, timedelta(0), -SECOND, -timedelta(hours=2))
RULES = (
    *(Rules(replays, settles) for replays, settles in product((True, False), repeat=2)),
    Rules(replays=False, alarms=False),
    Rules(replays=False, once=True),
)
FLAGS = tuple(product((True, False), repeat=3))


def records() -> Iterator[Known]:
    for learned, counts, age, flags, deadline in product(Learned, COUNTS, AGES, FLAGS, DEADLINES):
        sends, unanswered, unreported, server_errors = counts
        replayed, look_only, margin_looked = flags
        sent = NOW - age if sends else None
        record = Known(
            learned=learned,
            sends=sends,
            unanswered=unanswered,
            unreported=unreported,
            server_errors=server_errors,
            replayed=replayed,
            look_only=look_only,
            margin_looked=margin_looked,
            looks=2,
            first_sent_at=sent,
            last_prepared_at=sent,
            last_reported_at=sent + SECOND if sent and unreported < sends else None,
            deadline=NOW + deadline if deadline is not None else None,
            looked_at=NOW,
        )
        yield record
        if learned == Learned.ABSENT:
            yield replace(record, answer_status=400)
            yield replace(record, answer_status=500)
        if learned in (Learned.UNPROVABLE, Learned.LOOK_UNANSWERED):
            yield replace(record, looks=LOOKS_BEFORE_ALARM)


# What must hold, each told again in other words than the code's own.


def _age(record: Known) -> timedelta:
    return NOW - record.first_sent_at if record.first_sent_at else timedelta(0)


def _spent(record: Known) -> bool:
    return record.look_only or record.server_errors >= 3 or _age(record) < timedelta(0) or _age(record) >= HORIZON


def _over(record: Known) -> bool:
    return record.deadline is not None and record.deadline <= NOW


def _sends(move: Move) -> bool:
    return isinstance(move, Send | Resend)


def a_spent_key_is_never_sent(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    return not (rules.replays and _sends(move) and _spent(record))


def nothing_is_sent_or_rotated_after_the_deadline(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    return not (rules.replays and _over(record) and (_sends(move) or isinstance(move, Rotate)))


def a_key_is_replaced_only_when_it_is_spent_and_proven_absent(
    record: Known, rules: Rules, rotations: int, move: Move
) -> bool:
    proven = record.learned == Learned.ABSENT and _spent(record) and rules.replays and rotations < MAX_ROTATIONS
    return proven or not isinstance(move, Rotate)


def a_key_is_replaced_only_when_no_send_can_still_arrive(
    record: Known, rules: Rules, rotations: int, move: Move
) -> bool:
    sealed = record.replayed and not rules.proof_settles and timedelta(0) <= _age(record) < HORIZON
    if not isinstance(move, Rotate) or sealed:
        return True
    if record.unreported and record.last_prepared_at and record.last_prepared_at + TIMING.abandoned > NOW:
        return False
    settling = record.unanswered or rules.proof_settles
    return not (
        not record.unreported and settling and record.last_reported_at and record.last_reported_at + SETTLE > NOW
    )


def a_definite_answer_is_final(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    definite = Learned(record.learned) in DEFINITE
    return move == Done(Learned(record.learned)) if definite else True


def what_a_look_found_ends_it(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    expected = {
        "found_ours": Done(Learned.SUCCEEDED),
        "found_free": Done(Learned.SUCCEEDED, ALREADY_DONE),
        "found_claimed": Conflict(),
        "found_different": Conflict(),
        "mismatch": Conflict(),
        "impossible": Done(Learned.REFUSED),
        "impossible_expired": Done(Learned.EXPIRED),
        "impossible_canceled": Done(Learned.CANCELED),
    }.get(record.learned)
    return expected is None or move == expected


def only_what_was_found_ends_it(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    undecided = record.learned in ("nothing", "ask", "absent", "unprovable", "look_unanswered")
    return undecided != isinstance(move, Done | Conflict) or move == Done(Learned.REFUSED, REFUSED_EACH_TIME)


def it_is_refused_without_an_effect_only_after_every_key_was_refused_and_disproved(
    record: Known, rules: Rules, rotations: int, move: Move
) -> bool:
    """Where a further key would have been taken, and the provider's last word under this one was a 400."""
    if move != Done(Learned.REFUSED, REFUSED_EACH_TIME):
        return True
    proven = record.learned == Learned.ABSENT and record.look_only and rules.replays and not _over(record)
    earlier = next_move(record, NOW, TIMING, rules, MAX_ROTATIONS - 1)
    return proven and record.answer_status == 400 and rotations >= MAX_ROTATIONS and earlier == Rotate()


def an_answer_that_says_look_is_never_followed_by_a_send(
    record: Known, rules: Rules, rotations: int, move: Move
) -> bool:
    record_says = record.learned == Learned.ASK and (record.look_only or not rules.replays)
    return not (record_says and not isinstance(move, Look))


def an_unanswered_look_is_repeated(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    if record.learned != Learned.LOOK_UNANSWERED:
        return True
    again = TIMING.look_first_s * (2 if record.looks == 2 else 128)
    at = NOW + timedelta(seconds=min(again, TIMING.look_max_s))
    return move == (Park(at) if record.looks >= LOOKS_BEFORE_ALARM and rules.alarms else Look(at))


def an_unanswered_send_is_resent_and_never_sent(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    if rules.replays:
        return move != Send() if record.unanswered else move != Resend()
    return move != Send() if record.sends else move != Resend()


def it_is_looked_at_before_the_deadline(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    near = record.deadline is not None and record.deadline - MARGIN <= NOW
    asks = rules.replays and near and not record.margin_looked and record.learned == Learned.NOTHING
    return not (asks and _sends(move))


def a_look_or_a_park_has_its_time(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    if isinstance(move, Look):
        return move.at >= NOW
    return not isinstance(move, Park) or move.look_at > NOW


def it_is_parked_only_when_nothing_can_be_proven(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    long_past = record.deadline is not None and NOW - record.deadline >= timedelta(hours=1)
    patient = record.looks >= LOOKS_BEFORE_ALARM and rules.alarms
    may = {
        Learned.UNPROVABLE: rules.replays or rules.once or patient,
        # What may be repeated is told when it was refused again and again, or for a day.
        Learned.ABSENT: rotations >= MAX_ROTATIONS or long_past or not rules.replays,
        Learned.LOOK_UNANSWERED: patient,
    }
    return not isinstance(move, Park) or may.get(Learned(record.learned), False)


def what_may_be_repeated_is_not_repeated_for_ever(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    refused = record.look_only and record.sends > MAX_ROTATIONS
    old = record.sends > 0 and not timedelta(0) <= _age(record) < HORIZON
    return rules.replays or not (refused or old) or not _sends(move)


def what_may_have_been_done_is_never_done_again_where_nobody_knows_a_key(
    record: Known, rules: Rules, rotations: int, move: Move
) -> bool:
    may_have_been = record.unanswered > 0 or record.look_only
    return not (rules.once and may_have_been and (_sends(move) or isinstance(move, Rotate)))


def without_a_lease_nobody_waits(record: Known, rules: Rules, rotations: int, move: Move) -> bool:
    return not isinstance(move, Wait)


INVARIANTS = (
    a_spent_key_is_never_sent,
    nothing_is_sent_or_rotated_after_the_deadline,
    a_key_is_replaced_only_when_it_is_spent_and_proven_absent,
    a_key_is_replaced_only_when_no_send_can_still_arrive,
    a_definite_answer_is_final,
    what_a_look_found_ends_it,
    only_what_was_found_ends_it,
    it_is_refused_without_an_effect_only_after_every_key_was_refused_and_disproved,
    what_may_be_repeated_is_not_repeated_for_ever,
    an_answer_that_says_look_is_never_followed_by_a_send,
    an_unanswered_look_is_repeated,
    an_unanswered_send_is_resent_and_never_sent,
    it_is_looked_at_before_the_deadline,
    a_look_or_a_park_has_its_time,
    it_is_parked_only_when_nothing_can_be_proven,
    what_may_have_been_done_is_never_done_again_where_nobody_knows_a_key,
    without_a_lease_nobody_waits,
)


def test_a_function_of_ours_is_done_when_it_answered_and_else_run_again_whatever_is_known() -> None:
    """Nothing that was learned, no age and no deadline leads to a look, a new key, or an end without an answer."""
    local = Rules(replays=False, local=True)
    for record in records():
        move = next_move(record, NOW, TIMING, local)
        if record.learned in DEFINITE:
            assert move == Done(Learned(record.learned))
        else:
            assert move == (Resend() if record.sends else Send())
    leased = replace(record, learned=Learned.NOTHING, lease_until=NOW + SECOND, lease_s=15.0)
    assert next_move(leased, NOW, TIMING, local) == Wait(NOW + SECOND)


@dataclass
class Survey:
    broken: dict[str, list[str]]
    moves: Counter[str]
    left_by: dict[str, set[str]]
    cells: int


@pytest.fixture(scope="module")
def survey() -> Survey:
    """The whole domain, walked once."""
    survey = Survey({check.__name__: [] for check in INVARIANTS}, Counter(), {}, 0)
    for record in records():
        for rules, rotations in product(RULES, (0, MAX_ROTATIONS)):
            if rotations and record.learned != Learned.ABSENT:
                continue
            move = next_move(record, NOW, TIMING, rules, rotations)
            survey.cells += 1
            survey.moves[type(move).__name__] += 1
            survey.left_by.setdefault(record.learned, set()).add(type(move).__name__)
            for check in INVARIANTS:
                if not check(record, rules, rotations, move) and len(survey.broken[check.__name__]) < 3:
                    survey.broken[check.__name__].append(f"{record} {rules} {rotations} -> {move}")
    return survey


def test_what_was_learned_belongs_to_exactly_one_group():
    decides_nothing = {Learned.NOTHING, Learned.ASK, Learned.LOOK_UNANSWERED}
    groups = Counter(each for group in (decides_nothing, DEFINITE, FOUND, UNCHANGED, CONTRADICTIONS) for each in group)
    assert groups == Counter(Learned)


@pytest.mark.parametrize("invariant", [check.__name__ for check in INVARIANTS])
def test_over_the_whole_domain(survey: Survey, invariant: str):
    assert survey.cells > 100_000
    assert not survey.broken[invariant], "\n".join(survey.broken[invariant])


def test_every_move_is_reached(survey: Survey):
    assert set(survey.moves) | {"Wait"} == {move.__name__ for move in get_args(Move)}


@pytest.mark.parametrize("learned", list(Learned))
def test_no_state_is_a_dead_end(survey: Survey, learned: Learned):
    """Each ends, or leads to a call: a send, a new key, or a look that has its time."""
    assert survey.left_by[learned], learned
    ends = survey.left_by[learned] <= {"Done", "Conflict"}
    acts = survey.left_by[learned] & {"Send", "Resend", "Rotate", "Look"}
    assert ends or acts


LEASES = {
    "none": (None, None, False),
    "alive": (NOW + 5 * SECOND, 15.0, True),
    "just over": (NOW, 15.0, False),
    "over": (NOW - SECOND, 15.0, False),
    "as long as it can be": (NOW + 16 * SECOND, 15.0, True),
    "longer than it can be: a clock was set back": (NOW + 17 * SECOND, 15.0, False),
}


@pytest.mark.parametrize("learned", [learned for learned in Learned if learned not in DEFINITE])
@pytest.mark.parametrize("name", LEASES)
def test_a_living_lease_is_waited_for_and_no_other(name: str, learned: Learned):
    until, length, alive = LEASES[name]
    record = Known(
        learned=learned,
        sends=1,
        unanswered=1,
        unreported=1,
        first_sent_at=NOW - SECOND,
        last_prepared_at=NOW - SECOND,
        lease_until=until,
        lease_s=length,
    )
    assert lease_alive(record, NOW) is alive
    for rules in RULES:
        move = next_move(record, NOW, TIMING, rules)
        assert (move == Wait(until)) is alive


def test_a_definite_answer_does_not_wait_for_a_lease():
    record = Known(learned="succeeded", sends=1, lease_until=NOW + SECOND, lease_s=15)
    assert next_move(record, NOW, TIMING) == Done(Learned.SUCCEEDED)


def test_the_decision_changes_nothing_and_always_decides_the_same():
    for number, record in enumerate(records()):
        if number % 97:
            continue
        before = copy.copy(record)
        first = next_move(record, NOW, TIMING)
        assert record == before
        assert next_move(record, NOW, TIMING) == first


def test_the_third_server_error_spends_the_key():
    record = Known(sends=3, unanswered=3, server_errors=MAX_SERVER_ERRORS, first_sent_at=NOW, last_prepared_at=NOW)
    assert next_move(record, NOW, TIMING) == Look(NOW)
    record.server_errors -= 1
    assert next_move(record, NOW, TIMING) == Resend()


def test_a_replayed_error_is_followed_by_a_new_key_at_once_when_nothing_happened():
    """Whoever still sends under the old key gets the same replay, so there is nobody to wait for."""
    record = Known(
        learned="absent",
        sends=1,
        unanswered=1,
        replayed=True,
        look_only=True,
        first_sent_at=NOW,
        last_prepared_at=NOW,
        last_reported_at=NOW,
    )
    assert next_move(record, NOW, TIMING) == Rotate()
    # Where absence is read from lists or events, they have to have settled.
    assert next_move(record, NOW, TIMING, Rules(proof_settles=True)) == Look(NOW + SETTLE)


def test_a_send_that_nobody_reported_may_still_wake_up():
    record = Known(
        learned="absent",
        sends=1,
        unanswered=1,
        unreported=1,
        look_only=True,
        first_sent_at=NOW,
        last_prepared_at=NOW,
        looked_at=NOW,
    )
    assert next_move(record, NOW, TIMING) == Look(NOW + TIMING.abandoned)
    record.looked_at = NOW + TIMING.abandoned
    assert next_move(record, NOW + TIMING.abandoned, TIMING) == Rotate()


def test_absence_waits_for_the_unreported_send_and_for_the_last_reported_one():
    """The first crew died at once; the second's request was still on its way when its budget of 30 s was over."""
    record = Known(
        learned="absent",
        sends=2,
        unanswered=2,
        unreported=1,
        look_only=True,
        first_sent_at=NOW,
        last_prepared_at=NOW + 20 * SECOND,
        last_reported_at=NOW + 50 * SECOND,
    )
    settled = NOW + 50 * SECOND + SETTLE
    assert next_move(record, settled - SECOND, TIMING) == Look(settled)


def test_looks_are_repeated_with_growing_pauses_up_to_an_hour():
    pauses = [look_backoff(Known(looks=looks), TIMING).total_seconds() for looks in range(12)]
    assert pauses[:4] == [60, 60, 120, 240]
    assert pauses[-1] == 3600
    assert look_backoff(Known(looks=10**9), TIMING).total_seconds() == 3600


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    learned=st.sampled_from(Learned),
    numbers=st.tuples(*[st.integers(0, 6)] * 5),
    flags=st.tuples(*[st.booleans()] * 3),
    moments=st.tuples(*[st.none() | st.integers(-200_000, 200_000)] * 5),
    lease_s=st.none() | st.floats(0.1, 60),
    rules=st.sampled_from(RULES),
    rotations=st.integers(0, 5),
)
def test_there_is_always_exactly_one_move(learned, numbers, flags, moments, lease_s, rules, rotations):
    times = [NOW + timedelta(seconds=each) if each is not None else None for each in moments]
    record = Known(learned, *numbers[:4], *flags, numbers[4], *times[:4], lease_s, times[4])
    move = next_move(record, NOW, TIMING, rules, rotations)
    assert isinstance(move, get_args(Move))
    if _sends(move) and rules.replays:
        assert not _spent(record)
        assert not _over(record)


# The key.


def test_a_key_names_the_business_and_nothing_that_changes():
    """[17, 18, 20, 41]"""
    assert key_for("billing", "live", "cap_1", "capture", 2) == "billing:live:cap_1:capture:g2"


@pytest.mark.parametrize("missing", range(4))
def test_a_key_is_never_empty(missing: int):
    parts = ["billing", "live", "cap_1", "capture"]
    parts[missing] = ""
    with pytest.raises(ValueError, match="no usable idempotency key"):
        key_for(*parts, 1)


def test_a_key_is_never_longer_than_stripe_takes():
    assert len(key_for("b" * 200, "e" * 10, "o" * 20, "s" * 19, 1)) == 255
    with pytest.raises(ValueError, match="no usable idempotency key"):
        key_for("b" * 200, "e" * 10, "o" * 20, "s" * 20, 1)
