"""Several captures of one authorization are asked for: each gets its place, and none a place that is taken."""

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from test_request_capture import ask, crowded, rows, still_usable, together  # noqa: F401 - a fixture

import billing
from billing.tables.entities import Capture
from billing.tables.facts import Fact


def ask_for(session: Session, number: int, remainder: str = "keep", **more: object) -> billing.CaptureReceipt:
    receipt = ask(session, request_id=f"parcel-{number}", amount=billing.Money(100, "USD"), remainder=remainder, **more)
    session.commit()
    return receipt


def places(session: Session) -> list[int]:
    return list(session.scalars(select(Capture.capture_no).order_by(Capture.id)))


def set_state(session: Session, capture_id: str, state: str) -> None:
    changes = {"state": state, "id": capture_id}
    session.execute(text("UPDATE billing.captures SET state = :state WHERE id = :id"), changes)
    session.commit()


def test_a_capture_that_keeps_the_rest_leaves_room_for_one_more_until_one_releases_it(session: Session):
    """[31]"""
    for number in (1, 2):
        ask_for(session, number)
    last = ask_for(session, 3, "release")
    assert places(session) == [1, 2, 3]
    with pytest.raises(billing.AuthorizationTaken, match=last.capture_id):
        ask_for(session, 4)
    still_usable(session)
    assert rows(session) == 3


def test_an_expired_one_and_the_fiftieth_leave_no_room(session: Session):
    first = ask_for(session, 1)
    set_state(session, first.capture_id, "expired")
    with pytest.raises(billing.AuthorizationTaken, match=first.capture_id):
        ask_for(session, 2)
    session.rollback()
    set_state(session, first.capture_id, "captured")
    session.execute(text("UPDATE billing.captures SET capture_no = 50"))
    with pytest.raises(billing.AuthorizationTaken, match=first.capture_id):
        ask_for(session, 2)


def test_a_place_that_is_free_again_is_not_given_away_below_one_that_is_taken(session: Session):
    first, second = ask_for(session, 1), ask_for(session, 2)
    set_state(session, first.capture_id, "declined")
    third = ask_for(session, 3)
    assert places(session) == [1, 2, 3]
    set_state(session, third.capture_id, "refused")
    ask_for(session, 4, "release")
    assert places(session) == [1, 2, 3, 3]
    with pytest.raises(billing.AuthorizationTaken):
        ask_for(session, 5)
    assert second.new


def test_a_final_capture_that_is_live_stops_others_although_the_first_place_is_free(session: Session):
    first = ask_for(session, 1)
    last = ask_for(session, 2, "release")
    set_state(session, first.capture_id, "refused")
    with pytest.raises(billing.AuthorizationTaken, match=last.capture_id):
        ask_for(session, 3)


def test_each_account_counts_for_itself(session: Session):
    ask_for(session, 1, account="acct_1")
    ask_for(session, 1, account="acct_2")
    ask_for(session, 2, account="acct_2")
    assert places(session) == [1, 1, 2]


def test_two_that_are_asked_for_at_once_get_places_of_their_own(crowded: Engine):  # noqa: F811
    first, second = together(
        crowded,
        lambda session: ask(session, remainder="keep"),
        lambda session: ask(session, request_id="order-2", remainder="keep"),
    )
    assert (first.new, second.new) == (True, True)
    with Session(crowded) as session:
        assert places(session) == [1, 2]


def test_of_one_that_keeps_the_rest_and_a_last_one_at_once_both_are_asked_for(crowded: Engine):  # noqa: F811
    together(
        crowded,
        lambda session: ask(session, remainder="keep"),
        lambda session: ask(session, request_id="order-2"),
    )
    with Session(crowded) as session:
        assert places(session) == [1, 2]
        with pytest.raises(billing.AuthorizationTaken):
            ask(session, request_id="order-3")


def test_parts_that_are_asked_for_in_one_bulk_get_their_places(session: Session):
    parts = [
        {
            "payment_intent": "pi_1",
            "amount": billing.Money(100, "USD"),
            "request_id": f"parcel-{number}",
            "remainder": remainder,
        }
        for number, remainder in enumerate(("keep", "keep", "release", "keep"))
    ]
    *asked, refused = billing.request_many(session, "capture", parts)
    session.commit()
    assert places(session) == [1, 2, 3]
    assert all(not isinstance(each, billing.BillingError) for each in asked)
    assert isinstance(refused, billing.AuthorizationTaken)
    assert {fact.version for fact in session.scalars(select(Fact))} == {2}


def test_plain_captures_and_parts_are_asked_for_in_one_bulk(session: Session):
    asked = [
        {"payment_intent": f"pi_{number}", "amount": billing.Money(100, "USD"), "request_id": f"order-{number}", **more}
        for number, more in enumerate(({}, {"remainder": "keep"}, {"terms": billing.CaptureTerms(metadata={"a": "1"})}))
    ]
    assert all(not isinstance(each, billing.BillingError) for each in billing.request_many(session, "capture", asked))
    session.commit()
    assert list(session.scalars(select(Fact.version).order_by(Fact.id))) == [1, 2, 2]
    assert [row.callers_metadata for row in session.scalars(select(Capture).order_by(Capture.id))][2] == {"a": "1"}
