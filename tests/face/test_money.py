"""Amounts: what Stripe takes in each of its currencies, as its SDK hands it over, and nothing else."""

import re
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from cases import case
from hypothesis import given, settings
from hypothesis import strategies as some
from sqlalchemy import select
from sqlalchemy.orm import Session
from test_request_capture import ask

import billing
from billing.currencies import CURRENCIES, MOST_MINOR
from billing.shapes import MOST
from billing.tables.entities import Capture
from stripe_standin.parameters import CURRENCIES as OF_A_US_ACCOUNT

PAGE = Path(__file__).parents[2] / "docs" / "currencies.md"


def test_every_currency_of_stripes_is_taken_up_to_its_limit_and_by_its_step():
    """[36]"""
    for code, currency in CURRENCIES.items():
        with case(code):
            for minor in (currency.step, currency.most_minor // currency.step * currency.step):
                for written in (code, code.lower()):
                    money = billing.Money(minor, written)
                    assert (money.minor, money.currency) == (minor, code)
            for minor in (0, -currency.step, currency.most_minor + currency.step):
                with pytest.raises(billing.InvalidAmount, match=r"^amount must be"):
                    billing.Money(minor, code)
            if currency.step > 1:
                with pytest.raises(billing.InvalidAmount, match=f"divisible by {currency.step}"):
                    billing.Money(currency.step + 1, code)


@pytest.mark.parametrize("code", ["JPY", "KRW", "HUF", "COP", "IDR", "INR", "VND", "LBP"])
def test_amounts_of_more_than_eight_digits_are_asked_for_and_kept(session: Session, code: str):
    ask(session, amount=billing.Money(123_456_789_000, code))
    session.commit()
    row = session.scalars(select(Capture)).one()
    assert (row.amount_minor, row.currency) == (123_456_789_000, code)


def test_no_amount_is_too_large_to_be_read_in_an_answer():
    assert MOST_MINOR < MOST


def test_the_currencies_of_a_united_states_account_are_all_taken():
    """The stand-in has them from the message of Stripe's API. Croatia's is in it, and in no documentation any more."""
    assert {code.upper() for code in OF_A_US_ACCOUNT} - CURRENCIES.keys() == {"HRK"}
    assert CURRENCIES.keys() - {code.upper() for code in OF_A_US_ACCOUNT} == {"BHD", "JOD", "KWD", "OMR", "TND"}


def test_the_page_lists_every_currency_with_its_decimals_and_what_it_is_divisible_by():
    rows = re.findall(r"^\| (\d) \| (\d+) \| ([A-Z ]+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {code: (int(decimals), int(step)) for decimals, step, codes in rows for code in codes.split()}
    assert listed == {code: (currency.decimals, currency.step) for code, currency in CURRENCIES.items()}
    assert f"at most {MOST_MINOR:,} minor units" in PAGE.read_text()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("usd ", "write 'USD'"),
        ("EURO", "use 'EUR'"),
        ("€", "use 'EUR'"),
        ("HRK", "use 'EUR', it was replaced by the euro"),
        ("rmb", "use 'CNY'"),
        ("USDT", "did you mean 'USD'"),
        ("EUX", "or 'EUR'?"),
        ("ghs", "docs/currencies.md"),
        ("", "code of three letters"),
        ("KWDD" * 4000, "docs/currencies.md"),
        ("\ud800", "docs/currencies.md"),
        ("ıSK", "docs/currencies.md"),
        (840, "not int"),
        (None, "not NoneType"),
        (b"USD", "not bytes"),
    ],
)
def test_what_is_no_currency_is_refused_with_what_may_have_been_meant(written: Any, said: str):
    with pytest.raises(billing.InvalidCurrency, match=r"^currency must be ") as refused:
        billing.Money(100, written)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


BAD_AMOUNTS: dict[str, tuple[Any, str]] = {
    "a float": (10.99, "USD"),
    "true": (True, "USD"),
    "a decimal": (Decimal(1099), "USD"),
    "a text": ("1099", "USD"),
    "nothing": (None, "USD"),
    "zero": (0, "USD"),
    "negative": (-1, "USD"),
    "too much": (1_000_000_000_000, "USD"),
    "more than a bigint": (2**63, "USD"),
    "more digits than Python shows": (10**5000, "USD"),
    "fewer than Python shows": (-(10**5000), "USD"),
    "half a króna": (150, "ISK"),
    "half a shilling": (99, "UGX"),
    "a fils": (5124, "KWD"),
}


@pytest.mark.parametrize(("minor", "currency"), BAD_AMOUNTS.values(), ids=BAD_AMOUNTS)
def test_an_amount_that_is_not_whole_money_is_refused(minor: Any, currency: str):
    """[35, 37, 38]"""
    with pytest.raises(billing.InvalidAmount, match=r"^amount "):
        billing.Money(minor, currency)


class Price(IntEnum):
    SMALL = 500


def test_a_whole_number_of_another_type_is_kept_as_a_plain_one():
    money = billing.Money(Price.SMALL, "JPY")
    assert (type(money.minor), str(money)) == (int, "500 JPY")


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (1, "USD", "0.01 USD"),
        (99_999_999, "USD", "999999.99 USD"),
        (500, "JPY", "500 JPY"),
        (500, "UGX", "5.00 UGX"),
        (100, "ISK", "1.00 ISK"),
        (999_999_999_999, "IDR", "9999999999.99 IDR"),
        (5120, "KWD", "5.120 KWD"),
        (1050, "GMD", "10.50 GMD"),
        (1050, "XCG", "10.50 XCG"),
    ],
)
def test_good_amounts_are_shown_with_the_decimals_of_their_currency(minor: int, currency: str, shown: str):
    """[34]"""
    assert str(billing.Money(minor, currency)) == shown


@settings(max_examples=200, deadline=None, derandomize=True)
@given(minor=some.one_of(some.integers(), some.floats(), some.none(), some.booleans(), some.text()), code=some.text())
def test_whatever_is_passed_is_money_or_one_of_two_named_errors(minor: Any, code: str):
    for written in (code, "EUR", "kwd"):
        try:
            money = billing.Money(minor, written)
        except (billing.InvalidAmount, billing.InvalidCurrency):
            continue
        assert 0 < money.minor <= MOST_MINOR
        assert money.currency in CURRENCIES
