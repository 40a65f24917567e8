"""Refusals, with Stripe's texts and shapes. Match on the code and the attached object: texts change over the years.

    StripeError          an answer other than 2xx; `begun` says whether the API method had begun
      (begun)            saved under the idempotency key and replayed: declines, wrong state, amount too large
      (not begun)        never saved: validation, access, rate limits, a key in use
Sources: docs.stripe.com/error-codes and /api/errors; recorded replies where there are any.
"""

from typing import Any

from .objects import Decline

DOC = "https://docs.stripe.com/error-codes/"
# Added to refusals that look like the caller's mistake and may be a gap in the stand-in, so that one can tell.
NOT_HERE = ((b"x-standin-note", b"not modeled or mistyped; the README lists what is"),)


class StripeError(Exception):
    """An answer other than 2xx. `attached` holds whole objects inside the error, such as `payment_intent`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        begun: bool = False,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        **attached: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.begun = begun
        self.headers = headers
        error: dict[str, Any] = {"message": message, "type": kind}
        if code is not None:
            error["code"] = code
            error["doc_url"] = DOC + code.replace("_", "-")
        if param is not None:
            error["param"] = param
        error.update(attached)
        self.body = {"error": error}


# Access: the request has not been read yet.


def no_api_key() -> StripeError:
    return StripeError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, using "
        "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
    )


def invalid_api_key(api_key: str) -> StripeError:
    return StripeError(401, f"Invalid API Key provided: {masked(api_key)}")


def expired_api_key(api_key: str) -> StripeError:
    return StripeError(401, f"Expired API Key provided: {masked(api_key)}", code="api_key_expired")


def not_permitted(api_key: str, account: str, lacking: str | None = None) -> StripeError:
    """`lacking` is the missing permission, such as `charges read`."""
    message = (
        f"The provided key '{masked(api_key)}' does not have the required permissions for this endpoint on "
        f"account '{account}'."
    )
    if lacking:
        message += f" Having the '{lacking}' permission would allow this request to continue."
    return StripeError(403, message)


def no_access(api_key: str, account: str) -> StripeError:
    """For a wrong `Stripe-Account` (docs.stripe.com/error-codes; the text as applications have logged it)."""
    return StripeError(
        403,
        f"The provided key '{masked(api_key)}' does not have access to account '{account}' (or that account does not "
        "exist). Application access may have been revoked.",
        code="account_invalid",
    )


def rate_limited(reason: str) -> StripeError:
    return StripeError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://docs.stripe.com/rate-limits.",
        code="rate_limit",
        headers=((b"stripe-rate-limited-reason", reason.encode()),),
    )


def unknown_route(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://docs.stripe.com or we can help at "
        "https://support.stripe.com/.",
        headers=NOT_HERE,
    )


def masked(api_key: str) -> str:
    """A key as it may be shown: its prefix and last four characters."""
    prefix = "_".join(api_key.split("_")[:2])
    return f"{prefix}_{'*' * 8}{api_key[-4:]}" if len(api_key) > len(prefix) + 5 else "*" * len(api_key)


# The form and its parameters: a validation error is never saved under a key.


def bad_request(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    return StripeError(400, message, code=code, param=param)


def unknown_parameter(name: str) -> StripeError:
    message = f"Received unknown parameter: {name}"
    return StripeError(400, message, code="parameter_unknown", param=name, headers=NOT_HERE)


def invalid_version(version: str) -> StripeError:
    """The text is quoted in stripe/stripe-java#682."""
    return bad_request(f"Invalid Stripe API version: {version}")


def amount_below_one() -> StripeError:
    """Stripe names the parameter `amount`, whatever its real name (recorded)."""
    return bad_request("This value must be greater than or equal to 1.", "amount", "parameter_invalid_integer")


def missing_parameter(name: str) -> StripeError:
    return bad_request(f"Missing required param: {name}.", name, "parameter_missing")


def unreadable_query() -> StripeError:
    return bad_request(
        'We were unable to parse your search query. Try using the format `metadata["key"]:"value"` to query for '
        'metadata or key:"value" to query for other fields.',
        "query",
    )


def unsearchable_field(name: str, things: str) -> StripeError:
    """`things` names what is searched, such as payment_intents."""
    return bad_request(
        f"Field `{name}` is an unsupported search field for resource `{things}`. See "
        f"http://stripe.com/docs/search#query-fields-for-{things.replace('_', '-')} for a list of supported fields.",
        "query",
    )


# The idempotency key.


def key_reused(key: str) -> StripeError:
    return StripeError(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def key_in_use(key: str) -> StripeError:
    return StripeError(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        f"submitted twice, and the other request is still going through): {key}. Please try again later.",
        code="idempotency_key_in_use",
    )


def key_too_long(length: int) -> StripeError:
    return bad_request(f"Idempotency keys may be at most 255 characters long; yours has {length}.")


# State: the method has begun, so these are saved and replayed.


def no_such(noun: str, named: str, param: str, *, status: int = 404, other_mode: str | None = None) -> StripeError:
    """`other_mode` is "test" or "live" if the object exists in that mode."""
    message = f"No such {noun}: '{named}'"
    if other_mode:
        ours = "live" if other_mode == "test" else "test"
        message += (
            f"; a similar object exists in {other_mode} mode, but a {ours} mode key was used to make this request."
        )
    return StripeError(status, message, code="resource_missing", param=param, begun=True)


def tax_location_invalid() -> StripeError:
    """Source: docs.stripe.com/error-codes, and docs.stripe.com/tax/customer-locations."""
    return wrong_state(
        "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate "
        "tax.",
        code="customer_tax_location_invalid",
    )


def wrong_state(message: str, **attached: Any) -> StripeError:
    return StripeError(400, message, begun=True, **attached)


def unexpected_state(message: str, payment_intent: Any, *, param: str | None = None) -> StripeError:
    return StripeError(
        400,
        message,
        code="payment_intent_unexpected_state",
        param=param,
        begun=True,
        payment_intent=payment_intent,
    )


def amount_too_large(payment_intent: Any) -> StripeError:
    return StripeError(
        400,
        "The payment could not be captured because the requested capture amount is greater than the amount you "
        "can capture for this charge.",
        code="amount_too_large",
        param="amount_to_capture",
        begun=True,
        payment_intent=payment_intent,
    )


def charge_expired(charge_id: str, payment_intent: Any) -> StripeError:
    return StripeError(
        400,
        f"Charge {charge_id} cannot be captured because the charge has expired.",
        code="charge_expired_for_capture",
        begun=True,
        payment_intent=payment_intent,
    )


def already_refunded(charge_id: str) -> StripeError:
    return StripeError(
        400, f"Charge {charge_id} has already been refunded.", code="charge_already_refunded", begun=True
    )


def refund_too_large(amount: int, left: int, currency: str) -> StripeError:
    return wrong_state(
        f"Refund amount ({money(amount, currency)}) is greater than unrefunded amount on charge "
        f"({money(left, currency)})",
        param="amount",
    )


def no_charge_to_refund(intent_id: str) -> StripeError:
    return wrong_state(f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.")


def authentication_failed(payment_method: Any) -> StripeError:
    """Never an answer itself: a PaymentIntent then has it as its last error."""
    return StripeError(
        400,
        "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
        "PaymentMethod to attempt to fulfill this PaymentIntent again.",
        code="payment_intent_authentication_failure",
        payment_method=payment_method,
    )


def money(amount: int, currency: str) -> str:
    """An amount as Stripe's messages show it: $40.00, ¥500; other currencies by their code."""
    if currency == "jpy":
        return f"¥{amount}"
    sign = {"usd": "$", "eur": "€", "gbp": "£"}.get(currency, f"{currency.upper()} ")
    return f"{sign}{amount // 100}.{amount % 100:02}"


def card_declined(decline: Decline, **attached: Any) -> StripeError:
    """A decline by the bank. The rows that it left are attached; the answer is saved like any other."""
    if decline.decline_code is not None:
        attached["decline_code"] = decline.decline_code
    return StripeError(
        402,
        decline.message,
        kind="card_error",
        code=decline.code,
        begun=True,
        advice_code=decline.advice_code,
        **attached,
    )


def invoice_requires_action(payment_intent: Any) -> StripeError:
    return StripeError(
        402,
        "Payment for this invoice requires additional user action before it can be completed successfully. Payment "
        "can be completed using the PaymentIntent associated with the invoice.",
        kind="card_error",
        code="invoice_payment_intent_requires_action",
        begun=True,
        payment_intent=payment_intent,
    )


# Errors that only a fault causes.


def server_error() -> StripeError:
    return StripeError(500, "An unknown error occurred.", kind="api_error", begun=True)


def lock_timeout() -> StripeError:
    return StripeError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request.",
        code="lock_timeout",
        begun=True,
    )


def dependency_failed() -> StripeError:
    return StripeError(424, "An external dependency failed.", kind="api_error", begun=True)
