"""What billing needs from a payment provider: one protocol, and the values that may come back."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote_plus

from billing.provider_ids import IdKind, is_id


def boot_clock() -> float:
    """Seconds since boot, time asleep included. Budgets inside one process are measured by it.

    CLOCK_MONOTONIC stops while a machine is suspended; a call budget must not.
    """
    return time.clock_gettime(_BOOT)


RUN = "RUN"
"""The method of a call that runs a function of ours, named by its path: `/run/snapshot_queues`. It is no HTTP, and no
gateway to the provider sends it."""

MAIL = "MAIL"
"""The method of a call that sends an e-mail, by the template that its path names: `/email/invoice_sent`. Only workers
of the queue `emails` have a gateway that can (`jobs.email.mailing`)."""

KEEP = "KEEP"
"""The method of a call that fetches a document of this kind and stores it: `/document/invoice_pdf`. Only workers of the
queue `documents` have a gateway that can (`jobs.documents.keeping`)."""

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as it is recorded and sent: `body` is sent byte for byte."""

    method: str
    path: str
    body: str = ""
    key: str | None = None
    account: str | None = None
    api_version: str | None = None
    """The version it was first sent under; None: the process's own."""

    @property
    def unfit(self) -> str | None:
        """The part with characters that we never write, which could change what Stripe reads; None if there is none.
        A path of Stripe's begins with `/v1/` and never goes up, and a header is one line."""
        if not _METHOD.fullmatch(self.method):
            return "method"
        if not _PATHS.get(self.method, _PATH).fullmatch(self.path):
            return "path"
        if self.key and not _HEADER.fullmatch(self.key):
            return "idempotency key"
        if self.account and not is_id(IdKind.ACCOUNT, self.account):
            return "account"
        if self.api_version and not _HEADER.fullmatch(self.api_version):
            return "API version"
        return None


_METHOD = re.compile(f"GET|POST|DELETE|{RUN}|{MAIL}|{KEEP}")
_PATHS = {
    RUN: re.compile("/run/[a-z_]+"),
    MAIL: re.compile("/email/[a-z][a-z0-9_]*"),
    KEEP: re.compile("/document/[a-z_]+"),
}
_PATH = re.compile(r"/v1(?:/[A-Za-z0-9_]+)+(?:\?[A-Za-z0-9_.~%+&=\[\]-]*)?", re.ASCII)
_HEADER = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Budget:
    """By the boot clock, in seconds: when a call may start at the latest, and when it must be over."""

    not_after: float
    over_at: float


@dataclass(frozen=True, slots=True)
class Response:
    """The provider answered with a status and a whole body. `data` are the fields that we keep (`billing.excerpts`),
    and None if the body is no JSON object; `kept` is the same as bytes, to be stored."""

    status: int
    kept: bytes
    data: Mapping[str, Any] | None
    request_id: str | None
    replayed: bool

    @property
    def error_code(self) -> str | None:
        """Stripe's `error.code`; texts are never matched, because they change."""
        return self._error("code")

    @property
    def error_type(self) -> str | None:
        return self._error("type")

    @property
    def error_param(self) -> str | None:
        return self._error("param")

    def _error(self, name: str) -> str | None:
        error = self.data.get("error") if self.data else None
        value = error.get(name) if isinstance(error, Mapping) else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """It may have been sent; no answer that can be trusted came back."""

    why: str


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not one byte of the request left this process."""

    why: str
    unreached: bool = False
    """No connection to the provider could be made."""


Answer = Response | NoAnswer | NotSent


class KeyUnavailable(Exception):
    """The process cannot read its own API key. Raised by the callable that a gateway is given; nothing is sent."""


class Gateway(Protocol):
    """The only way to the provider. Implementations: Stripe, and in tests a witness around Stripe. For the queue of
    scheduled work, what runs functions of ours instead (`jobs.schedules.functions`); for that of e-mails, what sends
    them (`jobs.email.mailing`); for that of documents, what keeps them (`jobs.documents.keeping`)."""

    livemode: bool

    def send(self, request: Request, budget: Budget) -> Answer:
        """Send it once, or report `NotSent` when `budget.not_after` has passed. Never raises for what came back."""
        ...


def encode(parameters: Mapping[str, Any]) -> str:
    """Parameters as Stripe's form encoding: `{"metadata": {"a": 1}}` is `metadata[a]=1`.

    In the order given, so that the same call always has the same bytes. Raises TypeError for
    anything but text, whole numbers, booleans, mappings and lists: a float is no amount of money.
    """
    return "&".join(f"{quote_plus(name, safe='[]')}={quote_plus(value)}" for name, value in _flat("", parameters))


def _flat(prefix: str, value: object) -> list[tuple[str, str]]:
    match value:
        case Mapping():
            inner = [(f"{prefix}[{name}]" if prefix else str(name), item) for name, item in value.items()]
        case list():
            inner = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
        case bool():
            return [(prefix, "true" if value else "false")]
        case str() | int():
            return [(prefix, str(value))]
        case _:
            raise TypeError(f"{prefix}: {type(value).__name__} cannot be a parameter")
    return [pair for name, item in inner for pair in _flat(name, item)]
