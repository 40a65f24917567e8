"""Secrets by reference: read at first use, in the process that needs them, into a type that does not print its value.

    env:NAME               the environment variable NAME
    file:/run/secrets/x    a file
    aws-sm:NAME#field      a field of a JSON secret in AWS Secrets Manager; without #field, the whole string
    aws-ssm:/path          a parameter in AWS Systems Manager, decrypted

Blanks, newlines and quotes around it are not part of a secret (`bare`). A reference may stand in a settings file, a
process listing or a log; what it refers to may not.

    SecretError
    ├── BadReference       the setting holds no reference that this version can follow
    ├── SecretMissing      there is nothing usable where the reference leads
    │   └── SecretAway     the store that holds it did not answer, or refused for now
    ├── SecretExposed      the file can be read, or written, by users who must not
    └── WrongStripeKey     no Stripe key, or one of the wrong mode for this environment

Every message is one line, names the setting, says how to correct it, and shows no value.
"""

import os
import re
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol

# Container runtimes mount secrets here readable by all (0444, or 0644 in Kubernetes), in a place that
# only this container sees. Elsewhere "readable by all" means every user of the machine.
MOUNTED = Path("/run/secrets")

_LONGEST = 64 * 1024  # bytes; a key is a hundred, and /dev/zero has no end
_UNSET = "unset"
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----[A-Za-z0-9+/=\s]+-----END [A-Z ]+-----")
"""The one kind of secret that has several lines. Source: RFC 7468"""
_STRIPE_KEY = re.compile(r"(?:sk|rk)_(live|test)_[A-Za-z0-9_]+")


def bare(text: str) -> str:
    """Without blanks, newlines and a byte-order mark around it, and without one pair of quotes.

    Editors, `echo`, env files and web forms add them. No key and no URL begins or ends with one.
    """
    text = text.strip().strip("\ufeff").strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].strip() if quoted else text


class SecretError(Exception):
    """A secret cannot be used. `setting` is the name of the setting that leads to it."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class BadReference(SecretError):
    """The setting holds no reference that this version can follow."""


class SecretMissing(SecretError):
    """There is nothing, or nothing usable, where the reference leads."""


class SecretAway(SecretMissing):
    """The store that holds it did not answer, or refused for now; it may answer later."""


class SecretExposed(SecretError):
    """Others can read or change the file."""


class WrongStripeKey(SecretError):
    """Using this key here would move real money in a test, or none in production."""


class Secret:
    """A value that is read on first use and never printed; only its reference is.

    Safe to use from many threads. It is not pickled: hand the reference to another process, which
    then reads the secret itself.
    """

    __slots__ = ("_lock", "_read", "_value", "setting", "shown")

    def __init__(self, setting: str, shown: str, read: Callable[[], str]) -> None:
        self.setting = setting
        self.shown = shown
        self._read = read
        self._value: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def referred(cls, reference: str, setting: str) -> "Secret":
        """The secret behind `reference`. Raises BadReference. The secret itself is not read yet."""
        scheme, colon, place = reference.partition(":")
        if not colon or scheme not in SCHEMES or not _PLACES[scheme].fullmatch(place):
            # The setting may hold the secret itself, so it is not repeated.
            raise BadReference(setting, f"not a secret reference; write {SUPPORTED}")
        return cls(setting, reference, lambda: SCHEMES[scheme](place, setting))

    @classmethod
    def literal(cls, value: str, setting: str) -> "Secret":
        """A secret that was written into the setting itself."""
        return cls(setting, "literal", lambda: value)

    @classmethod
    def unset(cls, setting: str) -> "Secret":
        """A secret that this process may never need; using it raises SecretMissing."""

        def nothing() -> NoReturn:
            raise SecretMissing(setting, f"not set, and needed here; write {SUPPORTED}")

        return cls(setting, _UNSET, nothing)

    @property
    def is_set(self) -> bool:
        """False if this setting is not set. Does not check whether the reference leads to anything."""
        return self.shown != _UNSET

    def reveal(self) -> str:
        """The value, read on the first call. Raises SecretMissing, SecretExposed."""
        with self._lock:
            if self._value is None:
                self._value = self._read_bare()
            return self._value

    def reload(self) -> bool:
        """Read it again, for example after a 401. True if it has changed; on an error the old one stays."""
        fresh = self._read_bare()
        with self._lock:
            changed, self._value = fresh != self._value, fresh
        return changed

    def forget(self) -> None:
        """The next `reveal` reads it again."""
        with self._lock:
            self._value = None

    def _read_bare(self) -> str:
        value = bare(self._read())
        where = f"what is at {self.shown}" if self.shown != "literal" else "it"
        if not value:
            raise SecretMissing(self.setting, f"{where} is empty")
        if not value.isprintable() and not _PEM.fullmatch(value):
            raise SecretMissing(self.setting, f"{where} has more than one line, or a control character in it")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.shown})"

    # f"{secret}" and json.dumps(..., default=str) use this one.
    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self.setting} is a secret and is not pickled")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Secret":
        return self


class _Environment(Protocol):
    """What `check_stripe_key` needs to know of the settings."""

    @property
    def environment(self) -> str: ...
    @property
    def livemode(self) -> bool: ...


def check_stripe_key(secret: Secret, settings: _Environment) -> None:
    """Refuse a key that does not fit the environment. Raises WrongStripeKey, and what `reveal` raises."""
    found = _STRIPE_KEY.fullmatch(secret.reveal())
    where = "the literal" if secret.shown == "literal" else f"what is at {secret.shown}"
    if found is None:
        raise WrongStripeKey(
            secret.setting, f"{where} is not a secret or restricted Stripe key; those begin with sk_ or rk_"
        )
    live = found[1] == "live"
    if live and not settings.livemode:
        raise WrongStripeKey(
            secret.setting,
            f"{where} is a live key and BILLING_ENVIRONMENT is {settings.environment}; use a key that begins "
            "with sk_test_ or rk_test_, or set BILLING_ENVIRONMENT=production",
        )
    if settings.livemode and not live:
        raise WrongStripeKey(
            secret.setting,
            f"{where} is a test key and BILLING_ENVIRONMENT is {settings.environment}; use a key that begins "
            "with sk_live_ or rk_live_, or set BILLING_ENVIRONMENT to staging, test or development",
        )


def _from_environment(name: str, setting: str) -> str:
    value = os.environ.get(name, "")
    if not bare(value):
        raise SecretMissing(setting, f"env:{name}: the environment variable {name} is not set")
    return value


def _from_file(path: str, setting: str) -> str:
    place = f"file:{path}"
    try:
        # Non-blocking: otherwise opening a pipe without a writer would wait forever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            _check_privacy(path, file.fileno(), setting)
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise SecretMissing(setting, f"{place}: {error.strerror}") from None
    if len(content) > _LONGEST:
        raise SecretMissing(setting, f"{place}: longer than any secret ({_LONGEST} bytes)")
    try:
        value = content.decode()
    except UnicodeDecodeError:
        # Not chained, because that error shows the bytes.
        raise SecretMissing(setting, f"{place}: not text in UTF-8") from None
    if not bare(value):
        raise SecretMissing(setting, f"{place}: the file is empty")
    return value


def _check_privacy(path: str, opened: int, setting: str) -> None:
    """Raises SecretExposed when users who must not could read the file, or put another key in its place."""
    mode = os.fstat(opened).st_mode
    if not stat.S_ISREG(mode):
        raise SecretMissing(setting, f"file:{path}: not a regular file")
    if mode & 0o022:
        raise SecretExposed(setting, f"file:{path}: other users can write it; chmod 600 {path}")
    place = Path(path).resolve()
    # If neither its group nor others may enter a directory, they reach no file below it.
    closed = any(not parent.stat().st_mode & 0o011 for parent in place.parents)
    if mode & 0o044 and not closed and not place.is_relative_to(MOUNTED.resolve()):
        raise SecretExposed(
            setting, f"file:{path}: other users can read it; chmod 600 {path}, or mount it below {MOUNTED}"
        )


def _from_aws(place: str, setting: str, *, scheme: str) -> str:
    from jobs.config import aws_secrets  # noqa: PLC0415 - takes half a second, and few installations use it

    read = {"aws-sm": aws_secrets.from_secrets_manager, "aws-ssm": aws_secrets.from_parameter_store}[scheme]
    try:
        return read(place)
    except aws_secrets.NotRead as error:
        kind = SecretAway if isinstance(error, aws_secrets.NotReached) else SecretMissing
        raise kind(setting, f"{scheme}:{place}: {error}") from None


# Text of another form may be the secret itself, so it is refused.
_PLACES = {
    "env": re.compile(r"[A-Z_][A-Z0-9_]*"),
    "file": re.compile(r"/.+", re.DOTALL),
    # A name, or an ARN.
    "aws-sm": re.compile(r"[\w/+=.@:-]+(#[\w.-]+)?"),
    "aws-ssm": re.compile(r"[\w/.:-]+"),
}
# To support another store, add a row.
SCHEMES: dict[str, Callable[[str, str], str]] = {
    "env": _from_environment,
    "file": _from_file,
    "aws-sm": partial(_from_aws, scheme="aws-sm"),
    "aws-ssm": partial(_from_aws, scheme="aws-ssm"),
}
SUPPORTED = "env:NAME, file:/path, aws-sm:NAME#field or aws-ssm:/path"
