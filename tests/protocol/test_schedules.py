"""Deaths, lost answers, late arrivals, paused processes and days of outage: one effect at most, and an end."""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any
from unittest import mock

import pytest
from cases import case
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_model import FATES, MAKING, PAUSES, REFUSALS, TAKE, TAKING, Schedule, Violation, World

from billing import effects, idempotency
from billing.calls import Standing
from billing.idempotency import MAX_ROTATIONS, REFUSED_EACH_TIME, Look, Rotate
from billing.learned import Learned
from billing.registration import Operation
from billing.states import CaptureState, RecordState

SEEDS = range(1500)

fates = st.lists(st.tuples(st.sampled_from(FATES), st.floats(0, 1)), max_size=10)
pauses = st.lists(st.sampled_from(PAUSES), max_size=14)


def ended(world: World) -> None:
    """One effect, told as such, and every record but the last disproved."""
    assert len(world.provider.effects) == 1
    assert world.loaded.row.state == CaptureState.CAPTURED
    *older, last = world.loaded.records
    assert last.state == RecordState.ANSWERED
    assert all(record.state == RecordState.DISPROVED for record in older)
    assert [record.generation for record in world.loaded.records] == list(range(1, len(older) + 2))
    versions = [fact.entity_version for fact in world.loaded.facts]
    assert versions == list(range(2, len(versions) + 2))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(fates=fates, pauses=pauses)
def test_whatever_happens_money_is_taken_once_and_it_ends(fates: Any, pauses: Any):
    ended(World(Schedule(fates, pauses)).run())


def test_random_schedules_take_money_once_and_end():
    disproved = 0
    for seed in SEEDS:
        try:
            world = World(Schedule.random(seed)).run()
            ended(world)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure
        disproved += len(world.loaded.records) - 1
    # The schedules reach what is dangerous: keys that are replaced.
    assert disproved > 100


@pytest.mark.parametrize("fate", FATES)
def test_every_fate_by_itself_ends(fate: str):
    for late, times in product([0.0, 0.5, 0.99], [1, 2, 4]):
        with case(f"{times} times, late {late}"):
            ended(World(Schedule([(fate, late)] * times, [])).run())


# The provider refuses, and does not say of what state it speaks: a 400 that has a key, and one that has none.


def ended_or_refused(world: World) -> None:
    """As `ended`; or nothing happened, the provider's last word was a 400, and that is what we say."""
    if world.loaded.row.state != CaptureState.REFUSED:
        ended(world)
        return
    *older, last = world.loaded.records
    assert (world.provider.effects, last.answer_status, last.state) == ([], 400, RecordState.ANSWERED)
    assert all(record.state == RecordState.DISPROVED for record in older)
    if last.learned == Learned.REFUSED:
        # At its first send, of a call that creates.
        assert (world.operation, last.unanswered) == (MAKING, 1)
    else:
        assert (last.conclusion, len(older)) == (REFUSED_EACH_TIME, MAX_ROTATIONS)


@pytest.mark.parametrize("operation", [TAKING, MAKING], ids=["take", "make"])
def test_a_refusal_ends_it_only_where_nothing_happened(operation: Operation):
    refused = 0
    for seed in SEEDS[:500]:
        # Refused again and again, but for up to four times when something else happens.
        dice = random.Random(seed)
        fates = [(fate, 0.0) for _ in range(12) for fate in (dice.choice(REFUSALS), "answered")]
        for _ in range(dice.randint(0, 4)):
            fates[dice.randrange(10)] = (dice.choice(FATES), dice.random())
        try:
            ended_or_refused(world := World(Schedule(fates, []), operation=operation).run())
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure
        refused += world.loaded.row.state == CaptureState.REFUSED
    assert 50 < refused < 500


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_is_refused_under_every_key_is_refused_and_not_asked_for_ever(refusal: str):
    world = World(Schedule([(refusal, 0.0), ("answered", 0.0)] * 20, [])).run()
    ended_or_refused(world)
    assert world.loaded.row.state == CaptureState.REFUSED


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_creates_is_refused_at_once_when_nothing_was_sent_before(refusal: str):
    world = World(Schedule([(refusal, 0.0)], []), operation=MAKING).run()
    assert (world.loaded.row.state, len(world.loaded.records)) == (CaptureState.REFUSED, 1)


def test_a_refusal_after_a_lost_answer_says_nothing_about_what_was_created():
    world = World(Schedule([("lost_after", 0.0), ("400_unsaved", 0.0)], []), operation=MAKING).run()
    ended(world)


# Each bracket takes one safeguard away. The same schedules find all of them.


def _fresh_key_per_attempt() -> list[Any]:
    real = effects.request_of
    return [mock.patch.object(effects, "request_of", lambda r: replace(real(r), key=f"{r.key}-{r.fence}"))]


def _rotation_without_proof() -> list[Any]:
    real = idempotency.next_move

    def guess(record: Any, *rest: Any) -> Any:
        move = real(record, *rest)
        return Rotate() if isinstance(move, Look) and record.learned == "nothing" and record.unanswered else move

    return [mock.patch.object(effects, "next_move", guess)]


def _rotation_before_absence_is_mature() -> list[Any]:
    return [mock.patch.object(idempotency, "absence_matures_at", return_value=None)]


def _no_horizon() -> list[Any]:
    return [mock.patch.object(idempotency, "_too_old", return_value=False)]


def _a_spent_key_is_sent_again() -> list[Any]:
    return [mock.patch.object(idempotency, "key_is_spent", idempotency._too_old)]


def _no_lease() -> list[Any]:
    return [
        mock.patch.object(idempotency, "lease_alive", return_value=False),
        mock.patch.object(effects, "lease_alive", return_value=False),
        mock.patch.object(World, "_leased", return_value=False),
    ]


def _a_missing_answer_is_taken_for_a_no() -> list[Any]:
    """The classic: an exception is a failure, and the next attempt is a new one."""
    real = effects.settle

    def settle(turn: Any, report: Any) -> Any:
        result = real(turn, report)
        record = turn.loaded.open_record
        if result.standing is Standing.IN_DOUBT and record is not None:
            record.state, record.concluded_at = RecordState.DISPROVED, turn.now
        return result

    return [mock.patch.object(effects, "settle", settle)]


def _a_refusal_is_believed_at_any_send() -> list[Any]:
    real = effects.read_answer

    def believe(step: Any, loaded: Any, record: Any, answer: Any) -> Any:
        reading = real(step, loaded, record, answer)
        refused = getattr(answer, "status", None) == 400
        return replace(reading, learned=Learned.REFUSED) if refused else reading

    return [mock.patch.object(effects, "read_answer", believe)]


MUTANTS: list[Callable[[], list[Any]]] = [
    _fresh_key_per_attempt,
    _rotation_without_proof,
    _rotation_before_absence_is_mature,
    _no_horizon,
    _a_spent_key_is_sent_again,
    _no_lease,
    _a_missing_answer_is_taken_for_a_no,
    _a_refusal_is_believed_at_any_send,
]


@contextlib.contextmanager
def _mutated(patches: list[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__.strip("_"))
def test_each_safeguard_is_missed_when_it_is_gone(mutant: Callable[[], list[Any]]):
    with _mutated(mutant()):
        for seed in SEEDS:
            try:
                World(Schedule.random(seed)).run()
                World(Schedule.random(seed, fates=(*FATES, *REFUSALS)), operation=MAKING).run()
            except Violation as violation:
                print(f"seed {seed}: {violation}")
                return
    pytest.fail(f"{len(SEEDS)} schedules did not notice it")


# What these schedules have found so far.


@pytest.mark.parametrize("seed", [395, 4061, 8224])
def test_work_that_was_held_after_a_look_is_looked_at_again_before_its_key_is_replaced(seed: int):
    ended(World(Schedule.random(seed, holds=True)).run())


def test_a_dead_crew_does_not_shorten_the_wait_for_a_request_that_is_still_on_its_way():
    fates = [("died_before", 0.0), ("500_unsaved", 0.0), ("500_unsaved", 0.0), ("500_then_arrives", 0.99)]
    ended(World(Schedule(fates, [])).run())


def test_the_model_has_no_guard_of_its_own():
    """Its provider takes money as often as it is asked under new keys; only the protocol stops a second time."""
    world = World(Schedule([], []))
    request = effects.request_of(effects.plan(world.loaded, TAKE, world.call_settings))
    for key in ("a", "b"):
        world.provider.execute(replace(request, key=key))
    assert len(world.provider.effects) == 2
