"""What Stripe's SDK and SQLAlchemy hand over is taken as it is; all else gets an error that says what to pass."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from typing import Any

import pytest
import stripe
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from test_issue_invoice import ask as ask_invoice
from test_issue_invoice import rows
from test_request_capture import ask, still_usable

import billing
from billing.operations import operation_of
from billing.tables.entities import Capture, Invoice, InvoiceLine, Void
from billing.tables.facts import Fact

SEED = int(os.environ.get("BILLING_TEST_SEED", "10"))

# As Stripe's API answers a confirm.
INTENT = {
    "id": "pi_3Mtw",
    "object": "payment_intent",
    "amount_capturable": 2000,
    "currency": "usd",
    "customer": "cus_NffrFeUfNV2Hib",
    "latest_charge": {
        "id": "ch_1",
        "object": "charge",
        "payment_method_details": {"type": "card", "card": {"capture_before": 1_767_744_000}},
    },
}
UNTIL = datetime(2026, 1, 7, tzinfo=UTC)


# What is taken.


def test_what_the_sdk_answers_to_a_confirm_is_passed_on_as_it_is(session: Session):
    intent = stripe.PaymentIntent.construct_from(INTENT, None)
    charge: Any = intent.latest_charge
    ask(
        session,
        payment_intent=intent.id,
        amount=billing.Money(intent.amount_capturable, intent.currency),
        authorization=billing.Authorization(
            intent.amount_capturable, intent.currency, charge.payment_method_details.card.capture_before
        ),
        account="",
    )
    session.commit()
    row = session.scalars(select(Capture)).one()
    assert (row.payment_intent, row.amount_minor, row.currency, row.account) == ("pi_3Mtw", 2000, "USD", None)
    assert (row.authorized_minor, row.authorized_currency, row.capture_before) == (2000, "USD", UNTIL)
    fact = session.scalars(select(Fact)).one()
    assert fact.payload["capture_before"] == "2026-01-07T00:00:00+00:00"


@pytest.mark.parametrize(
    "given",
    [1_767_744_000, UNTIL, UNTIL.astimezone(timezone(timedelta(hours=-9)))],
    ids=["seconds", "UTC", "elsewhere"],
)
def test_an_authorization_keeps_when_it_lapses_as_one_time_in_utc(given: Any):
    kept = billing.Authorization(2000, "Usd", given)
    assert (kept.capture_before, kept.currency) == (UNTIL, "USD")
    assert kept.capture_before is not None
    assert kept.capture_before.tzinfo is UTC
    assert kept == billing.Authorization(2000, "USD", UNTIL)


class Nowhere(tzinfo):
    """Its times are naive in all but name."""

    def __repr__(self) -> str:
        return "Nowhere()"  # it names a test, and every run names its tests alike

    def utcoffset(self, _: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    "given",
    [
        *(0, -1, 1_767_744_000_000, 10**30, 946_684_799, 7_258_118_400, True, 1.5, "2026-01-07", b"1", [1], {}),
        *(datetime(2026, 1, 7), datetime(2026, 1, 7, tzinfo=Nowhere())),  # noqa: DTZ001
        *(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
    ],
    ids=repr,
)
def test_a_deadline_that_cannot_be_stripes_is_refused_by_name(given: Any):
    with pytest.raises(billing.InvalidText, match=r"^capture_before must "):
        billing.Authorization(2000, "USD", given)


@pytest.mark.parametrize("lines", [iter, tuple, lambda lines: (line for line in lines), dict.fromkeys])
def test_lines_are_read_once_however_they_come(session: Session, lines: Callable[[Any], Any]):
    two = [billing.Line(text, billing.Money(100, "eur")) for text in ("one", "two")]
    receipt = ask_invoice(session, lines=lines(two))
    session.commit()
    stored = session.scalars(select(InvoiceLine.description).order_by(InvoiceLine.position)).all()
    assert stored == ["one", "two"]
    assert ask_invoice(session, lines=lines(two)).invoice_id == receipt.invoice_id


def test_lines_without_end_are_refused(session: Session):
    def for_ever() -> Iterator[billing.Line]:
        while True:
            yield billing.Line("again", billing.Money(100, "EUR"))

    with pytest.raises(billing.InvalidRequest, match="lines must be 1 to 250, not more"):
        ask_invoice(session, lines=for_ever())


class Order(StrEnum):
    FIRST = "order-42"


def test_a_text_of_another_type_is_kept_as_a_plain_one(session: Session):
    receipt = ask(session, request_id=Order.FIRST, actor=Order.FIRST)
    session.commit()
    assert type(receipt.request_id) is str
    row = session.scalars(select(Capture)).one()
    assert (row.request_id, session.scalar(select(Fact.actor))) == ("order-42", "order-42")


# The correlation id.


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_correlation_id_the_request_id_is_one(session: Session, given: str | None):
    ask(session, request_id="order-42", correlation_id=given)
    ask_invoice(session, request_id="order-43", correlation_id=given)
    session.commit()
    assert session.scalar(select(Capture.correlation_id)) == "order-42"
    assert session.scalar(select(Invoice.correlation_id)) == "order-43"
    assert session.scalars(select(Fact.correlation_id).order_by(Fact.id)).all() == ["order-42", "order-43"]


def test_a_request_of_before_correlation_ids_were_filled_in_is_the_same_request(session: Session):
    first = ask(session)
    other = ask_invoice(session)
    session.execute(text("UPDATE billing.captures SET correlation_id = NULL"))
    session.execute(text("UPDATE billing.invoices SET correlation_id = NULL"))
    session.commit()
    assert ask(session).capture_id == first.capture_id
    assert ask_invoice(session, correlation_id="another").invoice_id == other.invoice_id


def test_an_order_number_with_a_card_s_digits_is_taken_with_a_warning_at_the_place_that_asks(session: Session):
    """As a cart's own number of 16 digits may have them."""
    with pytest.warns(billing.PossibleCardNumber, match=r"^request_id may be a card number") as warned:
        billing.request_capture(
            session, payment_intent="pi_1", amount=billing.Money(2000, "usd"), request_id="4539148803436467"
        )
    assert [warning.filename for warning in warned] == [__file__]
    session.commit()
    assert session.scalar(select(Capture.request_id)) == "4539148803436467"


# Sessions.


# SQLAlchemy's own needs a library that nothing else here does; it is known by its module.
AsyncSession = type("AsyncSession", (), {"__module__": "sqlalchemy.ext.asyncio.session"})

FACE: dict[str, Callable[[Any], object]] = {
    "request_capture": ask,
    "issue_invoice": ask_invoice,
    "status": lambda session: billing.status(session, "cap_0198f0c2"),
}


@pytest.mark.parametrize("asking", FACE.values(), ids=FACE)
def test_what_is_no_session_gets_a_type_error_that_says_what_to_pass(engine: Engine, asking: Callable[[Any], object]):
    with engine.connect() as connection, Session(engine) as session:
        given: dict[str, Any] = {
            "await session.run_sync(lambda session: ": AsyncSession(),
            "Session(connection)": connection,
            "Session(engine)": engine,
            "with factory() as session": sessionmaker(engine),
            "that `begin()` was called on": session.begin(),
            "not NoneType": None,
            "not dict": {"session": session},
            "not type": Session,
        }
        for said, what in given.items():
            for kind in (TypeError, billing.BillingError, billing.InvalidRequest):
                with pytest.raises(kind) as refused:
                    asking(what)
                assert said in str(refused.value)
                assert "session must be a sqlalchemy.orm.Session" in str(refused.value)
        with pytest.raises(billing.InvalidRequest):
            asking(object())
    with Session(engine) as session:
        assert rows(session, Fact) == 0


def test_a_session_of_this_thread_is_a_session(engine: Engine):
    own = scoped_session(sessionmaker(engine))
    receipt = ask(own)  # type: ignore[arg-type]
    assert billing.status(own, receipt.capture_id).state == "requested"  # type: ignore[arg-type]
    own.commit()
    own.remove()
    with Session(engine) as session:
        assert rows(session, Capture) == 1


@pytest.mark.parametrize("entity", [None, 5, b"cap_1", ["cap_1"], stripe.PaymentIntent.construct_from(INTENT, None)])
def test_status_says_what_it_wants_instead_of_that_an_id_is_unknown(session: Session, entity: Any):
    with pytest.raises(billing.InvalidRequest, match=f"entity_id must be .* not {type(entity).__name__}"):
        billing.status(session, entity)


@pytest.mark.parametrize("entity", ["cap_\x00", "cap_\ud800", "cap_é", "inv_" + "9" * 10_000, "cap_' OR 1=1"])
def test_an_id_that_postgres_would_not_even_read_is_unknown(session: Session, entity: str):
    with pytest.raises(billing.UnknownEntity):
        billing.status(session, entity)
    still_usable(session)


# Everything else.


class Stubborn:
    """Says no to whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


def anything(rng: random.Random) -> Any:
    """Wrong types and hostile texts, and now and then what is right."""
    characters = "a1_-.:/?#%@ \n\t\r\x00\x1b\x7f\x85\u00a0\u202e\u2028\ufeff\ud800\uffff\U0001f600'\";\\"
    made: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.choice([True, False, 0, -1, 1, 2**63, 10**5000, -(10**5000), 1.5, float("nan"), float("inf")]),
        lambda: "".join(rng.choices(characters, k=rng.randrange(0, 30))),
        lambda: rng.choice(["pi_", "cus_", "acct_", "order-"]) + "".join(rng.choices(characters[:12], k=4)),
        lambda: "x" * rng.choice([255, 256, 100_000]),
        lambda: rng.choice(
            [b"pi_1", bytearray(b"1"), [], [[]], {}, {"a": 1}, set(), object(), Stubborn(), Stubborn, print]
        ),
        lambda: datetime.fromtimestamp(rng.randrange(0, 2**32), UTC),
        lambda: stripe.PaymentIntent.construct_from(INTENT, None),
        lambda: rng.choice(["pi_1", "cus_1", "acct_1", "order-1", "usd", 1_767_744_000, 2000]),
    ]
    return rng.choice(made)()


def maybe(rng: random.Random, right: Any, share: float = 0.6) -> Any:
    return right if rng.random() < share else anything(rng)


def a_capture(rng: random.Random) -> dict[str, Any]:
    def money() -> Any:
        return billing.Money(maybe(rng, 2000), maybe(rng, "usd"))

    def authorization() -> Any:
        return billing.Authorization(maybe(rng, 2000), maybe(rng, "usd"), maybe(rng, 1_767_744_000))

    return {
        "payment_intent": maybe(rng, "pi_1"),
        "amount": money() if rng.random() < 0.9 else anything(rng),
        "request_id": maybe(rng, "order-1"),
        "correlation_id": maybe(rng, None),
        "authorization": authorization() if rng.random() < 0.5 else maybe(rng, None),
        "account": maybe(rng, ""),
        "actor": maybe(rng, "till 3"),
    }


def a_void(rng: random.Random) -> dict[str, Any]:
    return {
        "payment_intent": maybe(rng, "pi_1"),
        "reason": maybe(rng, "duplicate", 0.9),
        "request_id": maybe(rng, "order-1"),
        "correlation_id": maybe(rng, None),
        "account": maybe(rng, ""),
        "actor": maybe(rng, "till 3"),
    }


def an_invoice(rng: random.Random) -> dict[str, Any]:
    def line() -> Any:
        if rng.random() < 0.1:
            return anything(rng)
        return billing.Line(maybe(rng, "3 seats\u00a0"), billing.Money(maybe(rng, 100, 0.9), "eur"))

    return {
        "customer": maybe(rng, "cus_1"),
        "lines": [line() for _ in range(rng.randrange(0, 4))] if rng.random() < 0.9 else anything(rng),
        "collect": billing.SendInvoice(maybe(rng, 30, 0.8)) if rng.random() < 0.9 else anything(rng),
        "request_id": maybe(rng, "order-1"),
        "correlation_id": maybe(rng, None),
        "account": maybe(rng, ""),
        "actor": maybe(rng, "till 3"),
    }


@pytest.mark.filterwarnings("ignore::billing.errors.PossibleCardNumber")
@pytest.mark.parametrize(
    ("asking", "made"),
    [(billing.request_capture, a_capture), (billing.request_void, a_void), (billing.issue_invoice, an_invoice)],
    ids=["captures", "voids", "invoices"],
)
def test_whatever_is_passed_is_kept_as_it_was_meant_or_gets_a_named_error_and_nothing_is_written(
    session: Session, asking: Callable[..., Any], made: Callable[[random.Random], dict[str, Any]]
):
    rng = random.Random(f"{SEED} {made.__name__}")
    kept = refused = longest = 0
    for number in range(1500):
        try:
            asked = made(rng)
            receipt = asking(session, **asked)
        except billing.InvalidRequest as error:
            refused += 1
            longest = max(longest, len(str(error)))
            continue
        kept += 1
        (own,) = {"capture_id", "void_id", "invoice_id"} & {*dir(receipt)}
        entity_id = getattr(receipt, own)
        row: Any = session.get_one(operation_of(entity_id).table, entity_id)
        assert (row.request_id, row.account or "") == (asked["request_id"], asked["account"] or ""), f"number {number}"
        assert row.correlation_id == (asked["correlation_id"] or asked["request_id"])
        session.rollback()
    assert kept > 20, f"seed {SEED}"
    assert refused > 200, f"seed {SEED}"
    assert longest < 400, f"seed {SEED}"
    still_usable(session)
    for table in (Capture, Void, Invoice, InvoiceLine, Fact):
        assert session.scalar(select(func.count()).select_from(table)) == 0
