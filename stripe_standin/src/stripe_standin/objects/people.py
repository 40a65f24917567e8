"""Customers, their payment methods, and the account itself: what is stored of each, and how it is shown."""

from collections.abc import Sequence
from typing import NamedTuple

from .parts import Json, null


class Decline(NamedTuple):
    """How the bank declines."""

    code: str
    decline_code: str | None
    message: str
    advice_code: str | None


class Card(NamedTuple):
    """One of Stripe's test cards."""

    brand: str
    last4: str
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    refuses_attach: bool = False  # most declining cards cannot be attached to a customer
    authenticates: bool = False  # the bank asks for 3-D Secure before it decides
    risk: str = "normal"  # or `elevated`, or `highest`, which Stripe blocks
    refunds: str = "at_once"  # or `later` (pending first), or `never` (failed after a while)


class Customer(NamedTuple):
    id: str
    created: int
    livemode: bool
    email: str | None
    name: str | None
    phone: str | None
    description: str | None
    address: Json | None
    metadata: dict[str, str]
    invoice_prefix: str
    next_invoice_sequence: int = 1
    balance: int = 0  # below zero: a credit, in minor units of `currency`
    currency: str | None = None
    default_payment_method: str | None = None  # for invoices
    shipping: Json | None = None
    tax_exempt: str = "none"
    preferred_locales: Sequence[str] = ()
    object: str = "customer"


class PaymentMethod(NamedTuple):
    id: str
    created: int
    livemode: bool
    card: Card
    customer: str | None
    metadata: dict[str, str]
    used_up: bool = False  # it paid without a customer, or was detached from one
    object: str = "payment_method"


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
    **null("default_source", "discount", "test_clock"),
    "delinquent": False,
    "object": "customer",
}
_INVOICE_SETTINGS = null("custom_fields", "footer", "rendering_options")


def customer(row: Customer) -> Json:
    return {
        **_CUSTOMER,
        "id": row.id,
        "address": row.address,
        "balance": row.balance,
        "created": row.created,
        "currency": row.currency,
        "description": row.description,
        "email": row.email,
        "invoice_prefix": row.invoice_prefix,
        "invoice_settings": {**_INVOICE_SETTINGS, "default_payment_method": row.default_payment_method},
        "livemode": row.livemode,
        "metadata": row.metadata,
        "name": row.name,
        "next_invoice_sequence": row.next_invoice_sequence,
        "phone": row.phone,
        "preferred_locales": row.preferred_locales,
        "shipping": row.shipping,
        "tax_exempt": row.tax_exempt,
    }


BILLING_DETAILS = null("address", "email", "name", "phone", "tax_id")
_CARD = {
    "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
    "exp_month": 12,
    "exp_year": 2034,
    "regulated_status": "unregulated",
    "wallet": None,
}


def card_details(card: Card) -> Json:
    """The fields of a card that a charge and a payment method share."""
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
        "billing_details": BILLING_DETAILS,
        "card": {
            **card_details(row.card),
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
