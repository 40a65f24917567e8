"""Stripe's test cards, and how long each one's authorisation lasts."""

from billing.standin.objects import Card, Decline

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


def _refused(last4: str, decline: Decline) -> Card:
    return Card("visa", last4, decline=decline, refuses_attach=True)


# By Stripe's shorthand. `pm_card_visa` and `tok_visa` name the same card.
CARDS = {
    "visa": Card("visa", "4242"),
    "visa_debit": Card("visa", "5556", "debit"),
    "mastercard": Card("mastercard", "4444"),
    "mastercard_debit": Card("mastercard", "8210", "debit"),
    "amex": Card("amex", "8431"),
    "discover": Card("discover", "9424"),
    "diners": Card("diners", "0004"),
    "jcb": Card("jcb", "0505", country="JP"),
    "unionpay": Card("unionpay", "0005", country="CN"),
    "jp": Card("visa", "0003", country="JP"),
    "chargeDeclined": _refused("0002", GENERIC),
    "visa_chargeDeclined": _refused("0002", GENERIC),
    "visa_chargeDeclinedInsufficientFunds": _refused("9995", INSUFFICIENT),
    "visa_chargeDeclinedLostCard": _refused("9987", LOST),
    "visa_chargeDeclinedStolenCard": _refused("9979", STOLEN),
    "chargeDeclinedExpiredCard": _refused("0069", EXPIRED),
    "chargeDeclinedIncorrectCvc": _refused("0127", WRONG_CVC),
    "chargeDeclinedProcessingError": _refused("0119", PROCESSING),
    # Can be attached to a customer; every charge is then declined.
    "chargeCustomerFail": Card("visa", "0341", decline=GENERIC),
    # A refund that is pending for a while, and one that fails after a while.
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

# Numbers published by Stripe for testing; no other number is known here.
NUMBERS = {
    "4242424242424242": "visa",
    "4000056655665556": "visa_debit",
    "5555555555554444": "mastercard",
    "5200828282828210": "mastercard_debit",
    "371449635398431": "amex",
    "6011000990139424": "discover",
    "3566002020360505": "jcb",
    "4000000000000002": "visa_chargeDeclined",
    "4000000000009995": "visa_chargeDeclinedInsufficientFunds",
    "4000000000009987": "visa_chargeDeclinedLostCard",
    "4000000000009979": "visa_chargeDeclinedStolenCard",
    "4000000000000069": "chargeDeclinedExpiredCard",
    "4000000000000127": "chargeDeclinedIncorrectCvc",
    "4000000000000119": "chargeDeclinedProcessingError",
    "4000000000000341": "chargeCustomerFail",
    "4000003920000003": "jp",
    "4000000000007726": "pendingRefund",
    "4000000000005126": "refundFail",
    "4000002760003184": "authenticationRequired",
    "4000002500003155": "authenticationRequiredOnSetup",
    "4000008260003178": "authenticationRequiredChargeDeclinedInsufficientFunds",
    "4000000000003220": "threeDSecure2Required",
    "4000000000003063": "threeDSecureRequired",
    "4000008400001629": "threeDSecureRequiredChargeDeclined",
}


def by_token(token: str) -> Card | None:
    """The card that `pm_card_visa` or `tok_visa` stands for, if it is one of Stripe's."""
    for prefix in ("pm_card_", "tok_"):
        if token.startswith(prefix):
            return CARDS.get(token.removeprefix(prefix))
    return None


def by_number(number: str) -> Card | None:
    return CARDS.get(NUMBERS.get(number.replace(" ", ""), ""))


def window(card: Card, currency: str, *, merchant_initiated: bool, extended: bool) -> int:
    """Seconds from authorisation to `capture_before`. In Japan is, decided here, whose card and currency are."""
    visa = card.brand == "visa"
    if currency == "jpy" and card.country == "JP" and card.brand != "amex":
        return WINDOW_JAPAN
    if extended:
        return WINDOW_VISA_EXTENDED if visa else WINDOW_EXTENDED
    if visa and merchant_initiated:
        return WINDOW_VISA_MERCHANT_INITIATED
    return WINDOW
