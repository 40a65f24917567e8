"""Amounts as people write them into files: read where they can mean one thing only, else refused with what to write.

Two forms are read: whole minor units beside a currency (`1999` and `USD`), and the amount with all its decimals and its
currency in one cell (`19.99 USD`). Whatever a spreadsheet made of an amount is refused: what `1.999` was before depends
on the country, and `1e3` may have lost digits.
"""

import re

from billing import Money
from billing.currencies import CURRENCIES, MOST_MINOR, in_capitals
from billing.errors import InvalidAmount, InvalidCurrency
from billing.money import known_currency, shown

_MINOR = re.compile(r"[0-9]{1,18}", re.ASCII)
_WITH_CURRENCY = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,4}))? ([A-Za-z]{3})", re.ASCII)
# A number with some separators, and what people put around it.
_NUMBER = re.compile(r"[^0-9]{0,6}?(-?)([0-9][0-9.,'’   ]{0,28})[^0-9]{0,6}")
_EXPONENT = re.compile(r"[-+]?[0-9.,]{1,20}[eE][-+]?[0-9]{1,4}", re.ASCII)
_GROUPS = re.compile(r"[0-9]{1,3}([.,'’   ])[0-9]{3}(?:\1[0-9]{3})*", re.ASCII)

_DIGITS_MOST = 12

FORMS = "write whole minor units and the currency in its own column (1999 and USD), or 19.99 USD in this one"


def read_amount(amount: object, currency: object, name: str = "amount") -> Money:
    """An amount of a row, in the column `name`. Raises InvalidAmount and InvalidCurrency, which say what to write."""
    try:
        return _read(amount, currency)
    except InvalidAmount as error:
        raise InvalidAmount(name, error.problem) from None


def _read(amount: object, currency: object) -> Money:
    code = None if currency is None else known_currency("currency", currency)
    if isinstance(amount, int) and not isinstance(amount, bool):
        return Money(amount, _needed(code))
    if not isinstance(amount, str):
        raise InvalidAmount("amount", f"is no number; {FORMS}")
    if _MINOR.fullmatch(amount):
        return Money(int(amount), _needed(code))
    if (found := _WITH_CURRENCY.fullmatch(amount)) is not None:
        units, part, written = found.groups()
        own = known_currency("currency", in_capitals(written))
        if code not in (None, own):
            raise InvalidAmount("amount", f"is in {own}, and the column currency says {code}; one of them is wrong")
        places = CURRENCIES[own].decimals
        if len(part or "") == places:
            return Money(int(units + (part or "")), own)
        if len(part or "") > places:
            raise InvalidAmount("amount", f"has more decimals than {own}, which has {places}; {_example(own)}")
        raise InvalidAmount("amount", f"needs all {places} decimals of {own}; {_example(own)}")
    raise InvalidAmount("amount", _what_to_write(amount, code))


def _needed(code: str | None) -> str:
    if code is None:
        raise InvalidCurrency("currency", "is missing: whole minor units need the column currency, such as USD")
    return code


def _example(code: str) -> str:
    minor = 1900 if CURRENCIES[code].decimals else 19
    return f"write {shown(minor * 10 ** max(0, CURRENCIES[code].decimals - 2), code)}, or whole minor units"


def _what_to_write(text: str, code: str | None) -> str:
    """Why this text is no amount, with what was probably meant."""
    stripped = text.strip()
    if stripped != text and (_MINOR.fullmatch(stripped) or _WITH_CURRENCY.fullmatch(stripped)):
        return f"has spaces around it; write {stripped!r}"
    if _EXPONENT.fullmatch(stripped):
        return (
            f"{stripped!r} is a spreadsheet's short form of a number, and may have lost digits; format the column as "
            "text, and write all digits"
        )
    found = _NUMBER.fullmatch(stripped)
    # What is longer than any amount may be the number of a card, and is not repeated.
    if found is None or sum(map(str.isdigit, stripped)) >= _DIGITS_MOST:
        return f"is no amount; {FORMS}"
    minus, number = found.groups()
    if minus:
        return "is negative; an amount is what moves, and the kind of the request says where to"
    number = number.strip()
    meant = _minor_meant(number, code)
    if meant is not None and code is not None and 0 < meant <= MOST_MINOR:
        return (
            f"{number!r} is a spreadsheet's form; if it means {shown(meant, code)}, write {meant} (minor units), or "
            f"'{shown(meant, code)}'"
        )
    if re.fullmatch(r"[0-9]{1,3}[.,][0-9]{3}", number):
        return f"{number!r} is {number[:-4]}{number[-3:]} in one country and not in another; {FORMS}"
    return f"{number!r} is a spreadsheet's form; {FORMS}"


def _minor_meant(number: str, code: str | None) -> int | None:
    """The minor units, where only one reading fits the decimals of this currency."""
    places = CURRENCIES[code].decimals if code is not None else 2
    if places and re.fullmatch(rf".*[0-9][.,][0-9]{{{places}}}", number):
        whole, part = number[: -places - 1], number[-places:]
        mark = number[-places - 1]
        if whole.isdigit() and not (places == 3 and len(whole) <= 3):
            return int(whole + part)
        if _GROUPS.fullmatch(whole) and mark not in whole:
            return int(re.sub(r"[^0-9]", "", whole) + part)
        return None
    grouped = _GROUPS.fullmatch(number)
    # One group of three after one separator may be decimals.
    if grouped and (number.count(grouped[1]) > 1 or grouped[1] not in ".,"):
        return int(re.sub(r"[^0-9]", "", number) + places * "0")
    return None
