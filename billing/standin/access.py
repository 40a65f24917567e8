"""API keys, accounts and modes: who asks, and how often they may."""

import binascii
import re
import time
from base64 import b64decode
from typing import NamedTuple

from . import errors
from .world import Settings

_WELL_FORMED = re.compile(r"(?:sk|rk)_(test|live)_[A-Za-z0-9_]{1,240}")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,60}")


class Caller(NamedTuple):
    api_key: str
    account: str
    livemode: bool


class Access:
    """Which API keys are accepted. By default every well-formed one, and all belong to one account."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._buckets: dict[tuple[str, bool], tuple[float, float]] = {}
        self.reset()

    def reset(self) -> None:
        self.accepted: set[str] | None = set(self._settings.api_keys) or None
        self.expired: set[str] = set()
        self.accounts: dict[str, str] = {}
        self._buckets.clear()

    def caller(self, authorization: bytes | None, stripe_account: bytes | None) -> Caller:
        """Whoever sent these headers. Raises a 401, or a 403 for an account that cannot be."""
        api_key = _api_key(authorization)
        form = _WELL_FORMED.fullmatch(api_key)
        if api_key in self.expired:
            raise errors.expired_api_key(api_key)
        if form is None or (self.accepted is not None and api_key not in self.accepted):
            raise errors.invalid_api_key(api_key)
        account = self.accounts.get(api_key, self._settings.account)
        if stripe_account is not None:
            account = stripe_account.decode("latin-1")
            if not _ACCOUNT.fullmatch(account):
                raise errors.not_permitted(api_key)
        return Caller(api_key, account, form[1] == "live")

    def limit(self, caller: Caller) -> None:
        """Take one token from the caller's bucket. Raises a 429 that no idempotency key ever saves."""
        rate = self._settings.rate_limit
        if rate is None:
            return
        # The real clock, not the movable one: a limiter protects a server, not a calendar.
        now = time.monotonic()
        burst = max(rate, 1.0)
        tokens, at = self._buckets.get((caller.account, caller.livemode), (burst, now))
        tokens = min(burst, tokens + (now - at) * rate)
        if tokens < 1:
            self._buckets[caller.account, caller.livemode] = (tokens, now)
            raise errors.rate_limited("global-rate")
        self._buckets[caller.account, caller.livemode] = (tokens - 1, now)


def _api_key(authorization: bytes | None) -> str:
    scheme, _, credentials = (authorization or b"").decode("latin-1").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "basic":
        try:
            credentials = b64decode(credentials, validate=True).decode("latin-1").partition(":")[0]
        except binascii.Error:
            credentials = ""
    elif scheme.lower() != "bearer":
        credentials = ""
    if not credentials:
        raise errors.no_api_key()
    return credentials
