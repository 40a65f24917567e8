"""What a capture may ask for beside its amount: checked before anything is written, shared by a repeated request."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from test_request_capture import ask, rows, still_usable

import billing
from billing.tables.entities import Capture
from billing.tables.facts import Fact

USD_5 = billing.Money(500, "USD")
CARD = "4242424242424242"

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"application_fee": 500}, "must be billing.Money, not int"),
    ({"transfer": "500 USD"}, "must be billing.Money, not str"),
    ({"application_fee": USD_5, "transfer": USD_5}, "exclude each other"),
    ({"statement_descriptor": "SHOP"}, "must be 5 to 22 characters"),
    ({"statement_descriptor": "A SHOP WITH A LONG NAME"}, "must be 1 to 22 characters"),
    ({"statement_descriptor": "12345"}, "at least one letter"),
    ({"statement_descriptor": "МАГАЗИН"}, "Latin letters only"),
    ({"statement_descriptor": 5}, "must be text, not int"),
    *(({"statement_descriptor_suffix": f"ORDER {mark}"}, "must not hold any of") for mark in "<>\\'\"*"),
    ({"statement_descriptor_suffix": ""}, "must be 1 to 22"),
    ({"statement_descriptor_suffix": "OR\x00DER"}, "must not hold the control character"),
    ({"metadata": ["order", "42"]}, "must map texts to texts, not be list"),
    ({"metadata": {f"key-{number}": "1" for number in range(21)}}, "at most 20 keys, not 21"),
    ({"metadata": {"k" * 41: "1"}}, "must be 1 to 40 printable"),
    ({"metadata": {"anna@shop.example": "1"}}, "without spaces and @"),
    ({"metadata": {"a[b]": "1"}}, "must not hold"),
    ({"metadata": {"billing_operation": "cap_1"}}, "must not begin with billing_"),
    ({"metadata": {"order": 42}}, "must be text, not int"),
    ({"metadata": {"order": ""}}, "must be 1 to 500 characters"),
    ({"metadata": {"order": "x" * 501}}, "must be 1 to 500 characters"),
    ({"metadata": {"buyer": "write to anna@shop.example"}}, "must not hold an e-mail address"),
    ({"metadata": {"buyer": f"card {CARD}"}}, "a card number"),
    ({"metadata": {"key": "sk_live_" + "a1" * 12}}, "must not hold"),
]


@pytest.mark.parametrize(("terms", "rule"), REFUSED, ids=str)
def test_terms_that_stripe_or_the_law_would_refuse_are_refused_with_their_rule(terms: dict[str, Any], rule: str):
    with pytest.raises(billing.InvalidRequest, match=rule) as refused:
        billing.CaptureTerms(**terms)
    assert CARD not in str(refused.value)
    assert "anna" not in str(refused.value)


@pytest.mark.parametrize("part", ["application_fee", "transfer"])
def test_a_part_is_not_more_than_the_amount_and_in_its_currency(session: Session, part: str):
    for money, rule in ((billing.Money(2001, "USD"), "is more than"), (billing.Money(1, "EUR"), "must be in USD")):
        with pytest.raises(billing.InvalidAmount, match=rule) as refused:
            ask(session, terms=billing.CaptureTerms(**{part: money}))
        assert refused.value.subject == part
    still_usable(session)
    assert rows(session) == 0


@pytest.mark.parametrize("bad", ["kept", True, None, 1, ["keep"]], ids=repr)
def test_what_becomes_of_the_rest_is_one_of_two_words(session: Session, bad: Any):
    with pytest.raises(billing.InvalidRequest, match="must be 'release'") as refused:
        ask(session, remainder=bad)
    assert refused.value.subject == "remainder"
    with pytest.raises(billing.InvalidRequest, match=r"must be billing.CaptureTerms, not"):
        ask(session, terms=bad)
    assert rows(session) == 0


TERMS = billing.CaptureTerms(
    application_fee=USD_5,
    statement_descriptor_suffix="Café 42",
    metadata={"order": "42", "buyer": "Anna Meier"},
)


def test_what_was_asked_for_is_kept_and_texts_are_in_no_fact(session: Session):
    ask(session, terms=TERMS, remainder="keep", account="acct_1")
    session.commit()
    row = session.scalars(select(Capture)).one()
    assert (row.keeps_remainder, row.capture_no, row.application_fee_minor, row.transfer_minor) == (True, 1, 500, None)
    assert row.statement_descriptor_suffix == "Café 42"
    assert row.callers_metadata == {"order": "42", "buyer": "Anna Meier"}
    fact = session.scalars(select(Fact)).one()
    assert (fact.version, fact.payload["application_fee_minor"], fact.payload["keeps_remainder"]) == (2, 500, True)
    assert "Anna" not in str(fact.payload)
    assert "Caf" not in str(fact.payload)


def test_a_plain_capture_is_written_as_older_versions_wrote_it(session: Session):
    ask(session)
    session.commit()
    fact = session.scalars(select(Fact)).one()
    assert fact.version == 1
    assert fact.payload.keys() == {
        *("minor", "currency", "payment_intent", "account", "request_digest", "authorized", "capture_before"),
    }


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"remainder": "keep"}, "keeps_remainder"),
    ({"terms": billing.CaptureTerms(application_fee=USD_5)}, "application_fee_minor"),
    ({"terms": billing.CaptureTerms(transfer=USD_5)}, "transfer_minor"),
    ({"terms": billing.CaptureTerms(statement_descriptor="ANOTHER SHOP")}, "statement_descriptor"),
    ({"terms": billing.CaptureTerms(metadata={"buyer": "Berta"})}, "callers_metadata"),
]


@pytest.mark.parametrize(("changes", "name"), OTHERS, ids=lambda each: str(each)[:40])
def test_a_repeated_request_with_other_terms_is_refused_by_name_and_texts_are_not_repeated(
    session: Session, changes: dict[str, Any], name: str
):
    ask(session)
    session.commit()
    with pytest.raises(billing.RequestReused, match=name) as refused:
        ask(session, **changes)
    assert set(refused.value.differences) == {name}
    assert "Berta" not in str(refused.value)
    assert "ANOTHER" not in str(refused.value)
    still_usable(session)


def test_the_same_terms_again_give_the_same_receipt(session: Session):
    first = ask(session, terms=TERMS, remainder="keep")
    session.commit()
    again = billing.CaptureTerms(
        application_fee=USD_5,
        statement_descriptor_suffix="Café 42",
        metadata={"buyer": "Anna Meier", "order": "42"},
    )
    assert ask(session, terms=again, remainder="keep") == billing.CaptureReceipt(first.capture_id, "order-1", new=False)
