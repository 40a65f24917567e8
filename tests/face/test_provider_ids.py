"""An id of another kind, and every secret that Stripe hands out, is refused by name and never repeated."""

import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cases import case
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from stripe_secrets import stripe_secrets

import billing
from billing.provider_ids import SHAPES, IdKind, is_id, provider_id
from billing.provider_secrets import KINDS, secret_in, without_secrets
from billing.switches import pull
from billing.tables.entities import Capture, Invoice, Switch
from billing.tables.facts import Fact

SECRETS = stripe_secrets()
SEED = 20261129


def capture(session: Session, **changes: Any) -> None:
    asked = {"payment_intent": "pi_1", "amount": billing.Money(2000, "USD"), "request_id": "order-1", **changes}
    billing.request_capture(session, **asked)


def invoice(session: Session, description: str = "3 seats", **changes: Any) -> None:
    asked = {"customer": "cus_1", "request_id": "order-1", "collect": billing.SendInvoice(14), **changes}
    billing.issue_invoice(session, lines=[billing.Line(description, billing.Money(1, "EUR"))], **asked)


PLACES: dict[str, Callable[[Session, str], object]] = {
    "payment_intent": lambda session, value: capture(session, payment_intent=value),
    "customer": lambda session, value: invoice(session, customer=value),
    "account of a capture": lambda session, value: capture(session, account=value),
    "account of an invoice": lambda session, value: invoice(session, account=value),
    "request_id of a capture": lambda session, value: capture(session, request_id=value),
    "request_id of an invoice": lambda session, value: invoice(session, request_id=f"{value}:1"),
    "correlation_id": lambda session, value: capture(session, correlation_id=f"trace-{value}"),
    "actor": lambda session, value: capture(session, actor=f"shop {value}"),
    "description": lambda session, value: invoice(session, f"see {value}, please"),
    "reason of a switch": lambda session, value: pull(session, "captures", actor="ada", reason=f"leaked: {value}."),
    "actor of a switch": lambda session, value: pull(session, "captures", actor=value, reason="x"),
    "scope": lambda session, value: pull(session, f"account:{value}", actor="ada", reason="x"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_of_stripe_is_refused_wherever_it_is_passed(session: Session, place: str) -> None:
    for name, secret in SECRETS.items():
        with case(name):
            with pytest.raises(billing.InvalidText) as refused:
                PLACES[place](session, secret)
            said = str(refused.value)
            assert "bcdfghjk" not in said
            assert secret[:14] not in said
            assert any(kind in said for kind in KINDS), said
    for table in (Capture, Invoice, Switch, Fact):
        assert session.scalar(select(func.count()).select_from(table)) == 0


def test_every_kind_of_secret_is_tried_by_a_test() -> None:
    assert {secret_in(value) for value in SECRETS.values()} == set(KINDS)


@pytest.mark.parametrize("name", [name for name in SECRETS if "_secret_" in SECRETS[name]])
def test_a_client_secret_is_told_what_to_pass_instead(name: str) -> None:
    with pytest.raises(billing.InvalidText, match="client secret: pass the id, which ends before `_secret_`"):
        provider_id("payment_intent", SECRETS[name])


OTHER_KINDS = {
    "payment_intent": ["ch_1", "py_1", "in_1", "cus_1", "seti_1", "cs_test_a1", "acct_1", "pm_1", "re_1", "sub_1"],
    "customer": ["pi_1", "in_1", "acct_1", "ch_1", "sub_1"],
    "account": ["pi_1", "cus_1", "req_1"],
}


@pytest.mark.parametrize(
    ("wanted", "given"), [(name, each) for name, several in OTHER_KINDS.items() for each in several]
)
def test_an_id_of_another_kind_is_refused_with_what_it_is_and_what_is_wanted(wanted: str, given: str) -> None:
    with pytest.raises(billing.InvalidText) as refused:
        provider_id(wanted, given)
    assert str(refused.value).startswith(f"{wanted} must be the id of a")
    assert "this begins like the id of " in str(refused.value)
    assert given not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        *("pi_", "pi", "_x", "", "pi_x/cancel?", "pi_x/../../customers", "pi_x\r\nX: y", "pi_1\n", " pi_1", "pi_1 "),
        *("pi_é", "pi_\u0661", "pi_1\x00", "pi_1%2Fcancel", "pi_1?a=b", "pi_1#", "PI_1", "pi-1", "pi_" + "1" * 253),
        *(None, 1, b"pi_1", ["pi_1"], True),
    ],
)
def test_what_is_no_id_at_all_is_refused(given: Any) -> None:
    with pytest.raises(billing.InvalidText, match="payment_intent must be the id of a payment intent, pi_"):
        provider_id("payment_intent", given)


def test_ids_are_taken_as_stripe_gives_them_up_to_255_characters() -> None:
    for kind, real in {
        IdKind.PAYMENT_INTENT: "pi_3MtwBwLkdIwHu7ix28a3tqPa",
        IdKind.CUSTOMER: "cus_NffrFeUfNV2Hib",
        IdKind.ACCOUNT: "acct_1Nv0FGQ9RKHgCVdK",
        IdKind.INVOICE: "in_1MtHbELkdIwHu7ixl4OzzPMv",
        IdKind.CHARGE: "py_1MmlLrLkdIwHu7ixIJwEWSNR",
    }.items():
        assert is_id(kind, real)
        prefix = real.partition("_")[0]
        assert is_id(kind, f"{prefix}_test_1a")
        assert is_id(kind, f"{prefix}_".ljust(255, "x"))
        assert not is_id(kind, f"{prefix}_".ljust(256, "x"))
    assert set(SHAPES) == set(IdKind)


def test_the_ids_of_shops_are_never_taken_for_a_secret(request: pytest.FixtureRequest) -> None:
    rng = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    for _ in range(500):
        made = uuid.UUID(int=rng.getrandbits(128), version=4)
        for prefix in ("sk", "rk", "pk", "ac", "rt", "ek", "cs", "pi", "secret", "order_secret", "desk_live"):
            for tail in (made.hex, str(made), "".join(rng.choices(letters, k=27)), str(rng.randrange(10**9))):
                assert secret_in(f"{prefix}_{tail}") is None
    for plain in (
        "order_secret_santa2026",
        "my_secret_project_7",
        "sk_42",
        "rt_live_12",
        "the secret_key is safe",
        "_",
    ):
        assert secret_in(plain) is None


def test_an_unknown_id_that_is_a_secret_is_not_repeated() -> None:
    for value in SECRETS.values():
        assert value not in str(billing.UnknownEntity(value))


def test_a_secret_in_an_old_row_is_not_repeated_when_its_request_comes_again(session: Session) -> None:
    capture(session)
    session.execute(text("ALTER TABLE billing.captures DROP CONSTRAINT captures_payment_intent_shape"))
    session.execute(text("UPDATE billing.captures SET payment_intent = :old"), {"old": SECRETS["short payment intent"]})
    with pytest.raises(billing.RequestReused) as refused:
        capture(session)
    session.rollback()
    assert "payment_intent: first a value that is not shown, now 'pi_1'" in str(refused.value)
    assert refused.value.differences["payment_intent"] == (SECRETS["short payment intent"], "pi_1")


def test_what_a_person_typed_is_quoted_without_its_secrets() -> None:
    for value in SECRETS.values():
        told = without_secrets(f"--line '{value}=0': the amount must be positive, not 0")
        assert told.startswith("--line '[a")
        assert "bcdfghjk" not in told
    assert without_secrets("--line 'order_secret_santa=0'") == "--line 'order_secret_santa=0'"
