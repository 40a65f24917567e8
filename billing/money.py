"""Amounts as whole minor units, and the currencies that this service will move."""

import re
import warnings
from dataclasses import dataclass

from billing.cards import is_card_number, may_hold_card_number
from billing.errors import InvalidAmount, InvalidCurrency, InvalidText, PossibleCardNumber
from billing.provider_ids import provider_id
from billing.provider_secrets import instead_of, secret_in

# Stripe's presentment currencies that this service accepts, by decimal places of the *API* amount.
# Source: docs.stripe.com/currencies (two-decimal, zero-decimal and special cases). Three-decimal
# currencies are left out on purpose: the public sources disagree on how they round.
_TWO_DECIMALS = frozenset(
    "AED ALL AMD ANG ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC "
    "CVE CZK DKK DOP DZD EGP ETB EUR FJD GBP GEL GIP GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES KGS "
    "KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR "
    "NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SLE SOS SRD SZL THB TJS TOP TRY TTD "
    "TWD TZS UAH UGX USD UYU UZS WST XCD YER ZAR ZMW".split()
)
_ZERO_DECIMALS = frozenset("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split())

# Zero-decimal by ISO 4217, but Stripe wants hundredths and the last two digits must be zero.
# Source: docs.stripe.com/currencies, "special cases".
_WHOLE_HUNDREDS = frozenset({"ISK", "UGX"})

EXPONENTS = dict.fromkeys(_TWO_DECIMALS, 2) | dict.fromkeys(_ZERO_DECIMALS, 0)

# "The amount value supports up to eight digits" (docs.stripe.com/api/payment_intents); twelve for IDR.
_MAX_MINOR = 99_999_999
_MAX_MINOR_BY_CURRENCY = {"IDR": 999_999_999_999}

# Printable ASCII, and no `@`: an e-mail address is not opaque.
_OPAQUE_ID = re.compile(r"[\x21-\x3f\x41-\x7e]+")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units: `Money(1999, "USD")` is $19.99, `Money(500, "JPY")` is ¥500.

    Raises InvalidAmount (not a plain int, not positive, above the currency's maximum, not whole
    where the currency demands it) and InvalidCurrency (not on the allow-list).
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        # bool is an int, and the provider's SDK sends floats and booleans as they come.
        if type(self.minor) is not int:
            raise InvalidAmount(f"an amount is a whole number of minor units, not {type(self.minor).__name__}")
        if self.currency not in EXPONENTS:
            raise InvalidCurrency("not a currency that this service moves; name one by its ISO code in capitals")
        if self.minor <= 0:
            raise InvalidAmount(f"an amount must be positive, not {self.minor}")
        most = _MAX_MINOR_BY_CURRENCY.get(self.currency, _MAX_MINOR)
        if self.minor > most:
            raise InvalidAmount(f"an amount in {self.currency} is at most {most} minor units, and this is above it")
        if self.currency in _WHOLE_HUNDREDS and self.minor % 100:
            raise InvalidAmount(f"{self.currency} amounts must be divisible by 100, {self.minor} is not")

    def __str__(self) -> str:
        places = EXPONENTS[self.currency]
        whole, part = divmod(self.minor, 10**places)
        return f"{whole}.{part:0{places}d} {self.currency}" if places else f"{whole} {self.currency}"


def no_money(minor: int, currency: str) -> str | None:
    """Why these two columns of a row are no `Money`; None where they are."""
    try:
        Money(minor, currency)
    except InvalidAmount as error:
        return f"amount: {error}"
    except InvalidCurrency as error:
        return f"currency: {error}"
    return None


def opaque_id(name: str, value: object, most: int = 255) -> str:
    """The value, if it is printable ASCII without spaces and `@`, of 1 to `most` characters; else InvalidText.

    255 because request and provider ids end up in idempotency keys, which Stripe caps there. No message of this page
    repeats the value: it may be what it must not be.
    """
    if not isinstance(value, str) or not value or len(value) > most or not _OPAQUE_ID.fullmatch(value):
        raise InvalidText(f"{name} must be 1 to {most} printable ASCII characters without spaces and @")
    return not_a_card(name, no_secret(name, value))


def check_request(request_id: object, correlation_id: object, account: object, actor: object) -> None:
    """What every request carries, checked before anything is written. Raises InvalidText."""
    opaque_id("request_id", request_id)
    plain_text("actor", actor, 255)
    if correlation_id is not None:
        opaque_id("correlation_id", correlation_id)
    if account is not None:
        provider_id("account", account)


def plain_text(name: str, value: object, most: int) -> str:
    """The value, if it is text of 1 to `most` characters without control characters; else InvalidText."""
    if not isinstance(value, str) or not value.strip() or len(value) > most or not value.isprintable():
        raise InvalidText(f"{name} must be 1 to {most} characters of plain text")
    return no_card(name, no_secret(name, value))


def not_a_card(name: str, value: str) -> str:
    """The id, if it is no card number; else InvalidText. Warns where it may be one: an order number may look the same,
    and refusing it would be a payment that a shop cannot take."""
    if is_card_number(value):
        raise InvalidText(
            f"{name} must not be a card number, and this is one that is published for tests or is grouped as cards "
            "are; ids are stored and logged, so use another one (an order number of this form is taken without its "
            "separators)"
        )
    if may_hold_card_number(value):
        warnings.warn(
            f"{name} may be a card number: it has the length, first digits and check digit of one. If it is one, use "
            "another id, because ids are stored and logged. If it is an order number, letters between its digits or "
            "another length end this warning",
            PossibleCardNumber,
            # Past this function, the one that checks an id, check_request and the function that was asked.
            stacklevel=5,
        )
    return value


def no_card(name: str, value: str) -> str:
    """The text, if no card number may stand in it; else InvalidText."""
    if may_hold_card_number(value):
        raise InvalidText(
            f"{name} must not hold a row of digits that may be a card number; leave it out, or, if it is another "
            "number, say which right before it, as in 'order 123'"
        )
    return value


def no_secret(name: str, value: str) -> str:
    """The value, if none of Stripe's secrets is in it; else InvalidText."""
    secret = secret_in(value)
    if secret is not None:
        raise InvalidText(f"{name} must not hold {secret}; {instead_of(secret)}")
    return value
