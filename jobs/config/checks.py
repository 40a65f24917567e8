"""What the value of one setting must be. Which values fit together is in `settings`.

Every refusal is a ValueError whose message says how to correct the value and does not show it.
"""

import re
from collections.abc import Callable
from email.utils import parseaddr

from billing.facts import OWN
from billing.periods import Calendar, Calendars
from billing.provider_ids import IdKind, is_id
from jobs.config import connection_strings, mail_url, postgres_url, redis_url
from jobs.config.secrets import SCHEMES, SUPPORTED, BadReference, Secret, bare
from jobs.config.sources import variable

_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_TEST_KEYS = ("sk_test_", "rk_test_")
_LIVE_KEYS = ("sk_live_", "rk_live_")
S3_KEYS = ("s3_access_key", "s3_secret_key")
_URLS: dict[str, tuple[Callable[[str], object], str]] = {
    "database_url": (postgres_url.read, postgres_url.FORM),
    "scratch_url": (postgres_url.read, postgres_url.FORM),
    "redis_url": (redis_url.read, redis_url.FORM),
    "email_server": (mail_url.read, mail_url.FORM),
}


def secret(value: object, field: str, environment: str) -> Secret:
    """From a reference, or from a literal where this setting allows one."""
    if isinstance(value, Secret):
        return value
    text = bare(value) if isinstance(value, str) else ""
    if not text.isprintable():
        raise ValueError("has more than one line, or a control character in it; remove that")
    setting = variable(field)
    read, form = _URLS.get(field, (None, ""))
    if read is not None and "://" in text and text.partition(":")[0] not in SCHEMES:
        # A wrong URL is refused now. A secret behind a reference is read when it is needed.
        read(text)
        return Secret.literal(text, setting)
    if field == "stripe_key" and text.startswith(_TEST_KEYS):
        return Secret.literal(text, setting)
    if field == "stripe_key" and text.startswith(_LIVE_KEYS) and environment != "production":
        raise ValueError(
            f"a live key is refused where BILLING_ENVIRONMENT is {environment}; "
            "use one that begins with sk_test_ or rk_test_"
        )
    # No key of S3 has a colon in it, and every reference has one.
    if field in S3_KEYS and text and ":" not in text:
        return Secret.literal(text, setting)
    try:
        return Secret.referred(text, setting)
    except BadReference:
        allowed = f"{form}, or {SUPPORTED}" if form else SUPPORTED
        raise ValueError(f"write {allowed}") from None


def one_of_a_few(value: object) -> object:
    """In lower case: hosting providers and other programs write such words in capitals."""
    word = value.lower() if isinstance(value, str) else value
    return "warning" if word == "warn" else word


def path(value: str | None) -> str | None:
    if value is not None and not value.isprintable():
        raise ValueError("has a control character in it; remove it")
    return value


def calendars(value: str) -> Calendars:
    """`month Europe/Berlin, acct_123=week America/New_York, own=day UTC`."""
    default, by_account = Calendar(), dict[str, Calendar]()
    seen = set[str]()
    for part in value.split(","):
        account, equals, rest = part.strip().rpartition("=")
        words = rest.split()
        if account in seen or len(words) != 2 or (equals and not _names_account(account)):
            raise ValueError(
                "write LENGTH ZONE, or ACCOUNT=LENGTH ZONE, each account once, with commas between: "
                "month Europe/Berlin, acct_123=week America/New_York"
            )
        seen.add(account)
        calendar = Calendar(*words)
        if equals:
            by_account[account] = calendar
        else:
            default = calendar
    return Calendars(default, by_account)


def _names_account(text: str) -> bool:
    return text == OWN or is_id(IdKind.ACCOUNT, text)


def sender(value: str | None) -> str | None:
    """Whom e-mails come from. One line, because it becomes a header."""
    _, address = parseaddr(value or "")
    if value is not None and (not value.isprintable() or not _ADDRESS.fullmatch(address)):
        raise ValueError("write Name <address>, in one line")
    return value


def base(value: str | None, field: str) -> str | None:
    """The address of Stripe or of S3, without a slash at its end."""
    named = {"s3_endpoint_url": "archive_bucket", "heads_endpoint_url": "heads_bucket"}
    no_path = f"a bucket is named by {variable(named[field])}" if field in named else "remove its path"
    return None if value is None else connection_strings.http(value, no_path=no_path)
