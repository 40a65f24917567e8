"""A legal hold keeps what a case needs, and its release frees only what no other hold needs."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from evidence import Archive
from test_verification import Attacker, ask_of, verify

from archive.errors import BadHold, BadQuestion, StoreAway
from archive.keeping import holds, search
from archive.keeping.search import Criteria
from archive.s3 import configuration
from billing import database

USD = {"minor": 1999, "currency": "USD"}
ONE = Criteria(payment_intent="pi_1")


@pytest.fixture
def two(archive: Archive) -> Archive:
    """Two captures: the first in batches 1 and 2 and in an attempt, the second in batches 1 and 3. And an invoice."""
    archive.tell("capture.requested", of="cap_1", payment_intent="pi_1", **USD)
    archive.tell("capture.requested", of="cap_2", payment_intent="pi_2", **USD)
    archive.archive_all()
    archive.tell("capture.attempted", "capture.captured", of="cap_1", **USD)
    archive.archive_all()
    archive.tell("capture.captured", of="cap_2", **USD)
    archive.tell("invoice.requested", of="inv_1", customer="cus_1", at="'2026-11-02 10:00+00'")
    archive.archive_all()
    return archive


def found(archive: Archive, criteria: Criteria) -> list[tuple[str, int, int]]:
    return [
        (each.manifest.retention_class, each.manifest.number, each.about)
        for each in search.search(archive.cache(), criteria)
    ]


def place(archive: Archive, name: str, criteria: Criteria) -> int:
    batches = [(name, number) for name, number, _ in found(archive, criteria)]
    with database.transaction(archive.service.engine) as session:
        holds.remember(session, name, criteria, batches, placed_by="grace", reason="LEGAL-7")
    return holds.hold_all(archive.store, ask_of(archive), name, pauses_s=())


def release(archive: Archive, name: str) -> int:
    lifted = holds.release(archive.store, ask_of(archive), name, pauses_s=())
    with database.transaction(archive.service.engine) as session:
        holds.mark_released(session, name)
    return lifted


def held(archive: Archive) -> set[tuple[str, int]]:
    attacker = Attacker(archive)
    return {
        (batch.retention_class, batch.number)
        for batch in archive.known()
        if archive.store.get(attacker.key(batch.number, batch.retention_class)).held
    }


# What is found.


def test_everything_that_happened_to_a_payment_is_found_in_every_class(two: Archive):
    assert found(two, ONE) == [("attempt", 1, 1), ("capture", 1, 1), ("capture", 2, 1)]
    assert found(two, Criteria(payment_intent="pi_2")) == [("capture", 1, 1), ("capture", 3, 1)]
    assert found(two, Criteria(customer="cus_1")) == [("invoice", 1, 1)]


def test_an_id_that_only_begins_like_it_is_another(two: Archive):
    assert found(two, Criteria(payment_intent="pi_")) == []
    assert found(two, Criteria(payment_intent="pi_1", customer="cus_1")) == []


def test_a_class_and_a_time_narrow_it_by_whole_days(two: Archive):
    assert found(two, Criteria(payment_intent="pi_1", retention_class="attempt")) == [("attempt", 1, 1)]
    noon = datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert found(two, Criteria(retention_class="invoice", since=noon)) == [("invoice", 1, 1)]
    assert found(two, Criteria(until=noon)) == [("invoice", 1, 1)]
    assert found(two, Criteria(until=noon.replace(hour=0))) == []
    assert ("invoice", 1, 1) not in found(two, Criteria(since=datetime(2026, 11, 3, tzinfo=UTC)))


def test_criteria_say_something_that_exists():
    with pytest.raises(BadQuestion, match="say what is to be held"):
        Criteria()
    with pytest.raises(BadQuestion, match="'refund' is no class"):
        Criteria(retention_class="refund")


# What is held.


def test_what_is_held_nobody_deletes_not_even_around_its_lock(two: Archive):
    assert place(two, "CASE-7", ONE) == 3
    assert held(two) == {("attempt", 1), ("capture", 1), ("capture", 2)}
    attacker = Attacker(two)
    with pytest.raises(ClientError, match="AccessDenied"):
        attacker.destroy(attacker.key(2))
    attacker.destroy(attacker.key(3))
    (told,) = verify(two).told
    assert "found no such version" in told


def test_a_hold_that_somebody_lifted_in_s3_is_named(two: Archive):
    place(two, "CASE-7", ONE)
    assert verify(two).told == []
    attacker = Attacker(two)
    key = attacker.key(2)
    configuration.set_hold(two.store, key, attacker.version(key), on=False)
    (told,) = verify(two).told
    assert "expected a legal hold; found none" in told


def test_a_release_frees_only_what_no_other_hold_needs(two: Archive):
    place(two, "CASE-7", ONE)
    place(two, "CASE-8", Criteria(payment_intent="pi_2"))
    assert release(two, "CASE-7") == 2
    assert held(two) == {("capture", 1), ("capture", 3)}
    assert verify(two).told == []
    assert release(two, "CASE-8") == 2
    assert held(two) == set()


def test_placed_again_it_holds_what_was_archived_since(two: Archive):
    place(two, "CASE-7", ONE)
    two.tell("capture.disputed", of="cap_1")
    two.archive_all()
    assert place(two, "CASE-7", ONE) == 4
    assert ("capture", 4) in held(two)


def test_a_name_is_of_one_case_and_is_not_used_again(two: Archive):
    place(two, "CASE-7", ONE)
    with pytest.raises(BadHold, match=r"CASE-7 holds .*pi_1.*another name"):
        place(two, "CASE-7", Criteria(payment_intent="pi_2"))
    release(two, "CASE-7")
    with pytest.raises(BadHold, match="CASE-7 was released on"):
        place(two, "CASE-7", ONE)
    with database.transaction(two.service.engine) as session:
        for name, told in (("CASE-7", "was released"), ("CASE-9", "there is no hold CASE-9")):
            with pytest.raises(BadHold, match=told):
                holds.in_force(session, name)


def test_a_batch_that_postgres_does_not_know_is_not_held_in_silence(two: Archive):
    with database.transaction(two.service.engine) as session, pytest.raises(BadHold, match="Postgres does not"):
        holds.remember(session, "CASE-7", ONE, [("capture", 99)], placed_by="grace", reason="LEGAL-7")


# What dies on its way, and what happens at the same time.


def dying_after(monkeypatch: pytest.MonkeyPatch, calls: int, meanwhile: Callable[[], None] = lambda: None) -> None:
    """The process dies after so many holds were set or lifted."""
    real, count = configuration.set_hold, 0

    def set_hold(*arguments: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        real(*arguments, **more)
        meanwhile()

    monkeypatch.setattr(holds, "set_hold", set_hold)
    monkeypatch.setattr(holds, "REQUESTS", 1)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_hold_that_died_on_its_way_is_placed_again(two: Archive, monkeypatch, calls):
    with monkeypatch.context() as dying:
        dying_after(dying, calls)
        with pytest.raises(KeyboardInterrupt):
            place(two, "CASE-7", ONE)
    assert len(verify(two).told) == 3 - calls
    assert place(two, "CASE-7", ONE) == 3
    assert verify(two).told == []


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_a_release_that_died_on_its_way_is_run_again(two: Archive, monkeypatch, calls):
    place(two, "CASE-7", ONE)
    place(two, "CASE-8", Criteria(payment_intent="pi_1", retention_class="attempt"))
    with monkeypatch.context() as dying:
        dying_after(dying, calls)
        if calls < 3:
            with pytest.raises(KeyboardInterrupt):
                release(two, "CASE-7")
    release(two, "CASE-7")
    assert held(two) == {("attempt", 1)}
    assert verify(two).told == []


def test_a_hold_that_is_placed_while_another_is_released_holds_afterwards(two: Archive, monkeypatch):
    """The worst moment: the release has seen that nobody else needs an object, and has not lifted its hold yet."""
    place(two, "CASE-7", ONE)
    real = configuration.set_hold
    placed = False

    def set_hold(*arguments: Any, on: bool) -> None:
        nonlocal placed
        if not on and not placed:
            placed = True
            place(two, "CASE-8", ONE)
        real(*arguments, on=on)

    monkeypatch.setattr(holds, "set_hold", set_hold)
    monkeypatch.setattr(holds, "REQUESTS", 1)
    release(two, "CASE-7")
    assert held(two) == {("attempt", 1), ("capture", 1), ("capture", 2)}
    assert verify(two).told == []


def test_a_store_that_is_away_for_a_moment_is_asked_again(two: Archive, monkeypatch):
    real, tries = configuration.set_hold, 0

    def set_hold(*arguments: Any, **more: Any) -> None:
        nonlocal tries
        tries += 1
        if tries % 2:
            raise StoreAway("not now")
        real(*arguments, **more)

    monkeypatch.setattr(holds, "set_hold", set_hold)
    monkeypatch.setattr(holds, "REQUESTS", 1)
    batches = [(name, number) for name, number, _ in found(two, ONE)]
    with database.transaction(two.service.engine) as session:
        holds.remember(session, "CASE-7", ONE, batches, placed_by="grace", reason="LEGAL-7")
    assert holds.hold_all(two.store, ask_of(two), "CASE-7", pauses_s=(0.0,)) == 3


def test_holds_are_listed_with_what_they_hold(two: Archive):
    place(two, "CASE-7", ONE)
    place(two, "CASE-8", Criteria(payment_intent="pi_2"))
    release(two, "CASE-7")
    with database.transaction(two.service.engine) as session:
        listed = holds.listed(session)
    assert [(each.name, each.objects, each.facts, each.released_at is None) for each in listed] == [
        ("CASE-8", 2, 3, True),
        ("CASE-7", 3, 4, False),
    ]
    assert (listed[0].placed_by, listed[0].reason) == ("grace", "LEGAL-7")
    assert listed[0].criteria == '{"payment_intent":"pi_2"}'
