"""Stripe's ids: the shape of each kind, checked in arguments, in the database, and in every path.

An id is a part of a path, and anything else in its place would name another object or another action. So its shape is
checked three times: when a caller passes it, by a constraint of its column, and when a path is built from it.

Stripe gives its ids up to 255 characters and calls them opaque; it reserves the right to change their prefixes
(docs.stripe.com/upgrades). Here a prefix is required nevertheless. To pass `ch_…` for a payment intent, or a client
secret, which begins like its intent, is a common mistake; a changed prefix would cost one line of `_PREFIXES` and a
migration.
"""

import re
from enum import StrEnum
from urllib.parse import quote

from billing.cards import may_hold_card_number
from billing.errors import InvalidText
from billing.provider_secrets import instead_of, secret_in


class IdKind(StrEnum):
    """The kinds of ids that are passed, stored or asked for. The value is what an argument and a column are called."""

    PAYMENT_INTENT = "payment_intent"
    CUSTOMER = "customer"
    ACCOUNT = "account"
    INVOICE = "stripe_invoice"
    CHARGE = "charge"
    REFUND = "stripe_refund"
    PAYMENT_METHOD = "payment_method"
    CREDIT_NOTE = "stripe_credit_note"


_PREFIXES = {
    IdKind.PAYMENT_INTENT: "pi",
    IdKind.CUSTOMER: "cus",
    IdKind.ACCOUNT: "acct",
    IdKind.INVOICE: "in",
    # Read from Stripe's answers, and never sent. Any prefix is accepted (`ch_`, `py_`), because a new one must not stop
    # a capture from being stored.
    IdKind.CHARGE: "[a-z]{1,20}",
    # `re_`, and `pyr_` for a charge that is `py_`.
    IdKind.REFUND: "[a-z]{1,20}",
    IdKind.PAYMENT_METHOD: "pm",
    IdKind.CREDIT_NOTE: "cn",
}
SHAPES = {kind: rf"^(?=.{{1,255}}$)(?!.*_secret){prefix}_[A-Za-z0-9_]+$" for kind, prefix in _PREFIXES.items()}
"""Regular expressions that mean the same to Python and to Postgres. A client secret matches none of them."""

_COLLECTIONS = {
    IdKind.PAYMENT_INTENT: "payment_intents",
    IdKind.INVOICE: "invoices",
    IdKind.REFUND: "refunds",
    IdKind.CREDIT_NOTE: "credit_notes",
}
_COMPILED = {kind: re.compile(shape, re.ASCII) for kind, shape in SHAPES.items()}
# What callers pass by mistake, by its prefix.
_STRANGERS = {
    "acct": "an account",
    "ch": "a charge",
    "cn": "a credit note",
    "cs": "a checkout session",
    "cus": "a customer",
    "evt": "an event",
    "in": "an invoice",
    "pi": "a payment intent",
    "pm": "a payment method",
    "py": "a charge",
    "re": "a refund",
    "req": "a request",
    "seti": "a setup intent",
    "sub": "a subscription",
}
_WANTED = {
    IdKind.PAYMENT_INTENT: "a payment intent, pi_...",
    IdKind.CUSTOMER: "a customer, cus_...",
    IdKind.ACCOUNT: "an account, acct_...",
    IdKind.INVOICE: "an invoice, in_...",
    IdKind.CHARGE: "a charge, ch_...",
    IdKind.REFUND: "a refund, re_...",
    IdKind.PAYMENT_METHOD: "a payment method, pm_...",
    IdKind.CREDIT_NOTE: "a credit note, cn_...",
}


class NoSuchShape(ValueError):
    """A path was to be built from an id that does not have the shape of its kind. The message does not repeat it."""

    def __init__(self, kind: IdKind) -> None:
        super().__init__(f"{kind} does not hold the id of {_WANTED[kind]}")


def is_id(kind: IdKind, value: object) -> bool:
    """Whether this can be an id of this kind."""
    return isinstance(value, str) and _COMPILED[kind].fullmatch(value) is not None


def provider_id(name: str, value: object) -> str:
    """The value, if it can be the id that the argument of this name wants; else InvalidText, which says what it is
    instead, and never repeats it."""
    kind = IdKind(name)
    if not isinstance(value, str) or not is_id(kind, value) or secret_in(value) is not None:
        raise InvalidText(name, f"must be the id of {_WANTED[kind]}{_what_it_is(kind, value)}")
    # Stripe's ids have letters among their digits, so no true id is taken for a card number by chance.
    if may_hold_card_number(value):
        raise InvalidText(name, "must not hold a row of digits that is a card number; leave it out")
    return str.__str__(value)


def object_path(kind: IdKind, of: object, *rest: str) -> str:
    """`/v1/payment_intents/pi_1/capture`: every path with an id is built here. Raises NoSuchShape."""
    if not is_id(kind, of):
        raise NoSuchShape(kind)
    return "/".join(("/v1", _COLLECTIONS[kind], quote(str(of), safe=""), *rest))


def _what_it_is(wanted: IdKind, value: object) -> str:
    if not isinstance(value, str):
        return f", not {type(value).__name__}"
    if (secret := secret_in(value)) is not None:
        return f"; this is {secret}: {instead_of(secret)}"
    prefix, underscore, _ = value.partition("_")
    if underscore and prefix != _PREFIXES[wanted] and (stranger := _STRANGERS.get(prefix)) is not None:
        return f"; this begins like the id of {stranger}"
    return "; letters, digits and _ only, at most 255 characters"
