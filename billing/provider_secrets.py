"""Stripe's secrets, so that none is stored: a text with one is refused by the secret's kind, or left out.

A stored secret would be in every backup, and an archived one would stay until its lock ends.
"""

import re

# Only what Stripe documents, and long enough to be usable: a shop's own ids (`order_secret_santa`, `sk_42` for
# Slovakia) are no secrets. Each names what to do instead.
# Sources: docs.stripe.com/keys, /webhooks/signature, /terminal/features/connecting, /connect/oauth-reference, and the
# `client_secret` of each object in docs.stripe.com/api.
_API_KEY = "API keys belong in the settings of the service, by reference"
_CLIENT_SECRET = "pass the id, which ends before `_secret_`"  # noqa: S105
_LEAVE_OUT = "leave it out"
_MIXED = r"(?=[0-9A-Za-z]*[A-Z])(?=[0-9A-Za-z]*[a-z])(?=[0-9A-Za-z]*\d)[0-9A-Za-z]{32,}"
"""Base62 of an OAuth answer. A shop's own `rt_…` is a counter, a UUID, or shorter."""

KINDS: dict[str, tuple[str, str]] = {
    "a client secret": (
        # By the object's kind; or after any id as long as Stripe's, for a kind that is new.
        r"(?:(?:pi|seti|cs|src|vs|accs|cuss|fcsess|cos)_(?:[0-9A-Za-z]+_)*?|[a-z]{2,20}_[0-9A-Za-z]{14,}_)"
        r"(?:client_)?secret_[0-9A-Za-z_]{8,}",
        _CLIENT_SECRET,
    ),
    "a secret API key": (r"sk_(?:live|test|org)_[0-9A-Za-z_]{8,}", _API_KEY),
    "a restricted API key": (r"rk_(?:live|test|org)_[0-9A-Za-z_]{8,}", _API_KEY),
    "a publishable API key": (r"pk_(?:live|test)_[0-9A-Za-z_]{8,}", _LEAVE_OUT),
    "a key of Stripe's dashboard": (r"uk_(?:live|test)_[0-9A-Za-z_]{8,}", _LEAVE_OUT),
    "an ephemeral key": (r"ek_(?:live|test)_[0-9A-Za-z_]{8,}", _LEAVE_OUT),
    "a webhook signing secret": (r"whsec_[0-9A-Za-z+/_-]{16,}", _LEAVE_OUT),
    "a Terminal connection token": (r"pst_(?:live|test)_[0-9A-Za-z_]{8,}", _LEAVE_OUT),
    "an OAuth code": (rf"ac_{_MIXED}", _LEAVE_OUT),
    "an OAuth refresh token": (rf"rt_{_MIXED}", _LEAVE_OUT),
}
"""What it is called -> (its shape, what to do instead)."""

_SHAPES = {name: re.compile(rf"(?<![0-9A-Za-z]){shape}", re.ASCII) for name, (shape, _) in KINDS.items()}

_MARKS = ("secret_", "_live_", "_test_", "_org_", "whsec_", "ac_", "rt_")
"""Every secret contains one of them."""


def secret_in(text: str) -> str | None:
    """The kind of Stripe secret that this text holds, by its name in `KINDS`; None if it holds none."""
    # A loop, because it decides nearly always and is faster than `any`: every id of every answer is checked here.
    for mark in _MARKS:
        if mark in text:
            return next((name for name, shape in _SHAPES.items() if shape.search(text)), None)
    return None


def without_secrets(text: str) -> str:
    """The text with the name of each secret in its place: for messages that quote what a person typed."""
    for name, shape in _SHAPES.items():
        text = shape.sub(f"[{name}]", text)
    return text


def instead_of(name: str) -> str:
    """What to do instead of passing this kind of secret."""
    return KINDS[name][1]
