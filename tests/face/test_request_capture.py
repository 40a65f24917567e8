"""Asking for a capture inside the caller's own transaction: once, exactly, or not at all."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cases import case
from sqlalchemy import Engine, NullPool, create_engine, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import billing
from billing.states import CaptureState
from billing.tables.entities import Capture
from billing.tables.facts import Fact

USD_20 = billing.Money(2000, "USD")
SOON = datetime(2026, 1, 7, tzinfo=UTC)


def ask(session: Session, **changes: Any) -> billing.CaptureReceipt:
    asked = {"payment_intent": "pi_1", "amount": USD_20, "request_id": "order-1", **changes}
    return billing.request_capture(session, **asked)


def rows(session: Session, table: type = Capture) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def still_usable(session: Session) -> None:
    """The caller's own work goes on in the same transaction, and is committed."""
    session.execute(text("INSERT INTO public.orders VALUES ('42')"))
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM public.orders")) == 1


def test_a_wish_is_one_row_and_one_fact(session: Session):
    receipt = ask(session, correlation_id="trace-1", account="acct_1")
    session.commit()
    row = session.scalars(select(Capture)).one()
    assert receipt == billing.CaptureReceipt(receipt.capture_id, "order-1", new=True)
    assert (row.id, row.payment_intent, row.amount_minor, row.currency) == (receipt.capture_id, "pi_1", 2000, "USD")
    assert (row.state, row.account, row.authorized_minor) == (CaptureState.REQUESTED, "acct_1", None)
    fact = session.scalars(select(Fact)).one()
    assert (fact.topic, fact.entity_id, fact.entity_version) == ("capture.requested", row.id, row.version)
    assert (fact.actor, fact.correlation_id, fact.planned_version) == ("application", "trace-1", None)


def test_what_is_known_of_the_authorization_is_kept_as_it_was_told(session: Session):
    ask(session, authorization=billing.Authorization(2500, "USD", SOON))
    session.commit()
    row = session.scalars(select(Capture)).one()
    assert (row.authorized_minor, row.authorized_currency, row.capture_before) == (2500, "USD", SOON)
    fact = session.scalars(select(Fact)).one()
    assert (fact.payload["authorized"], fact.payload["capture_before"]) == (True, SOON.isoformat())


def test_a_wish_that_is_rolled_back_was_never_made(session: Session):
    ask(session)
    session.rollback()
    assert rows(session) == rows(session, Fact) == 0
    assert ask(session).new


def test_the_same_request_again_gives_the_same_receipt(session: Session):
    first = ask(session)
    assert ask(session) == billing.CaptureReceipt(first.capture_id, "order-1", new=False)
    session.commit()
    assert ask(session).capture_id == first.capture_id
    session.commit()
    assert rows(session) == rows(session, Fact) == 1


DIFFERENCES = {
    "payment_intent": {"payment_intent": "pi_2"},
    "amount_minor": {"amount": billing.Money(2001, "USD")},
    "currency": {"amount": billing.Money(2000, "EUR")},
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_same_request_with_other_parameters_is_refused_and_says_which(session: Session, name: str):
    ask(session)
    session.commit()
    with pytest.raises(billing.RequestReused, match=name) as refused:
        ask(session, **DIFFERENCES[name])
    assert set(refused.value.differences) == {name}
    still_usable(session)
    assert rows(session) == rows(session, Fact) == 1


def test_the_same_request_of_another_account_is_another_wish(session: Session):
    first = ask(session)
    other = ask(session, account="acct_2")
    session.commit()
    assert other.new
    assert other.capture_id != first.capture_id


def test_an_authorization_is_asked_for_once(session: Session):
    first = ask(session)
    session.commit()
    with pytest.raises(billing.AuthorizationTaken, match=first.capture_id) as taken:
        ask(session, request_id="order-2")
    assert (taken.value.payment_intent, taken.value.holder) == ("pi_1", first.capture_id)
    still_usable(session)
    assert rows(session) == rows(session, Fact) == 1


@pytest.mark.parametrize("state", list(CaptureState))
def test_only_a_capture_that_took_nothing_gives_its_authorization_back(session: Session, state: CaptureState):
    ask(session)
    session.execute(text("UPDATE billing.captures SET state = :state"), {"state": state})
    session.commit()
    if state in ("declined", "refused", "canceled"):
        assert ask(session, request_id="order-2").new
    else:
        with pytest.raises(billing.AuthorizationTaken):
            ask(session, request_id="order-2")


def test_what_only_looks_like_money_is_refused(session: Session):
    class Lookalike:
        minor, currency = 2000, "USD"

    for amount in (Lookalike(), 2000, (2000, "USD"), None):
        with pytest.raises(billing.InvalidAmount):
            ask(session, amount=amount)
    still_usable(session)
    assert rows(session) == 0


BAD_IDS = ["", " ", "pi 1", "pi_1\n", "pi_\x00", "pi_é", "x" * 256, None, 5, b"pi_1", ["pi_1"]]


@pytest.mark.parametrize("name", ["payment_intent", "request_id", "correlation_id", "account"])
def test_an_id_that_is_not_one_is_refused_before_anything_is_written(session: Session, name: str):
    for bad in BAD_IDS:
        if name in ("correlation_id", "account") and (bad is None or bad == ""):
            continue
        with case(repr(bad)), pytest.raises(billing.InvalidRequest):
            ask(session, **{name: bad})
    still_usable(session)
    assert rows(session) == 0


@pytest.mark.parametrize("name", ["payment_intent", "account"])
def test_an_id_that_would_lead_to_another_path_is_refused(session: Session, name: str):
    for bad in ("pi_1/cancel?", "../refunds?charge=ch_1&x=", "pi_1#", "pi_1%2Fcancel", "a@b.example"):
        with case(bad), pytest.raises(billing.InvalidRequest):
            ask(session, **{name: bad})


@pytest.mark.parametrize("actor", ["x" * 256, "", "a\x00b", 5])
def test_an_actor_that_is_not_one_is_refused_before_anything_is_written(session: Session, actor: Any):
    with pytest.raises(billing.InvalidRequest):
        ask(session, actor=actor)
    still_usable(session)


@pytest.mark.parametrize(
    "authorization",
    [(1999, "USD"), (5000, "EUR")],
    ids=["too little", "another currency"],
)
def test_more_than_was_authorized_is_refused_before_anything_is_written(session: Session, authorization: Any):
    with pytest.raises(billing.InvalidAmount):
        ask(session, authorization=billing.Authorization(*authorization, None))
    still_usable(session)
    assert rows(session) == 0


def test_a_deadline_without_a_time_zone_is_refused():
    with pytest.raises(billing.InvalidText, match="time zone"):
        billing.Authorization(2000, "USD", datetime(2026, 1, 7))  # noqa: DTZ001


def together(engine: Engine, first: Callable[[Session], Any], second: Callable[[Session], Any]) -> list[Any]:
    """Two transactions at once: the second has asked, and waits, when the first commits."""
    outcomes: list[Any] = []

    def ask_too() -> None:
        with Session(engine) as session:
            try:
                outcomes.append(second(session))
                session.commit()
            except billing.BillingError as error:
                outcomes.append(error)

    with Session(engine) as session:
        outcomes.append(first(session))
        thread = threading.Thread(target=ask_too)
        thread.start()
        _until_somebody_waits(engine)
        session.commit()
        thread.join()
    return outcomes


def _until_somebody_waits(engine: Engine) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(10_000):
            if connection.scalar(text(query)):
                return
    raise AssertionError("the other transaction did not wait")


@pytest.fixture
def crowded(engine: Engine) -> Engine:
    """As many connections as the tests need at once."""
    return create_engine(engine.url, poolclass=NullPool)


def test_two_transactions_with_the_same_request_get_the_same_receipt(crowded: Engine):
    first, second = together(crowded, ask, ask)
    assert (first.new, second.new) == (True, False)
    assert first.capture_id == second.capture_id


def test_two_transactions_with_different_requests_do_not_share_an_authorization(crowded: Engine):
    first, second = together(crowded, ask, lambda session: ask(session, request_id="order-2"))
    assert first.new
    assert isinstance(second, billing.AuthorizationTaken)
    assert second.holder == first.capture_id


def test_whoever_waits_for_a_transaction_that_rolls_back_gets_the_wish(crowded: Engine):
    waiting: list[billing.CaptureReceipt] = []

    def wait() -> None:
        with Session(crowded) as session:
            waiting.append(ask(session))
            session.commit()

    with Session(crowded) as other:
        ask(other)
        thread = threading.Thread(target=wait)
        thread.start()
        _until_somebody_waits(crowded)
        other.rollback()
        thread.join()
    assert waiting[0].new


def test_the_database_refuses_a_second_capture_even_when_the_face_is_bypassed(session: Session):
    """[68]"""
    ask(session)
    session.commit()
    copy = text(
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)"
        " SELECT 'cap_other', 'another', payment_intent, amount_minor, currency FROM billing.captures"
    )
    with pytest.raises(IntegrityError, match="captures_one_per_authorization"):
        session.execute(copy)


RAW = {
    "no money": ("UPDATE billing.captures SET amount_minor = 0", "amount_positive"),
    "negative money": ("UPDATE billing.captures SET amount_minor = -1", "amount_positive"),
    "a state of nobody": ("UPDATE billing.captures SET state = 'paid'", "state_known"),
    "no currency": ("UPDATE billing.captures SET currency = NULL", "not-null"),
}


@pytest.mark.parametrize(("statement", "constraint"), RAW.values(), ids=RAW)
def test_the_database_refuses_what_is_no_capture(session: Session, statement: str, constraint: str):
    ask(session)
    session.commit()
    with pytest.raises(IntegrityError, match=constraint):
        session.execute(text(statement))


def test_the_same_request_is_one_row_in_the_database_too(session: Session):
    ask(session)
    session.commit()
    copy = text(
        "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency)"
        " SELECT 'cap_other', request_id, 'pi_2', amount_minor, currency FROM billing.captures"
    )
    with pytest.raises(IntegrityError, match="captures_account_request_id_key"):
        session.execute(copy)


def test_facts_of_one_entity_cannot_share_a_version(session: Session):
    ask(session)
    session.commit()
    copy = text(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
        " SELECT topic, entity_type, entity_id, entity_version, actor, payload FROM billing.facts"
    )
    with pytest.raises(IntegrityError, match="entity_version"):
        session.execute(copy)
