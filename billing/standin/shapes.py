"""How each object looks in an answer: a row in, JSON out, with the fields of the pinned API version.

What the stand-in does not model is constant and stands in a table above its object: null, empty or zero.
Invoices, the longest, have `invoice_shape` to themselves.
"""

from .invoice_shape import invoice
from .rows import Card, Charge, Customer, Event, Intent, Invoice, Json, PaymentMethod, Row
from .world import API_VERSION


def _null(*names: str) -> Json:
    return dict.fromkeys(names)


def any_row(row: Row) -> Json:
    """Any row, as the API shows it."""
    match row:
        case Intent():
            return intent(row)
        case Charge():
            return charge(row)
        case Invoice():
            return invoice(row)
        case Customer():
            return customer(row)
        case PaymentMethod():
            return payment_method(row)


def account(account_id: str) -> Json:
    return {
        "id": account_id,
        "object": "account",
        "business_type": "company",
        "charges_enabled": True,
        "country": "US",
        "created": 1_600_000_000,
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "metadata": {},
        "payouts_enabled": True,
        "type": "standard",
    }


_CUSTOMER = {
    **_null("currency", "default_source", "discount", "shipping", "test_clock"),
    "balance": 0,
    "delinquent": False,
    "invoice_settings": _null("custom_fields", "default_payment_method", "footer", "rendering_options"),
    "object": "customer",
    "preferred_locales": [],
    "tax_exempt": "none",
}
_ADDRESS = _null("city", "country", "line1", "line2", "postal_code", "state")


def customer(row: Customer) -> Json:
    return {
        **_CUSTOMER,
        "id": row.id,
        "address": {**_ADDRESS, **row.address} if row.address else None,
        "created": row.created,
        "description": row.description,
        "email": row.email,
        "invoice_prefix": row.invoice_prefix,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "name": row.name,
        "next_invoice_sequence": row.next_invoice_sequence,
        "phone": row.phone,
    }


_BILLING_DETAILS = _null("address", "email", "name", "phone", "tax_id")
_CARD = {
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "exp_month": 12,
    "exp_year": 2034,
    "regulated_status": "unregulated",
    "wallet": None,
}


def _card(card: Card) -> Json:
    """What a charge and a payment method both say of a card."""
    return {
        **_CARD,
        "brand": card.brand,
        "country": card.country,
        "fingerprint": f"standin{card.last4}{card.brand}",
        "funding": card.funding,
        "last4": card.last4,
    }


def payment_method(row: PaymentMethod) -> Json:
    return {
        "id": row.id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": _BILLING_DETAILS,
        "card": {
            **_card(row.card),
            "display_brand": row.card.brand,
            "generated_from": None,
            "networks": {"available": [row.card.brand], "preferred": None},
            "three_d_secure_usage": {"supported": True},
        },
        "created": row.created,
        "customer": row.customer,
        "livemode": row.livemode,
        "metadata": row.metadata,
        "type": "card",
    }


_INTENT = {
    **_null("application", "application_fee_amount", "next_action", "on_behalf_of", "processing", "review"),
    **_null("payment_method_configuration_details", "shipping", "source", "transfer_data", "transfer_group"),
    "amount_details": {"tip": {}},
    "object": "payment_intent",
    "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
    "payment_method_types": ["card"],
}


def intent(row: Intent) -> Json:
    return {
        **_INTENT,
        "id": row.id,
        "amount": row.amount,
        "amount_capturable": row.amount_capturable,
        "amount_received": row.amount_received,
        "automatic_payment_methods": row.automatic_payment_methods,
        "canceled_at": row.canceled_at,
        "cancellation_reason": row.cancellation_reason,
        "capture_method": row.capture_method,
        # Only its form matters here.
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
        "payment_method": row.payment_method,
        "receipt_email": row.receipt_email,
        "setup_future_usage": row.setup_future_usage,
        "statement_descriptor": row.statement_descriptor,
        "statement_descriptor_suffix": row.statement_descriptor_suffix,
        "status": row.status,
    }


_CHARGE = {
    **_null("application", "application_fee", "application_fee_amount", "failure_balance_transaction"),
    **_null("on_behalf_of", "receipt_number", "receipt_url", "review", "shipping", "source", "source_transfer"),
    **_null("statement_descriptor", "statement_descriptor_suffix", "transfer_data", "transfer_group"),
    "amount_refunded": 0,
    "billing_details": _BILLING_DETAILS,
    "disputed": False,
    "fraud_details": {},
    "object": "charge",
    "refunded": False,
}
_OUTCOME = {**_null("network_advice_code", "network_decline_code"), "risk_level": "normal", "risk_score": 11}
_APPROVED = {
    **_OUTCOME,
    **_null("advice_code", "reason"),
    "network_status": "approved_by_network",
    "seller_message": "Payment complete.",
    "type": "authorized",
}
# None of these is offered here: one capture per authorisation, never more than was authorised.
_CHARGED_CARD = {
    **_null("authorization_code", "installments", "mandate", "network_transaction_id", "three_d_secure"),
    "extended_authorization": {"status": "disabled"},
    "incremental_authorization": {"status": "unavailable"},
    "multicapture": {"status": "unavailable"},
    "network_token": {"used": False},
}


def charge(row: Charge) -> Json:
    declined = row.status == "failed"
    decline = row.card.decline if declined else None
    card = {
        **_card(row.card),
        **_CHARGED_CARD,
        "amount_authorized": None if declined else row.amount,
        "network": row.card.brand,
        "overcapture": {"maximum_amount_capturable": row.amount, "status": "unavailable"},
    }
    if row.capture_before is not None:
        card["capture_before"] = row.capture_before
    outcome = _APPROVED
    if decline is not None:
        outcome = {
            **_OUTCOME,
            "advice_code": decline.advice_code,
            "network_status": "declined_by_network",
            "reason": decline.decline_code or decline.code,
            "seller_message": "The bank declined the payment.",
            "type": "issuer_declined",
        }
    return {
        **_CHARGE,
        "id": row.id,
        "amount": row.amount,
        "amount_captured": row.amount_captured,
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
        "outcome": outcome,
        "paid": not declined,
        "payment_intent": row.intent,
        "payment_method": row.payment_method,
        "payment_method_details": {"type": "card", "card": card},
        "receipt_email": row.receipt_email,
        "status": row.status,
    }


def event(row: Event) -> Json:
    return {
        "id": row.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": row.created,
        "data": {"object": any_row(row.row)},
        "livemode": row.livemode,
        "pending_webhooks": 0,
        "request": {"id": row.request_id, "idempotency_key": row.key},
        "type": row.type,
    }
