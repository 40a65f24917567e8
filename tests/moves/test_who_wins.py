"""A capture and a void of one authorization: whoever is second is told who was first, however close the two are."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from service import Service, eventually
from sqlalchemy import text
from sqlalchemy.orm import Session

import billing
from billing import database
from billing.operations import operation_of
from billing.states import FREES_FROM_THE_VOID, FREES_THE_AUTHORIZATION, CaptureState, VoidState

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261130"))
AUTHORIZED = billing.Authorization(1999, "USD", None)


def ask(session: Session, move: str, intent: str, request_id: str) -> str:
    if move == "void":
        return billing.request_void(
            session, payment_intent=intent, reason="requested_by_customer", request_id=request_id
        ).void_id
    return billing.request_capture(
        session,
        payment_intent=intent,
        amount=billing.Money(1999, "USD"),
        request_id=request_id,
        authorization=AUTHORIZED,
    ).capture_id


def both_at_once(service: Service, intent: str, *, authorization: bool = True) -> tuple[str, str]:
    """A capture and a void that are asked for in two transactions, of which neither sees the other."""
    engine = service.engines["application"]
    known = AUTHORIZED if authorization else None
    with database.transaction(engine) as one, database.transaction(engine) as other:
        capture = billing.request_capture(
            one,
            payment_intent=intent,
            amount=billing.Money(1999, "USD"),
            request_id=f"{intent}-capture",
            authorization=known,
        ).capture_id
        void = ask(other, "void", intent, f"{intent}-void")
    return capture, void


def effects_of(service: Service, intent: str) -> list[str]:
    kinds = ("capture", "payment_intent.canceled", "authorization.expired")
    return [kind for kind in kinds for _ in service.effects(kind, intent)]


# Asked one after the other.


@pytest.mark.parametrize("state", list(VoidState))
def test_what_a_void_has_no_capture_can_ask_for(service: Service, state: VoidState) -> None:
    """[30, 64]"""
    (intent,) = service.intents()
    void = service.ask_for_void(intent)
    service.execute("UPDATE billing.voids SET state = :state", state=str(state))
    if state in FREES_FROM_THE_VOID:
        assert service.ask_for_capture(intent)
        return
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.AuthorizationTaken, match=f"belongs to {void}; it is given back, so") as taken:
            ask(session, "capture", intent, "order-late")
        assert (taken.value.payment_intent, taken.value.holder) == (intent, void)
        assert ask(session, "capture", service.intents()[0], "order-other"), "the transaction is usable"


@pytest.mark.parametrize("state", list(CaptureState))
def test_what_a_capture_has_no_void_can_ask_for(service: Service, state: CaptureState) -> None:
    """[64] The caller is told to refund it."""
    (intent,) = service.intents()
    capture = service.ask_for_capture(intent)
    service.execute("UPDATE billing.captures SET state = :state", state=str(state))
    if state in FREES_THE_AUTHORIZATION:
        assert service.ask_for_void(intent)
        return
    with database.transaction(service.engines["application"]) as session:
        with pytest.raises(billing.AuthorizationTaken, match=f"belongs to {capture}; .* refunded") as taken:
            ask(session, "void", intent, "void-late")
        assert taken.value.holder == capture
        assert ask(session, "void", service.intents()[0], "void-other"), "the transaction is usable"


def test_the_same_authorization_of_another_account_is_another_one(service: Service) -> None:
    (intent,) = service.intents()
    service.ask_for_void(intent)
    assert service.ask_for_capture(intent, account="acct_other")


def test_a_request_that_is_repeated_gets_its_receipt_whoever_has_the_authorization_now(service: Service) -> None:
    (intent,) = service.intents()
    capture, void = both_at_once(service, intent)
    with database.transaction(service.engines["application"]) as session:
        assert ask(session, "capture", intent, f"{intent}-capture") == capture
        assert ask(session, "void", intent, f"{intent}-void") == void


# Asked for at the same instant.


def test_of_two_at_once_the_second_call_waits_until_the_first_is_over(service: Service) -> None:
    """[64] The void is prepared first. While its answer is in doubt, the capture does not ask Stripe."""
    capture, void = both_at_once(service, service.intents()[0])
    service.standin.add_fault("drop_after_commit", path="/cancel$", times=1)
    service.plan()
    service.execute("UPDATE billing.work SET urgency = urgency - interval '1 day' WHERE entity_id = :id", id=void)
    service.work_off()
    assert service.status(void).state == "in_doubt"
    assert service.records(capture) == []
    assert service.posts("/capture") == []
    assert service.settle(void, capture) == ["voided", "canceled"]
    assert service.status(capture).reason == f"voided_by: {void}"
    ended = service.facts(capture)[-1]
    assert (ended.payload["why"], ended.payload["winner"]) == ("voided_by", void)


def test_a_capture_that_is_first_is_named_by_the_void_that_lost(service: Service) -> None:
    """[64]"""
    capture, void = both_at_once(service, service.intents()[0])
    service.plan()
    service.execute("UPDATE billing.work SET urgency = urgency - interval '1 day' WHERE entity_id = :id", id=capture)
    assert service.settle(capture, void) == ["captured", "refused"]
    assert service.status(void).reason == f"captured_by: {capture}"
    assert service.facts(void)[-1].payload["winner"] == capture
    assert service.posts("/cancel") == []


def test_a_capture_that_only_reads_its_authorization_names_the_void_that_is_under_way(service: Service) -> None:
    """[64] To read needs no turn: it finds the intent canceled before the void's answer is settled."""
    (intent,) = service.intents()
    capture, void = both_at_once(service, intent, authorization=False)
    service.plan()
    service.execute("UPDATE billing.work SET urgency = urgency - interval '2 years' WHERE entity_id = :id", id=void)
    # The worker that settles this read prepares the cancel, and is silent from then on.
    service.report(service.prepared()[void])
    service.by_hand(f"/v1/payment_intents/{intent}/cancel")
    service.work_off()
    assert [service.status(each).state for each in (capture, void)] == ["canceled", "in_progress"]
    assert service.status(capture).reason == f"voided_by: {void}"
    service.age(void, service.timing.lease_s)
    assert service.settle(void) == ["voided"]


def test_a_capture_whose_authorization_somebody_else_canceled_names_nobody(service: Service) -> None:
    """[30]"""
    (intent,) = service.intents()
    capture = service.ask_for_capture(intent)
    service.by_hand(f"/v1/payment_intents/{intent}/cancel")
    assert service.settle(capture) == ["canceled"]
    assert "void" not in str(service.status(capture).reason)


# Many, in any order, with faults.

INTENTS, REQUESTS, THREADS = 20, 200, 8
FAULTS = ("drop_before", "drop_after_commit", "500_saved", "429_rate", "429_lock_saved", "502_html", "truncate_body")


def test_200_captures_and_voids_of_20_authorizations_have_one_effect_each_and_every_loser_names_the_winner(
    service: Service,
) -> None:
    """[30, 64] From eight threads, beside two workers, with faults."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    intents = service.intents(INTENTS)
    for number, fault in enumerate(FAULTS):
        service.standin.add_fault(fault, path="/(capture|cancel)$", method="POST", probability=0.1, seed=SEED + number)
    pairs = [both_at_once(service, intent) for intent in rng.sample(intents, INTENTS // 2)]
    wishes = [(rng.choice(("capture", "void")), rng.choice(intents), number) for number in range(REQUESTS - INTENTS)]
    accepted: list[str] = [each for pair in pairs for each in pair]
    told: Counter[str] = Counter()

    def wish(move: str, intent: str, number: int) -> None:
        try:
            with database.transaction(service.engines["application"]) as session:
                asked = ask(session, move, intent, f"{move}-{number}")
            accepted.append(asked)
        except billing.AuthorizationTaken as taken:
            # Unknown if its holder was refused a moment ago.
            told[f"{move} beside {taken.holder.partition('_')[0]}"] += 1

    with working(service), ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(wish, *each) for each in wishes]:
            done.result()
        eventually(lambda: unfinished(service) == 0, "every request has an end")
    service.standin.clear_faults()
    assert len(accepted) + told.total() == REQUESTS
    print(f"{len(accepted)} accepted; {dict(told)}")
    rows = [service.row(operation_of(each).table, each) for each in accepted]
    for intent in intents:
        mine = [row for row in rows if row.payment_intent == intent]
        won = [row for row in mine if row.state in ("captured", "voided")]
        if not mine:
            assert effects_of(service, intent) == []
            continue
        (winner,) = won
        assert effects_of(service, intent) == ["capture" if winner.state == "captured" else "payment_intent.canceled"]
        for loser in mine:
            if loser is not winner:
                expected = "captured_by" if winner.state == "captured" else "voided_by"
                assert loser.reason == f"{expected}: {winner.id}", (loser.id, loser.state, loser.reason)


def unfinished(service: Service) -> int:
    asked = "SELECT state FROM billing.captures UNION ALL SELECT state FROM billing.voids"
    with service.engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM ({asked}) AS a WHERE state = 'requested'")))


@contextmanager
def working(service: Service) -> Iterator[None]:
    """A relay and two workers at work meanwhile, in threads of this process."""
    over = threading.Event()

    def again(do: Callable[[], int]) -> None:
        while not over.wait(0.01):
            do()

    parts = (service.relay.round, service.work_off, service.work_off)
    threads = [threading.Thread(target=again, args=(do,)) for do in parts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
