"""The one line of error for a command that cannot be done. An error that is not in this table is a bug of ours."""

import errno
import re
import sys

import sqlalchemy.exc

from archive.errors import ArchiveError
from billing import database
from billing.errors import (
    BillingError,
    InvalidRequest,
    KeepsNoSession,
    NotInstalled,
    OtherAccount,
    OtherEnvironment,
    PossibleCardNumber,
)
from jobs.access.errors import AccessError
from jobs.bulk.errors import BulkError
from jobs.config.secrets import SecretError
from jobs.config.sources import SettingsError
from jobs.local.supervisor import LocalServerError

_SETTINGS: dict[type[Exception], str] = {
    NotInstalled: "DATABASE_URL",
    OtherEnvironment: "DATABASE_URL, or BILLING_ENVIRONMENT",
    OtherAccount: "BILLING_STRIPE_KEY",
    KeepsNoSession: "DATABASE_URL",
}
"""The setting that leads to what this error is about."""
# The messages of these say what is wrong and how to correct it.
_SELF_EXPLAINING: tuple[type[Exception], ...] = (
    AccessError,
    ArchiveError,
    BillingError,
    BulkError,
    SettingsError,
    SecretError,
    LocalServerError,
)
_OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "payment_intent",
        "capture",
        "charge",
        "settle",
        "to",
        "data",
        "locale",
        "customer",
        "days_until_due",
        "request_id",
        "bulk_id",
        "correlation_id",
        "reason",
        "actor",
        "remainder",
        "application_fee",
        "transfer",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "metadata",
    )
} | {"scope": "SCOPE"}
_FINANCE = {"matplotlib", "reportlab", "xlsxwriter"}
"""What the extra `finance` installs, for files that not everybody writes."""
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


def complaint(error: Exception) -> str | None:
    """One line that names the setting and says how to correct it; None for an error, or a warning, that is a bug of
    ours."""
    match error:
        case InvalidRequest() | PossibleCardNumber():
            problem = str(error).removeprefix(error.subject)
            return _line(f"{_OPTIONS.get(error.subject, error.subject)}{problem}")
        case _ if type(error) in _SETTINGS:
            return _line(f"{_SETTINGS[type(error)]}: {error}")
        case _ if isinstance(error, _SELF_EXPLAINING):
            return _line(str(error))
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] == "stripe_standin":
            return (
                "the Stripe stand-in is not installed, and the service comes without it: run `pip install "
                "./stripe_standin` in a checkout; `billing up` needs none where STRIPE_API_BASE is set"
            )
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in _FINANCE:
            return f"{name} is not installed: run `pip install 'billing-reference[finance]'`, or choose another format"
        case sqlalchemy.exc.DBAPIError() if database.sqlstate(error) in database.TOO_SLOW:
            return (
                f"DATABASE_URL: Postgres ended a statement that took too long ({type(error.orig).__name__}, "
                f"{database.sqlstate(error)}); try again when it has less to do"
            )
        case sqlalchemy.exc.OperationalError() if _sqlstate(error) == "53100":
            return (
                f"DATABASE_URL: the disk of Postgres is full ({_reason(error.orig or error)}); make room, and try "
                "again: docs/operate/disk-full.md"
            )
        case sqlalchemy.exc.OperationalError() | sqlalchemy.exc.InterfaceError() | sqlalchemy.exc.InternalError():
            return (
                f"DATABASE_URL: Postgres cannot be used ({_reason(error.orig or error)}); start it or correct "
                "DATABASE_URL, or let `billing up` start one"
            )
        case sqlalchemy.exc.ProgrammingError() if _sqlstate(error) in database.MISSING:
            return complaint(NotInstalled(database.MISSING[_sqlstate(error)]))
        case sqlalchemy.exc.ProgrammingError() if _sqlstate(error) == "42501":
            return f"DATABASE_URL: {_reason(error.orig or error)}; use a login with this right (docs/access.md)"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            where = error.filename or "the output of this command"
            return f"no space is left on the disk where {where} goes, and it is not whole; make room, and run it again"
        case _ if "redis" in sys.modules:
            return _about_redis(error)
        case _:
            return None


def _about_redis(error: Exception) -> str | None:
    """Apart, because most commands never load Redis."""
    import redis.exceptions

    from jobs.rq.bells import WrongEnvironment

    match error:
        case WrongEnvironment():
            return _line(f"REDIS_URL, or BILLING_ENVIRONMENT: {error}")
        case redis.exceptions.NoPermissionError():
            return "REDIS_URL: this user of Redis has no right to do that; use one that has it (docs/access.md)"
        case redis.exceptions.RedisError():
            return (
                f"REDIS_URL: Redis cannot be used ({_reason(error)}); start it or correct REDIS_URL, "
                "or let `billing up` start one"
            )
        case _:
            return None


def _sqlstate(error: sqlalchemy.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _reason(error: BaseException) -> str:
    """The first line of a server's or driver's own message, without a password that is in a URL."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _PASSWORD.sub(r"\1...@", _line(lines[0]))


def _line(text: str) -> str:
    return " ".join(text.split())
