"""PaymentIntents and charges: what is stored of each, and how it is shown. Amounts are in minor units."""

from typing import NamedTuple

from .parts import Json, null
from .people import BILLING_DETAILS, Card, Decline, card_details

# The payment methods are those set in the Dashboard, unless the intent has others.
AUTOMATIC: Json = {"allow_redirects": "always", "enabled": True}


class Intent(NamedTuple):
    """A PaymentIntent. Amounts are in minor units."""

    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    status: str
    capture_method: str
    metadata: dict[str, str]
    customer: str | None = None
    payment_method: str | None = None
    amount_capturable: int = 0
    amount_received: int = 0
    latest_charge: str | None = None
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    last_payment_error: Json | None = None
    confirmation_method: str = "automatic"
    automatic_payment_methods: Json | None = None  # AUTOMATIC if the request had none
    next_action: Json | None = None
    card_options: Json | None = None  # the request's card options: several captures, a longer authorization
    description: str | None = None
    receipt_email: str | None = None
    setup_future_usage: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    shipping: Json | None = None
    transfer_group: str | None = None
    application_fee_amount: int | None = None
    transfer_data: Json | None = None  # the connected account that is paid, and how much of it
    invoice: str | None = None  # the invoice it pays; the API shows that by invoice payments only
    object: str = "payment_intent"


class Charge(NamedTuple):
    """The bank's answer. Amounts are in minor units; `captures` counts captures, `multicapture` allows several."""

    id: str
    created: int
    livemode: bool
    amount: int
    currency: str
    intent: str
    payment_method: str
    card: Card
    customer: str | None
    metadata: dict[str, str]
    status: str
    amount_captured: int = 0
    amount_refunded: int = 0
    captures: int = 0
    captured: bool = False
    multicapture: bool = False
    extended: bool = False
    authenticated: bool = False
    capture_before: int | None = None
    balance_transaction: str | None = None
    description: str | None = None
    receipt_email: str | None = None
    shipping: Json | None = None
    transfer_group: str | None = None
    object: str = "charge"


_INTENT = {
    **null("application", "on_behalf_of", "payment_method_configuration_details", "processing", "review", "source"),
    "amount_details": {"tip": {}},
    "object": "payment_intent",
    "payment_method_types": ["card"],
}
_CARD_OPTIONS = {**null("installments", "mandate_options", "network"), "request_three_d_secure": "automatic"}
_OPTIONS = {"card": _CARD_OPTIONS}


def intent(row: Intent) -> Json:
    return {
        **_INTENT,
        "id": row.id,
        "amount": row.amount,
        "amount_capturable": row.amount_capturable,
        "amount_received": row.amount_received,
        "application_fee_amount": row.application_fee_amount,
        "automatic_payment_methods": row.automatic_payment_methods,
        "canceled_at": row.canceled_at,
        "cancellation_reason": row.cancellation_reason,
        "capture_method": row.capture_method,
        # Only its format matters here.
        "client_secret": f"{row.id}_secret_{row.id[:2:-1]}",
        "confirmation_method": row.confirmation_method,
        "created": row.created,
        "currency": row.currency,
        "customer": row.customer,
        "description": row.description,
        "last_payment_error": row.last_payment_error,
        "latest_charge": row.latest_charge,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "next_action": row.next_action,
        "payment_method": row.payment_method,
        "payment_method_options": {"card": {**_CARD_OPTIONS, **row.card_options}} if row.card_options else _OPTIONS,
        "receipt_email": row.receipt_email,
        "setup_future_usage": row.setup_future_usage,
        "shipping": row.shipping,
        "statement_descriptor": row.statement_descriptor,
        "statement_descriptor_suffix": row.statement_descriptor_suffix,
        "status": row.status,
        "transfer_data": row.transfer_data,
        "transfer_group": row.transfer_group,
    }


_CHARGE = {
    **null("application", "application_fee", "application_fee_amount", "failure_balance_transaction"),
    **null("on_behalf_of", "receipt_number", "receipt_url", "review", "source", "source_transfer"),
    **null("statement_descriptor", "statement_descriptor_suffix", "transfer_data"),
    "billing_details": BILLING_DETAILS,
    "disputed": False,
    "fraud_details": {},
    "object": "charge",
}
_OUTCOME = {**null("network_advice_code", "network_decline_code"), "risk_level": "normal", "risk_score": 11}
_APPROVED = {
    **_OUTCOME,
    **null("advice_code", "reason"),
    "network_status": "approved_by_network",
    "seller_message": "Payment complete.",
    "type": "authorized",
}
# docs.stripe.com/radar/risk-evaluation: from 65 on it is elevated, from 75 on the highest.
_RISKS: Json = {
    "elevated": {"risk_level": "elevated", "risk_score": 65},
    "highest": {"risk_level": "highest", "risk_score": 75},
}
_BLOCKED = {
    **null("advice_code"),
    "network_status": "not_sent_to_network",
    "reason": "highest_risk_level",
    "seller_message": "Stripe blocked this payment as too risky.",
    "type": "blocked",
}
_CHARGED_CARD = {
    **null("authorization_code", "installments", "mandate", "network_transaction_id"),
    "incremental_authorization": {"status": "unavailable"},
    "network_token": {"used": False},
}
_EXTENDED = {True: {"status": "enabled"}, False: {"status": "disabled"}}
_MULTICAPTURE = {True: {"status": "available"}, False: {"status": "unavailable"}}
_AUTHENTICATED = {
    **null("exemption_indicator", "result_reason"),
    "authentication_flow": "challenge",
    "electronic_commerce_indicator": "05",
    "result": "authenticated",
    "version": "2.2.0",
}


def charge(row: Charge) -> Json:
    declined = row.status == "failed"
    decline = row.card.decline if declined else None
    card = {
        **card_details(row.card),
        **_CHARGED_CARD,
        "amount_authorized": None if declined else row.amount,
        "extended_authorization": _EXTENDED[row.extended],
        "multicapture": _MULTICAPTURE[row.multicapture],
        "network": row.card.brand,
        "overcapture": {"maximum_amount_capturable": row.amount, "status": "unavailable"},
        "three_d_secure": {**_AUTHENTICATED, "transaction_id": row.id} if row.authenticated else None,
    }
    if row.capture_before is not None:
        card["capture_before"] = row.capture_before
    return {
        **_CHARGE,
        "id": row.id,
        "amount": row.amount,
        "amount_captured": row.amount_captured,
        "amount_refunded": row.amount_refunded,
        "balance_transaction": row.balance_transaction,
        "calculated_statement_descriptor": None if declined else "STANDIN",
        "captured": row.captured,
        "created": row.created,
        "currency": row.currency,
        "customer": row.customer,
        "description": row.description,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "outcome": _outcome(row.card, decline),
        "paid": not declined,
        "payment_intent": row.intent,
        "payment_method": row.payment_method,
        "payment_method_details": {"type": "card", "card": card},
        "receipt_email": row.receipt_email,
        # Not before the last capture, even if all earlier ones are refunded (docs: multicapture).
        "refunded": row.captured and row.amount_refunded == row.amount_captured,
        "shipping": row.shipping,
        "status": row.status,
        "transfer_group": row.transfer_group,
    }


def _outcome(card: Card, decline: Decline | None) -> Json:
    if card.risk == "normal" and decline is None:
        return _APPROVED
    risk = _RISKS.get(card.risk, {})
    if decline is None:
        return {**_APPROVED, **risk}
    if card.risk == "highest":
        return {**_OUTCOME, **_BLOCKED, **risk}
    return {
        **_OUTCOME,
        "advice_code": decline.advice_code,
        "network_status": "declined_by_network",
        "reason": decline.decline_code or decline.code,
        "seller_message": "The bank declined the payment.",
        "type": "issuer_declined",
    }
