"""Stripe's currencies: how many decimals an amount has, how large it may be, and what it must be divisible by.

Source: docs.stripe.com/currencies, as of 2026: presentment currencies, "zero-decimal currencies", "special cases" and
"maximum charge amounts". The five with three decimals are on its list for accounts in the United Arab Emirates; that
the last digit must be 0 is on the same page as of 2022, and no later text says otherwise. docs/currencies.md is made
from this table.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

MOST_MINOR = 999_999_999_999
"""Twelve digits, in every currency: what Stripe takes by most cards. By other ways to pay, and by some cards, less may
be allowed (eight to ten digits). This code does not know how a customer will pay, so Stripe decides that."""

_TWO_DECIMALS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE "
    "CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES KGS KHR KYD "
    "KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP "
    "PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH UGX USD UYU "
    "UZS WST XCD XCG YER ZAR ZMW"
).split()
_ZERO_DECIMALS = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()
_THREE_DECIMALS = "BHD JOD KWD OMR TND".split()
# They have no decimals any more, but Stripe still takes hundredths, whose last two digits must be zero.
_WHOLE_HUNDREDS = frozenset({"ISK", "UGX"})

# Codes that are not on Stripe's list, the code to use instead, and why.
_INSTEAD = {
    **dict.fromkeys(("BGN", "EEK", "HRK", "LTL", "LVL"), ("EUR", "it was replaced by the euro")),
    "BYR": ("BYN", "it was replaced"),
    "SLL": ("SLE", "it was replaced"),
    "ZMK": ("ZMW", "it was replaced"),
    "STN": ("STD", "Stripe knows it by its former code"),
    **dict.fromkeys(("CNH", "RMB", "YUAN"), ("CNY", "")),
    **dict.fromkeys(("€", "EURO", "EUROS"), ("EUR", "")),
    **dict.fromkeys(("$", "US$", "DOLLAR"), ("USD", "")),
    **dict.fromkeys(("£", "POUND", "UKP"), ("GBP", "")),
    **dict.fromkeys(("¥", "YEN"), ("JPY", "")),
    "NTD": ("TWD", ""),
}


@dataclass(frozen=True, slots=True)
class Currency:
    """`decimals` of an amount at Stripe's API, which for two currencies are not those of ISO 4217. An amount in minor
    units is from 1 to `most_minor`, and divisible by `step`."""

    code: str
    decimals: int
    step: int = 1
    most_minor: int = MOST_MINOR


CURRENCIES: Mapping[str, Currency] = {
    each.code: each
    for each in sorted(
        [
            *(Currency(code, 2, 100 if code in _WHOLE_HUNDREDS else 1) for code in _TWO_DECIMALS),
            *(Currency(code, 0) for code in _ZERO_DECIMALS),
            *(Currency(code, 3, 10) for code in _THREE_DECIMALS),
        ],
        key=lambda each: each.code,
    )
}
"""By its code in capitals."""


LEAST_CHARGE: Mapping[str, int] = {
    **dict.fromkeys(("USD", "AUD", "BRL", "CAD", "CHF", "EUR", "INR", "JPY", "NZD", "SGD"), 50),
    "GBP": 30,
    "DKK": 250,
    "NOK": 300,
    "SEK": 300,
    "HKD": 400,
    "MXN": 1_000,
    "THB": 1_000,
    "AED": 200,
    "MYR": 200,
    "PLN": 200,
    "RON": 200,
    "CZK": 1_500,
    "HUF": 17_500,
}
"""The smallest amount that Stripe charges, in minor units, where an account settles in this currency. In another one it
follows the rate, and is not known here. Source: docs.stripe.com/currencies, "minimum and maximum charge amounts"."""


def in_capitals(code: str) -> str:
    """As it is stored here: Stripe's API and SDK write currencies in lower case."""
    return code.upper() if code.isascii() else code


def suggestion(code: str) -> str:
    """The end of a sentence: which currency was probably meant by this unknown code. Empty if none is near."""
    wanted = code.strip().upper()
    if wanted in CURRENCIES:
        return f": write {wanted!r}"
    if wanted in _INSTEAD:
        meant, why = _INSTEAD[wanted]
        return f": use {meant!r}" + (f", {why}" if why else "")
    near = difflib.get_close_matches(wanted[:8], CURRENCIES, n=3, cutoff=0.6)
    return f": did you mean {' or '.join(map(repr, near))}?" if near else ""
