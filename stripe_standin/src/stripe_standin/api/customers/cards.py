"""Stripe's test cards, and how long each one's authorization lasts."""

import re

from stripe_standin.objects import Card, Decline

DAY = 86_400

# Card not present (docs.stripe.com, place a hold on a payment method; extended authorization). Clients must read
# `capture_before`: Stripe changes these without notice.
WINDOW = 7 * DAY
WINDOW_VISA_MERCHANT_INITIATED = 4 * DAY + 18 * 3600
WINDOW_EXTENDED = 30 * DAY
WINDOW_VISA_EXTENDED = 29 * DAY + 18 * 3600
WINDOW_JAPAN = 30 * DAY


def _decline(decline_code: str, message: str, advice: str = "try_again_later") -> Decline:
    return Decline("card_declined", decline_code, message, advice)


GENERIC = _decline("generic_decline", "Your card was declined.")
INSUFFICIENT = _decline("insufficient_funds", "Your card has insufficient funds.")
LOST = _decline("lost_card", "Your card was declined.", "do_not_try_again")
STOLEN = _decline("stolen_card", "Your card was declined.", "do_not_try_again")
TOO_OFTEN = _decline(
    "card_velocity_exceeded",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
)
BLOCKED = _decline("fraudulent", "Your card was declined.", "do_not_try_again")
WRONG_NUMBER = Decline("incorrect_number", None, "Your card number is incorrect.", "confirm_card_data")
EXPIRED = Decline("expired_card", None, "Your card has expired.", "do_not_try_again")
WRONG_CVC = Decline("incorrect_cvc", None, "Your card's security code is incorrect.", "confirm_card_data")
TEST_CARD_IN_LIVE_MODE = _decline(
    "live_mode_test_card",
    "Your card was declined. Your request was in live mode, but used a known test card.",
    "do_not_try_again",
)
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "confirm_card_data",
)
AUTHENTICATION_NOT_HANDLED = _decline("authentication_not_handled", "Your card was declined.", "confirm_card_data")
PROCESSING = Decline(
    "processing_error",
    None,
    "An error occurred while processing your card. Try again in a little bit.",
    "try_again_later",
)


def _refused(last4: str, decline: Decline, risk: str = "normal") -> Card:
    return Card("visa", last4, decline=decline, refuses_attach=True, risk=risk)


# By Stripe's shorthand (docs.stripe.com/testing). `pm_card_visa` and `tok_visa` name the same card.
CARDS = {
    "visa": Card("visa", "4242"),
    "visa_debit": Card("visa", "5556", "debit"),
    "mastercard": Card("mastercard", "4444"),
    "mastercard_debit": Card("mastercard", "8210", "debit"),
    "mastercard_prepaid": Card("mastercard", "5100", "prepaid"),
    "amex": Card("amex", "0005"),
    "discover": Card("discover", "1117"),
    "diners": Card("diners", "0004"),
    "jcb": Card("jcb", "0505", country="JP"),
    "unionpay": Card("unionpay", "0005", country="CN"),
    "us": Card("visa", "4242"),
    "gb_debit": Card("visa", "0005", "debit", country="GB"),
    "chargeDeclined": _refused("0002", GENERIC),
    "visa_chargeDeclined": _refused("0002", GENERIC),
    "visa_chargeDeclinedInsufficientFunds": _refused("9995", INSUFFICIENT),
    "visa_chargeDeclinedLostCard": _refused("9987", LOST),
    "visa_chargeDeclinedStolenCard": _refused("9979", STOLEN),
    "visa_chargeDeclinedVelocityLimitExceeded": _refused("6975", TOO_OFTEN),
    "chargeDeclinedExpiredCard": _refused("0069", EXPIRED),
    "chargeDeclinedIncorrectCvc": _refused("0127", WRONG_CVC),
    "chargeDeclinedProcessingError": _refused("0119", PROCESSING),
    # Stripe itself blocks it; the bank is not asked.
    "chargeDeclinedFraudulent": _refused("0019", BLOCKED, risk="highest"),
    "riskLevelElevated": Card("visa", "9235", risk="elevated"),
    # Can be attached to a customer; every charge is then declined.
    "chargeCustomerFail": Card("visa", "0341", decline=GENERIC),
    # Cards whose refund is pending for a while, or fails after a while.
    "pendingRefund": Card("visa", "7726", refunds="later"),
    "refundFail": Card("visa", "5126", refunds="never"),
    # Always authenticated. There are no SetupIntents here, so 3155 cannot be set up beforehand.
    "authenticationRequired": Card("visa", "3184", authenticates=True),
    "authenticationRequiredOnSetup": Card("visa", "3155", authenticates=True),
    "authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        "visa", "3178", decline=INSUFFICIENT, authenticates=True
    ),
    "threeDSecure2Required": Card("visa", "3220", authenticates=True),
    "threeDSecureRequired": Card("visa", "3063", authenticates=True),
    "threeDSecureRequiredChargeDeclined": Card("visa", "1629", decline=GENERIC, authenticates=True),
}

# Visa cards of other countries, by their token (pm_card_de) and number.
_ABROAD = (
    "ae:4000007840000001 ar:4000000320000021 at:4000000400000008 au:4000000360000006 be:4000000560000004 "
    "bg:4000001000000000 br:4000000760000002 by:4000001120000005 ca:4000001240000000 ch:4000007560000009 "
    "cl:4000001520000001 cn:4000001560000002 co:4000001700000003 cr:4000001880000005 cy:4000001960000008 "
    "cz:4000002030000002 de:4000002760000016 dk:4000002080000001 ec:4000002180000000 ee:4000002330000009 "
    "es:4000007240000007 fi:4000002460000001 fr:4000002500000003 gb:4000008260000000 gi:4000002920000005 "
    "gr:4000003000000030 hk:4000003440000004 hr:4000001910000009 hu:4000003480000005 ie:4000003720000005 "
    "in:4000003560000008 it:4000003800000008 jp:4000003920000003 li:4000004380000004 lt:4000004400000000 "
    "lu:4000004420000006 lv:4000004280000005 mt:4000004700000007 mx:4000004840008001 my:4000004580000002 "
    "nl:4000005280000002 no:4000005780000007 nz:4000005540000008 pa:4000005910000000 pe:4000006040000068 "
    "pl:4000006160000005 pt:4000006200000007 py:4000006000000066 ro:4000006420000001 sa:4000006820000007 "
    "se:4000007520000008 sg:4000007020000003 si:4000007050000006 sk:4000007030000001 tw:4000001580000008 "
    "uy:4000008580000003"
)
ABROAD = {each[:2]: each[3:] for each in _ABROAD.split()}
CARDS |= {name: Card("visa", number[-4:], country=name.upper()) for name, number in ABROAD.items()}

# Numbers published by Stripe for testing; no other number is known here.
NUMBERS = {
    "4242424242424242": CARDS["visa"],
    "4000056655665556": CARDS["visa_debit"],
    "5555555555554444": CARDS["mastercard"],
    "2223003122003222": Card("mastercard", "3222"),
    "5200828282828210": CARDS["mastercard_debit"],
    "5105105105105100": CARDS["mastercard_prepaid"],
    "378282246310005": CARDS["amex"],
    "371449635398431": Card("amex", "8431"),
    "6011111111111117": CARDS["discover"],
    "6011000990139424": Card("discover", "9424"),
    "3056930009020004": CARDS["diners"],
    "36227206271667": Card("diners", "1667"),
    "3566002020360505": CARDS["jcb"],
    "6200000000000005": CARDS["unionpay"],
    "4000058260000005": CARDS["gb_debit"],
    "4000000000000002": CARDS["visa_chargeDeclined"],
    "4000000000009995": CARDS["visa_chargeDeclinedInsufficientFunds"],
    "4000000000009987": CARDS["visa_chargeDeclinedLostCard"],
    "4000000000009979": CARDS["visa_chargeDeclinedStolenCard"],
    "4000000000006975": CARDS["visa_chargeDeclinedVelocityLimitExceeded"],
    "4000000000000069": CARDS["chargeDeclinedExpiredCard"],
    "4000000000000127": CARDS["chargeDeclinedIncorrectCvc"],
    "4000000000000119": CARDS["chargeDeclinedProcessingError"],
    "4100000000000019": CARDS["chargeDeclinedFraudulent"],
    "4000000000009235": CARDS["riskLevelElevated"],
    "4000000000000341": CARDS["chargeCustomerFail"],
    "4000000000007726": CARDS["pendingRefund"],
    "4000000000005126": CARDS["refundFail"],
    "4000002760003184": CARDS["authenticationRequired"],
    "4000002500003155": CARDS["authenticationRequiredOnSetup"],
    "4000008260003178": CARDS["authenticationRequiredChargeDeclinedInsufficientFunds"],
    "4000000000003220": CARDS["threeDSecure2Required"],
    "4000000000003063": CARDS["threeDSecureRequired"],
    "4000008400001629": CARDS["threeDSecureRequiredChargeDeclined"],
    **{number: CARDS[name] for name, number in ABROAD.items()},
}


def by_token(token: str) -> Card | None:
    """The test card that a name such as `pm_card_visa` or `tok_visa` means; None if there is none."""
    for prefix in ("pm_card_", "tok_"):
        if token.startswith(prefix):
            return CARDS.get(token.removeprefix(prefix))
    return None


def by_number(number: str) -> Card | None:
    return NUMBERS.get(number.replace(" ", ""))


def mistyped(number: str) -> bool:
    """Whether it cannot be a card number: its check digit is wrong (Luhn)."""
    digits = number.replace(" ", "")
    if not re.fullmatch("[0-9]{12,19}", digits):
        return True
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(each // 10 + each % 10 for each in doubled) % 10 != 0


def window(card: Card, currency: str, *, merchant_initiated: bool, extended: bool) -> int:
    """Seconds from authorization to `capture_before`.

    Decided here: a Japanese card that pays in JPY counts as in Japan.
    """
    visa = card.brand == "visa"
    if currency == "jpy" and card.country == "JP" and card.brand != "amex":
        return WINDOW_JAPAN
    if extended:
        return WINDOW_VISA_EXTENDED if visa else WINDOW_EXTENDED
    if visa and merchant_initiated:
        return WINDOW_VISA_MERCHANT_INITIATED
    return WINDOW
