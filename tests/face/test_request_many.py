"""Asking for many at once is asking for each of them, with fewer statements."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

import billing
from billing import many, request_ids
from billing.many import MOVABLE, rehearse_many, request_many
from billing.tables.entities import Capture
from billing.tables.facts import Fact

USD_20 = billing.Money(2000, "USD")
SOON = datetime(2026, 12, 24, tzinfo=UTC)


def wish(number: int, **changes: Any) -> dict[str, Any]:
    return {"payment_intent": f"pi_{number}", "amount": USD_20, "request_id": f"order-{number}", **changes}


def one_by_one(session: Session, requests: Sequence[Mapping[str, Any]]) -> list[Any]:
    outcomes: list[Any] = []
    for each in requests:
        try:
            outcomes.append(billing.request_capture(session, **each))
        except billing.BillingError as error:
            outcomes.append(error)
    return outcomes


def told(outcomes: Sequence[Any]) -> list[Any]:
    """Without ids, which differ from run to run."""
    return [
        (each.request_id, each.new) if isinstance(each, billing.CaptureReceipt) else (type(each), vars(each).keys())
        for each in outcomes
    ]


def written(session: Session) -> tuple[list[Any], list[Any]]:
    """The rows and the facts, without what differs from run to run."""
    columns = [c for c in Capture.__table__.c if c.name not in ("id", "requested_at", "state_since")]
    rows = session.execute(select(*columns).order_by(Capture.request_id)).all()
    of_facts = (Fact.topic, Fact.entity_version, Fact.actor, Fact.correlation_id, Fact.payload)
    facts = session.execute(select(*of_facts).join(Capture, Capture.id == Fact.entity_id)).all()
    return [tuple(row) for row in rows], sorted(map(repr, facts))


EVERYTHING = [
    wish(1),
    wish(2, account="acct_1"),
    wish(3, correlation_id="trace-3", authorization=billing.Authorization(2500, "usd", SOON)),
    # Known here already: the same again, with another amount, under another name, after a decline; and a void.
    wish(11),
    wish(12, amount=billing.Money(1, "USD")),
    wish(13, request_id="another-name"),
    wish(14, request_id="a-second-try"),
    wish(11, account="acct_1"),
    wish(15),
    # Twice in this bulk: the same, the same name for something else, the same authorization.
    wish(1),
    wish(2, account="acct_1", payment_intent="pi_20"),
    wish(3, request_id="order-21"),
    # Not even asked.
    wish(4, payment_intent="ch_4"),
    wish(5, amount=2000),
    wish(6, request_id="two words"),
    wish(7, authorization=billing.Authorization(1999, "USD", None)),
    wish(8, account="eve@example.com"),
    wish(9),
]


def asked_before(session: Session) -> None:
    for number in (11, 12, 13, 14):
        billing.request_capture(session, **wish(number))
    session.execute(text("UPDATE billing.captures SET state = 'declined' WHERE request_id = 'order-14'"))
    billing.request_void(session, payment_intent="pi_15", reason="abandoned", request_id="void-15")
    session.commit()


def test_many_are_what_each_of_them_is(session: Session):
    asked_before(session)
    together = told(request_many(session, "capture", EVERYTHING))
    as_many = written(session)
    session.rollback()
    assert together == told(one_by_one(session, EVERYTHING))
    assert as_many == written(session)
    assert [each for each in together if each[1] is True] == [
        *(("order-1", True), ("order-2", True), ("order-3", True)),
        *(("a-second-try", True), ("order-11", True), ("order-9", True)),
    ]


def test_a_rehearsal_says_the_same_and_writes_nothing(session: Session):
    asked_before(session)
    # Two of the same bulk are not compared with each other.
    alone = [each for number, each in enumerate(EVERYTHING) if number not in (9, 10, 11)]
    rehearsed = rehearse_many(session, "capture", alone)
    session.commit()
    before = written(session)
    outcomes = request_many(session, "capture", alone)
    assert [getattr(each, "new", False) for each in rehearsed] == [getattr(each, "new", False) for each in outcomes]
    assert told([each for each in rehearsed if not getattr(each, "new", False)]) == told(
        [each for each in outcomes if not getattr(each, "new", False)]
    )
    session.rollback()
    assert written(session) == before


def test_what_is_refused_leaves_the_caller_s_transaction_usable(session: Session):
    asked_before(session)
    outcomes = request_many(session, "capture", EVERYTHING)
    assert sum(isinstance(each, billing.BillingError) for each in outcomes) == 10
    session.execute(text("INSERT INTO public.orders VALUES ('42')"))
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM public.orders")) == 1
    assert len(session.scalars(select(Capture)).all()) == 10


def test_five_hundred_new_ones_are_three_statements(session: Session, engine: Engine):
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    outcomes = request_many(session, "capture", [wish(number) for number in range(500)])
    assert all(each.new for each in outcomes if isinstance(each, billing.CaptureReceipt))
    assert len(statements) == 3


def test_a_request_that_a_restored_database_made_again_is_found_by_its_digest(session: Session):
    billing.request_capture(session, **wish(1))
    digest = request_ids.digest_of("order-1")
    session.execute(text("UPDATE billing.captures SET request_id = :made"), {"made": f"recovered:{digest}"})
    session.commit()
    (again,) = request_many(session, "capture", [wish(1)])
    assert told([again]) == [("order-1", False)]


def test_two_who_ask_for_the_same_at_once_ask_once(engine: Engine):
    requests = [wish(number) for number in range(200)]
    outcomes: list[Any] = []

    def ask() -> None:
        with Session(engine) as session, session.begin():
            session.execute(text("SET LOCAL lock_timeout = 0"))
            outcomes.extend(request_many(session, "capture", requests))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(each.new for each in outcomes) == 200
    assert len({each.capture_id for each in outcomes}) == 200


def test_nothing_is_nothing(session: Session):
    assert request_many(session, "capture", []) == []


def test_a_kind_or_an_argument_that_does_not_exist_is_a_mistake_of_the_program(session: Session):
    with pytest.raises(billing.InvalidRequest, match="kind must be one of capture"):
        request_many(session, "cashback", [])
    for mistake in ({**wish(1), "amuont": USD_20}, {"payment_intent": "pi_1", "amount": USD_20}):
        with pytest.raises(TypeError):
            request_many(session, "capture", [mistake])


@pytest.mark.parametrize("kind", MOVABLE)
def test_every_statement_about_what_is_known_exists(kind: str):
    together = MOVABLE[kind].together
    assert together is None or set(together.known) <= set(many.SQL)
