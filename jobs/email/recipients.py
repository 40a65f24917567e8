"""Who gets an e-mail: the address behind an id, read right before it is sent and kept nowhere.

An id that begins with `cus_` is a customer at Stripe. Every other one is the application's own:
BILLING_EMAIL_RECIPIENTS names the function that knows it.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from typing import Any

from billing.gateway import Answer, Budget, Response
from billing.provider_ids import IdKind, is_id
from billing.stripe_gateway import StripeGateway
from jobs.config.sources import SettingsError
from jobs.email.outcomes import not_now, refused

Resolve = Callable[[str], Mapping[str, Any] | None]
"""An application's own: an id -> `address`, and if they are known `name` and `locale`; None if there is nobody."""

NAME_MOST = 100
"""Characters of a name; a longer one is cut."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One person, while an e-mail is made. Its `repr` shows nothing of them."""

    address: Address = field(repr=False)
    name: str = field(default="", repr=False)
    locale: str | None = None


class Unresolved(Exception):
    """No address for now, or at all: `answer` says which."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(type(answer).__name__)
        self.answer = answer


def resolver(named: str | None) -> Resolve | None:
    """The function that `module:function` names. Raises SettingsError."""
    if named is None:
        return None
    module, _, function = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"BILLING_EMAIL_RECIPIENTS: {named} cannot be imported ({type(error).__name__})") from None
    if not callable(found):
        raise SettingsError(f"BILLING_EMAIL_RECIPIENTS: {named} is no function")
    resolve: Resolve = found
    return resolve


@dataclass(frozen=True, slots=True)
class Recipients:
    """`resolve`: the application's own function, if it has one."""

    stripe: StripeGateway
    resolve: Resolve | None = None

    def find(self, reference: str, account: str | None, budget: Budget) -> Recipient:
        """The person behind this id. Raises Unresolved."""
        if reference.startswith("cus_"):
            return self._customer(reference, account, budget)
        if self.resolve is None:
            raise Unresolved(not_now("no_function_for_recipients"))
        try:
            found = self.resolve(reference)
        except Exception as error:  # noqa: BLE001 - somebody else's code, in the middle of ours
            raise Unresolved(not_now("recipient_not_resolved", type(error).__name__)) from None
        if found is None:
            raise Unresolved(refused("no_such_recipient"))
        return _recipient(found.get("address"), found.get("name"), found.get("locale"))

    def _customer(self, customer: str, account: str | None, budget: Budget) -> Recipient:
        if not is_id(IdKind.CUSTOMER, customer):
            raise Unresolved(refused("no_such_recipient"))
        answer, shown = self.stripe.read_whole(f"/v1/customers/{customer}", account, budget)
        if not isinstance(answer, Response):
            # Whatever became of a read, no e-mail was sent.
            raise Unresolved(not_now("customer_not_read"))
        if answer.status == 404 and answer.error_code == "resource_missing":
            raise Unresolved(refused("no_such_recipient"))
        if shown.get("id") != customer:
            # Our key was refused, Stripe failed, or something else answered.
            raise Unresolved(not_now("customer_not_read", f"status_{answer.status}"))
        if shown.get("deleted") is True:
            raise Unresolved(refused("recipient_deleted"))
        if shown.get("livemode") is not self.stripe.livemode:
            raise Unresolved(not_now("customer_of_another_mode"))
        locales = shown.get("preferred_locales")
        return _recipient(shown.get("email"), shown.get("name"), locales[0] if locales else None)


def _recipient(address: object, name: object, locale: object) -> Recipient:
    if not isinstance(address, str) or not address.strip():
        raise Unresolved(refused("no_address"))
    shown = one_line(name)[:NAME_MOST] if isinstance(name, str) else ""
    try:
        # It refuses line ends, and everything else that could become another header or another recipient.
        parsed = Address(display_name=shown, addr_spec=_with_ascii_domain(address.strip()))
    except (ValueError, MessageError, IndexError):
        raise Unresolved(refused("address_unusable")) from None
    # The mailbox in other characters than ASCII needs a server that takes SMTPUTF8.
    if not parsed.addr_spec.isascii() or not parsed.domain or len(parsed.addr_spec) > 254:
        raise Unresolved(refused("address_unusable"))
    return Recipient(parsed, shown, locale if isinstance(locale, str) else None)


def _with_ascii_domain(address: str) -> str:
    mailbox, at, domain = address.rpartition("@")
    return f"{mailbox}{at}{domain.encode('idna').decode()}" if at and not domain.isascii() else address


def one_line(text: str) -> str:
    """Without control characters and line ends, which could begin a header of their own."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
