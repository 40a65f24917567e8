"""What Stripe's ledger says of our money becomes one fact for each entry, whatever dies, and whoever else writes."""

from datetime import timedelta
from typing import Any

import pytest
from compared import AHEAD, open_classes, reconcile, settled, transact
from service import Service
from sqlalchemy.exc import OperationalError
from test_refunds_and_voids_compared import parts_of

from archive.format import records
from billing import database
from jobs.reconciliation import booking
from jobs.reconciliation.booking import Booking

DAYS = timedelta(days=4)


def paid_out(service: Service) -> None:
    service.standin.advance(3 * 24 * 3600)


def booked(service: Service, operation: str) -> list[dict[str, Any]]:
    return [fact.payload for fact in service.facts(operation) if fact.topic.endswith(".booked")]


def test_a_capture_and_its_refund_are_told_with_fee_net_and_payout(service: Service) -> None:
    (capture,) = settled(service, amount=1500)
    refund = service.ask_for_refund(capture, 200)
    service.settle(refund)
    assert reconcile(service).booked == 0, "no payout is known"
    paid_out(service)
    assert reconcile(service, ahead=DAYS).booked == 2
    (taken,), (given,) = booked(service, capture), booked(service, refund)
    assert (taken["minor"], taken["currency"], taken["account"]) == (1500, "USD", "own")
    assert taken["net_minor"] == 1500 - taken["fee_minor"]
    assert (given["minor"], given["fee_minor"], given["net_minor"]) == (-200, 0, -200)
    assert taken["payout"] == given["payout"]
    assert taken["payout_minor"] == taken["net_minor"] + given["net_minor"]
    assert taken["booked_at"] < taken["available_on"]
    assert reconcile(service, ahead=DAYS).booked == 0
    assert open_classes(service) == {}


def test_all_that_is_told_is_archived(service: Service) -> None:
    (capture,) = settled(service)
    paid_out(service)
    reconcile(service, ahead=DAYS)
    (told,) = booked(service, capture)
    assert records.members(told).keys() == told.keys()


def test_each_part_has_the_entry_of_its_own_capture(service: Service) -> None:
    _intent, parts = parts_of(service, 300, 200, 100)
    service.settle(*parts[:1])
    # In another second, by Stripe's clock, as in life.
    service.standin.advance(2)
    service.settle(*parts[1:2])
    service.standin.advance(2)
    service.settle(*parts[2:])
    paid_out(service)
    reconcile(service, ahead=DAYS)
    assert [told["minor"] for part in parts for told in booked(service, part)] == [300, 200, 100]


def test_what_others_move_is_told_to_nobody_and_not_read_again(service: Service) -> None:
    (intent,) = service.intents()
    service.by_hand(f"/v1/payment_intents/{intent}/capture")
    paid_out(service)
    assert reconcile(service, ahead=DAYS).booked == 0
    with database.transaction(service.engine) as session:
        left = session.connection().exec_driver_sql(
            "SELECT count(*) FROM billing.stripe_records WHERE payout IS NOT NULL AND told_at IS NULL"
        )
        assert left.scalar_one() == 0


def test_a_pass_that_dies_at_any_commit_tells_nothing_twice(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "BATCH", 2)
    captures = settled(service, 5)
    paid_out(service)
    monkeypatch.setattr(Booking, "tell", lambda *_: True)
    reconcile(service, ahead=DAYS)
    monkeypatch.undo()
    monkeypatch.setattr(booking, "BATCH", 2)
    with database.transaction(service.engine) as session:
        now = database.now(session)
    commit = transact(service)

    def dying(number: int) -> Any:
        """The process dies when this commit is made, or just before it."""
        left = [number]

        def run(step: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                with database.transaction(service.engines["worker"]) as session:
                    step(session)
                    raise ConnectionError("before it")
            done = commit(step)
            if left[0] == -1:
                raise ConnectionError("after it")
            return done

        return run

    died = 0
    for number in range(1, 9):
        try:
            Booking(dying(number), "own").tell(now + AHEAD, lambda: 1.0)
        except ConnectionError:
            died += 1
    assert died > 2
    Booking(commit, "own").tell(now + AHEAD, lambda: 1.0)
    assert [len(booked(service, each)) for each in captures] == [1] * 5


def test_an_operation_that_a_worker_has_locked_is_told_by_the_next_pass(service: Service) -> None:
    first, second = settled(service, 2)
    paid_out(service)
    with service.engine.connect() as worker:
        worker.exec_driver_sql("SELECT 1 FROM billing.captures WHERE id = %(id)s FOR UPDATE", {"id": first})
        try:
            reconcile(service, ahead=DAYS)
        except OperationalError:  # pragma: no cover - the lock is waited for by nobody
            pytest.fail("it waited for the lock")
        assert (booked(service, first), len(booked(service, second))) == ([], 1)
    reconcile(service, ahead=DAYS)
    assert [len(booked(service, each)) for each in (first, second)] == [1, 1]


def test_without_automatic_payouts_an_entry_is_told_once_none_can_come_any_more(service: Service) -> None:
    (capture,) = settled(service)
    reconcile(service)
    with database.transaction(service.engine) as session:
        now = database.now(session)
    for days, told in ((34, 0), (36, 1), (37, 1)):
        Booking(transact(service), "own").tell(now + timedelta(days=days), lambda: 1.0)
        assert len(booked(service, capture)) == told
    assert booked(service, capture)[0]["payout"] is None
