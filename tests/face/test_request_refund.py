"""Asking for a refund inside the caller's own transaction: once, of one capture, and never more than was captured."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

import billing
from billing import ids
from billing.database import sqlstate
from billing.states import FREES_ITS_AMOUNT, REFUND, CaptureState, RefundState
from billing.tables.entities import Capture, Refund
from billing.tables.facts import Fact

USD_5 = billing.Money(500, "USD")
ALL = 1999


def captured(session: Session, **changes: Any) -> str:
    """A capture of 19.99 USD that took its money."""
    values = {
        "payment_intent": "pi_1",
        "charge": "ch_1",
        "amount_minor": ALL,
        "currency": "USD",
        "request_id": "order-1",
        "state": CaptureState.CAPTURED,
        **changes,
    }
    row = Capture(id=ids.new("cap"), **values)
    session.add(row)
    session.commit()
    return row.id


def ask(session: Session, **changes: Any) -> billing.RefundReceipt:
    asked = {"payment_intent": "pi_1", "amount": USD_5, "request_id": "return-1", **changes}
    return billing.request_refund(session, **asked)


def given_back(session: Session, capture: str) -> int:
    return session.scalar(select(Capture.refunds_minor).where(Capture.id == capture)) or 0


def still_usable(session: Session) -> None:
    """The caller's own work goes on in the same transaction, and is committed."""
    session.execute(text("INSERT INTO public.orders VALUES ('42')"))
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM public.orders")) == 1


def test_a_refund_is_one_row_and_one_fact_and_counts_at_once(session: Session) -> None:
    capture = captured(session)
    receipt = ask(session, reason="duplicate", correlation_id="trace-1")
    session.commit()
    assert receipt == billing.RefundReceipt(receipt.refund_id, "return-1", USD_5, new=True)
    row = session.scalars(select(Refund)).one()
    assert (row.capture_id, row.payment_intent, row.amount_minor, row.currency) == (capture, "pi_1", 500, "USD")
    assert (row.state, row.refund_reason, row.all_left) == (RefundState.REQUESTED, "duplicate", False)
    fact = session.scalars(select(Fact)).one()
    assert (fact.topic, fact.entity_id, fact.entity_version) == ("refund.requested", row.id, row.version)
    assert (fact.payload["capture"], fact.payload["minor"], fact.payload["all_left"]) == (capture, 500, False)
    assert given_back(session, capture) == billing.status(session, capture).refunds_minor == 500


@pytest.mark.parametrize("by", ["capture", "payment_intent", "charge"])
def test_a_capture_is_named_by_its_id_its_payment_intent_or_its_charge(session: Session, by: str) -> None:
    named = {"capture": captured(session), "payment_intent": "pi_1", "charge": "ch_1"}
    receipt = billing.request_refund(session, request_id="return-1", **{by: named[by]})
    assert (receipt.amount, session.scalars(select(Refund.capture_id)).one()) == (
        billing.Money(ALL, "USD"),
        named["capture"],
    )


def test_without_an_amount_all_that_is_left_is_given_back(session: Session) -> None:
    capture = captured(session)
    assert ask(session).amount.minor == 500
    assert ask(session, request_id="return-2", amount=None).amount.minor == 1499
    session.commit()
    assert given_back(session, capture) == ALL
    with pytest.raises(billing.MoreThanCaptured, match="nothing is left of it") as refused:
        ask(session, request_id="return-3", amount=None)
    assert (refused.value.asked, refused.value.left) == (None, 0)
    still_usable(session)


def test_more_than_is_left_is_refused_with_what_is_left_and_the_transaction_stays_usable(session: Session) -> None:
    capture = captured(session)
    ask(session)
    with pytest.raises(billing.MoreThanCaptured, match="1499 USD are left of it, not 1500") as refused:
        ask(session, request_id="return-2", amount=billing.Money(1500, "USD"))
    assert (refused.value.capture_id, refused.value.asked, refused.value.left) == (capture, 1500, 1499)
    still_usable(session)
    assert given_back(session, capture) == 500
    assert session.scalar(select(func.count()).select_from(Refund)) == 1


def test_what_the_caller_has_pending_survives_a_refund_that_is_refused(session: Session) -> None:
    captured(session)
    session.add(Capture(id=ids.new("cap"), payment_intent="pi_9", amount_minor=1, currency="USD", request_id="other"))
    with pytest.raises(billing.MoreThanCaptured):
        ask(session, amount=billing.Money(ALL + 1, "USD"))
    session.commit()
    assert session.scalar(select(func.count()).select_from(Capture)) == 2


def test_the_same_request_again_gives_the_same_receipt_even_if_nothing_is_left(session: Session) -> None:
    capture = captured(session)
    first = ask(session, amount=None)
    session.commit()
    assert ask(session, amount=None) == billing.RefundReceipt(first.refund_id, "return-1", first.amount, new=False)
    session.commit()
    assert given_back(session, capture) == ALL
    assert session.scalar(select(func.count()).select_from(Fact)) == 1


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"amount": billing.Money(501, "USD")}, "amount_minor"),
        ({"amount": None}, "amount"),
        ({"reason": "fraudulent"}, "reason"),
        ({"payment_intent": "pi_2"}, "capture_id"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_same_request_id_with_other_parameters_is_refused(
    session: Session, changes: dict[str, Any], differs: str
) -> None:
    captured(session)
    captured(session, payment_intent="pi_2", charge="ch_2", request_id="order-2")
    ask(session)
    with pytest.raises(billing.RequestReused) as refused:
        ask(session, **changes)
    assert differs in refused.value.differences
    still_usable(session)


NOTHING_TAKEN = {
    CaptureState.REQUESTED: "ask again once it is captured",
    CaptureState.EXPIRED: "it took nothing",
}


@pytest.mark.parametrize("state", NOTHING_TAKEN)
def test_a_capture_that_took_nothing_is_no_refund_and_the_error_says_what_comes_next(
    session: Session, state: CaptureState
) -> None:
    capture = captured(session, state=state)
    for named in ({"payment_intent": "pi_1"}, {"payment_intent": None, "capture": capture}):
        with pytest.raises(billing.NotCaptured, match=NOTHING_TAKEN[state]) as refused:
            ask(session, **named)
        assert (refused.value.capture_id, refused.value.capture_state) == (capture, state)
    still_usable(session)


def test_a_payment_that_is_not_ours_is_refused_by_name(session: Session) -> None:
    captured(session, account="acct_1")
    captured(session, state=CaptureState.DECLINED, payment_intent="pi_3", request_id="order-3")
    for named in ({"payment_intent": "pi_1"}, {"payment_intent": None, "charge": "ch_9"}, {"payment_intent": "pi_3"}):
        with pytest.raises(billing.NotOurPayment):
            ask(session, **named)
    assert ask(session, account="acct_1").new
    with pytest.raises(billing.UnknownEntity):
        ask(session, payment_intent=None, capture=ids.new("cap"))


def test_the_account_is_that_of_the_capture(session: Session) -> None:
    capture = captured(session, account="acct_1")
    with pytest.raises(billing.InvalidRequest, match="account is not the one of the capture"):
        ask(session, payment_intent=None, capture=capture, account="acct_2")
    ask(session, payment_intent=None, capture=capture)
    assert session.scalars(select(Refund.account)).one() == "acct_1"


def test_of_a_payment_that_was_captured_in_parts_the_part_is_named(session: Session) -> None:
    first = captured(session)
    second = captured(session, capture_no=2, request_id="order-1b")
    with pytest.raises(billing.InvalidRequest, match=f"{first}, {second}; say with `capture`"):
        ask(session)
    assert ask(session, payment_intent=None, capture=second).new


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"amount": 500}, "must be billing.Money or None, not int"),
        ({"amount": billing.Money(500, "EUR")}, "cannot be given back of a capture in USD"),
        ({"reason": "changed their mind"}, "must be one of duplicate, fraudulent, requested_by_customer"),
        ({"reason": 7}, "must be one of"),
        ({"payment_intent": None}, "must be given, or payment_intent, charge or invoice"),
        ({"capture": "cap_1"}, "one of the four"),
        ({"payment_intent": "ch_1"}, "this begins like the id of a charge"),
        ({"payment_intent": None, "capture": 7}, "capture must be 1 to 40 printable"),
        ({"request_id": ""}, "request_id must be"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_bad_input_is_refused_by_name_and_nothing_is_written(
    session: Session, changes: dict[str, Any], problem: str
) -> None:
    captured(session)
    with pytest.raises(billing.InvalidRequest, match=problem):
        ask(session, **changes)
    assert session.scalar(select(func.count()).select_from(Refund)) == 0
    still_usable(session)


# The sum, which Postgres keeps.


@pytest.mark.parametrize("state", [state for state in RefundState if (RefundState.REQUESTED, state) in REFUND.legal])
def test_a_refund_that_gave_nothing_back_frees_its_amount_and_no_other_does(
    session: Session, state: RefundState
) -> None:
    capture = captured(session)
    ask(session)
    session.execute(text("UPDATE billing.refunds SET state = :state"), {"state": state})
    assert given_back(session, capture) == (0 if state in FREES_ITS_AMOUNT else 500)
    session.execute(text("UPDATE billing.refunds SET state = 'requested'"))
    assert given_back(session, capture) == 500


def test_a_refund_that_failed_after_its_success_can_be_asked_for_again(session: Session) -> None:
    """[70] The bank returned the money to us, so it is not given back yet."""
    captured(session)
    ask(session, amount=None)
    session.execute(text("UPDATE billing.refunds SET state = 'succeeded'"))
    with pytest.raises(billing.MoreThanCaptured):
        ask(session, request_id="return-2")
    session.execute(text("UPDATE billing.refunds SET state = 'failed'"))
    assert ask(session, request_id="return-2").new


def test_no_statement_brings_the_sum_above_what_was_captured(session: Session) -> None:
    """[70] Whoever writes the row, the constraint refuses it: no reading of what is left is trusted."""
    capture = captured(session)
    row = {"capture_id": capture, "payment_intent": "pi_1", "currency": "USD"}
    session.add(Refund(id=ids.new("ref"), request_id="a", amount_minor=ALL, **row))
    session.flush()
    session.add(Refund(id=ids.new("ref"), request_id="b", amount_minor=1, **row))
    with pytest.raises(IntegrityError, match="captures_refunds_bounded"):
        session.flush()


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_32_threads_that_ask_for_the_same_money_never_get_more_than_was_captured(
    engine: Engine, isolation: str
) -> None:
    """[70, 85] At every isolation level: 13 times 150 fit into 1999, and no 14th."""
    with Session(engine) as session:
        capture = captured(session)
    own = create_engine(engine.url, poolclass=NullPool, isolation_level=isolation)  # type: ignore[call-overload]
    receipts, refusals, together = list[str](), list[int](), threading.Barrier(32)

    def asks(number: int) -> None:
        together.wait()
        while True:  # Postgres may ask for the transaction to be repeated
            try:
                with Session(own) as session, session.begin():
                    asked = billing.Money(150, "USD")
                    receipt = ask(session, amount=asked, request_id=f"return-{number}")
                receipts.append(receipt.refund_id)
                return
            except billing.MoreThanCaptured as refused:
                refusals.append(refused.left)
                return
            except DBAPIError as error:
                if sqlstate(error) != "40001":
                    raise

    threads = [threading.Thread(target=asks, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(receipts), len(refusals)) == (13, 19)
    assert all(left < 150 for left in refusals)
    with Session(engine) as session:
        assert given_back(session, capture) == 13 * 150
        assert session.scalar(select(func.sum(Refund.amount_minor))) == 13 * 150


def test_threads_that_ask_for_all_that_is_left_share_it(engine: Engine) -> None:
    """One gets the rest, whatever the others take meanwhile."""
    with Session(engine) as session:
        capture = captured(session)
    own = create_engine(engine.url, poolclass=NullPool)
    got, together = list[int](), threading.Barrier(8)

    def asks(number: int) -> None:
        together.wait()
        try:
            with Session(own) as session, session.begin():
                amount = billing.Money(100, "USD") if number % 2 else None
                got.append(ask(session, amount=amount, request_id=f"return-{number}").amount.minor)
        except billing.MoreThanCaptured:
            pass

    threads = [threading.Thread(target=asks, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == ALL
    with Session(engine) as session:
        assert given_back(session, capture) == ALL
