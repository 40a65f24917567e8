"""API keys, accounts and modes: who asks, and what a restricted key may do."""

import re
from base64 import b64decode
from typing import NamedTuple

from . import errors, fields
from .world import Settings

_API_KEY = re.compile(r"(?:sk|rk)_(test|live)_[A-Za-z0-9_]{1,240}")
_RESTRICTED = re.compile(r"rk_(?:test|live)_[A-Za-z0-9_]{1,240}")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,60}")

API_KEY = fields.matching(_API_KEY, "a secret or restricted API key such as sk_test_anything or rk_live_anything")
RESTRICTED_KEY = fields.matching(_RESTRICTED, "a restricted API key such as rk_test_anything")
ACCOUNT = fields.matching(_ACCOUNT, "an account's id such as acct_anything")

READ, WRITE = "read", "write"


class Caller(NamedTuple):
    api_key: str
    account: str
    livemode: bool


class Access:
    """Which API keys are accepted. By default every well-formed key is, and all belong to one account."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        self.accepted: set[str] | None = set(self._settings.api_keys) or None
        self.expired: set[str] = set()
        self.accounts: dict[str, str] = {}
        # By restricted key, then by what follows /v1/ in the path: "read", or "write", which includes "read".
        self.permissions: dict[str, dict[str, str]] = {}

    def caller(self, authorization: bytes | None, stripe_account: bytes | None) -> Caller:
        """The caller that sent these headers. Raises a 401, or a 403 for an account that this key may not use."""
        api_key = _api_key(authorization)
        form = _API_KEY.fullmatch(api_key)
        if api_key in self.expired:
            raise errors.expired_api_key(api_key)
        if form is None or (self.accepted is not None and api_key not in self.accepted):
            raise errors.invalid_api_key(api_key)
        account = self.accounts.get(api_key, self._settings.account)
        if stripe_account is not None:
            account = stripe_account.decode("latin-1")
            if not _ACCOUNT.fullmatch(account):
                raise errors.no_access(api_key, account)
        return Caller(api_key, account, form[1] == "live")

    def permit(self, caller: Caller, operation: str) -> None:
        """Raises a 403 if a restricted key may not do this; `operation` is a row of the routes' table.

        A restricted key without a row of its own may do everything, and so may a secret key.
        """
        allowed = self.permissions.get(caller.api_key)
        if allowed is None or not caller.api_key.startswith("rk_"):
            return
        method, _, path = operation.partition(" ")
        things = path.split("/")[2]
        wanted = READ if method == "GET" else WRITE
        if allowed.get(things) not in (wanted, WRITE):
            raise errors.not_permitted(caller.api_key, caller.account, f"{things} {wanted}")


def _api_key(authorization: bytes | None) -> str:
    scheme, _, credentials = (authorization or b"").decode("latin-1").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "basic":
        try:
            credentials = b64decode(credentials, validate=True).decode("latin-1").partition(":")[0]
        except ValueError:  # not Base64, or not even ASCII
            credentials = ""
    elif scheme.lower() != "bearer":
        credentials = ""
    if not credentials:
        raise errors.no_api_key()
    return credentials
