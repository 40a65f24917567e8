"""An amount in a file is read where it can mean one thing only; else the message says what to write."""

import pytest

from billing import Money
from billing.errors import InvalidAmount, InvalidCurrency, InvalidRequest
from jobs.bulk.amounts import FORMS, read_amount

READ = [
    ("1999", "USD", Money(1999, "USD")),
    ("1999", "usd", Money(1999, "USD")),
    (1999, "USD", Money(1999, "USD")),
    ("19.99 USD", None, Money(1999, "USD")),
    ("19.99 usd", "USD", Money(1999, "USD")),
    ("500 JPY", None, Money(500, "JPY")),
    ("5.120 KWD", None, Money(5120, "KWD")),
    ("9999999999.99 USD", None, Money(999_999_999_999, "USD")),
]


@pytest.mark.parametrize(("amount", "currency", "meant"), READ)
def test_two_forms_are_read(amount: object, currency: object, meant: Money):
    assert read_amount(amount, currency) == meant


REFUSED = [
    # What a spreadsheet makes of an amount, where one reading fits the currency.
    ("1.999,00", "EUR", "write 199900 (minor units), or '1999.00 EUR'"),
    ("1,999.00", "USD", "write 199900 (minor units), or '1999.00 USD'"),
    ("1 999,00", "EUR", "or '1999.00 EUR'"),
    ("1'999.00", "CHF", "or '1999.00 CHF'"),
    ("1.234.567", "EUR", "or '1234567.00 EUR'"),
    ("19.99", "USD", "write 1999 (minor units), or '19.99 USD'"),
    ("$19.99", "USD", "or '19.99 USD'"),
    ("19,99 €", "EUR", "or '19.99 EUR'"),
    (" 19.99 USD ", None, "has spaces around it; write '19.99 USD'"),
    ("1999 ", "USD", "has spaces around it; write '1999'"),
    # And where none does.
    ("1.999", "EUR", "'1.999' is 1999 in one country and not in another"),
    ("1,999", "USD", "'1,999' is 1999 in one country and not in another"),
    ("1.999", "KWD", "'1.999' is 1999 in one country and not in another"),
    ("19.99", None, FORMS),
    ("1999.00", "JPY", FORMS),
    ("1e3", "USD", "a spreadsheet's short form of a number, and may have lost digits"),
    ("1,5E+03", "USD", "may have lost digits"),
    # No amount at all.
    ("-5", "USD", "is negative"),
    ("-19,99", "EUR", "is negative"),
    ("=1+1", "USD", FORMS),
    ("abc", "USD", FORMS),
    ("٣", "USD", FORMS),
    (True, "USD", "is no number"),
    (None, "USD", "is no number"),
    # Half of one.
    ("19 USD", None, "needs all 2 decimals of USD; write 19.00 USD"),
    ("5.12 KWD", None, "needs all 3 decimals of KWD; write 19.000 KWD"),
    ("5.1 JPY", None, "has more decimals than JPY, which has 0; write 19 JPY"),
    ("19.99 USD", "EUR", "is in USD, and the column currency says EUR"),
    ("0", "USD", "must be positive"),
    ("9" * 17, "USD", "must be at most 999999999999 minor units"),
]


@pytest.mark.parametrize(("amount", "currency", "what_to_write"), REFUSED)
def test_everything_else_is_refused_and_the_message_says_what_to_write(
    amount: object, currency: object, what_to_write: str
):
    with pytest.raises(InvalidAmount) as refused:
        read_amount(amount, currency)
    assert refused.value.subject == "amount"
    assert what_to_write in refused.value.problem


def test_minor_units_need_a_currency_and_one_that_exists():
    with pytest.raises(InvalidCurrency, match="currency is missing"):
        read_amount("1999", None)
    with pytest.raises(InvalidCurrency, match="did you mean"):
        read_amount("1999", "USDD")


@pytest.mark.parametrize(
    "number", ["4242424242424242", "4242 4242 4242 4242", "4242.4242.4242.4242", "3782 822463 10005"]
)
def test_no_message_repeats_what_may_be_a_card_number(number: str):
    with pytest.raises(InvalidRequest) as refused:
        read_amount(number, "USD")
    assert "4242" not in str(refused.value)
    assert "822463" not in str(refused.value)


@pytest.mark.parametrize("text", ["1" * 1_000_000, "1,000" * 20_000, ". " * 50_000, "1." * 50_000, "e" * 100_000])
def test_a_hostile_cell_is_refused_at_once_and_in_a_short_message(text: str):
    with pytest.raises(InvalidRequest) as refused:
        read_amount(text, "USD")
    assert len(str(refused.value)) < 300
