"""The gateway of the queue `emails`: who it is for, what it says, and which server takes it, in this order.

    MAIL /email/invoice  →  recipient  →  invoice  →  rendered  →  composed  →  handed over

All but the last changes nothing, so whatever fails there is `not now`, or a refusal, and no e-mail was sent. Reads go
on to Stripe. The address, the name and what an invoice says live in this call only.
"""

import contextlib
import json
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Any, Protocol
from urllib.parse import parse_qs

from billing.gateway import MAIL, Answer, Budget, NotSent, Request, boot_clock
from billing.stripe_gateway import StripeGateway
from jobs.config import mail_url
from jobs.config.mail_url import Place, Region
from jobs.config.secrets import Secret, SecretError
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.email import invoices, messages
from jobs.email.messages import Message
from jobs.email.outcomes import not_now
from jobs.email.recipients import Recipients, Unresolved, resolver
from jobs.email.rendering import NotRendered, Templates
from jobs.email.ses import Ses
from jobs.email.smtp import Smtp


class Server(Protocol):
    """What takes a message: SMTP or SES."""

    def deliver(self, message: Message, budget: Budget) -> Answer:
        """Once. Raises nothing for what came back."""
        ...


@dataclass(slots=True)
class Mailing:
    """A `Gateway` to the mail server. `stripe`: reads customers and invoices."""

    livemode: bool = field(init=False)

    stripe: StripeGateway
    recipients: Recipients
    templates: Templates
    server: Server
    sent_by: Address

    def __post_init__(self) -> None:
        self.livemode = self.stripe.livemode

    def send(self, request: Request, budget: Budget) -> Answer:
        """As `Gateway.send`. Never raises for what a template, an application's function or a server did."""
        if request.method == "GET":
            return self.stripe.send(request, budget)
        if request.method != MAIL or not request.key:
            return NotSent("this queue sends e-mails only")
        if (part := request.unfit) is not None:
            return NotSent(f"the {part} has characters that we never write; it was not sent")
        if boot_clock() > budget.not_after:
            return NotSent("too late to start")
        try:
            message = self._composed(request, request.key, budget)
        except Unresolved as error:
            return error.answer
        except NotRendered as error:
            return not_now(error.code)
        except Exception as error:  # noqa: BLE001 - no e-mail was sent; an error that escapes would leave doubt of that
            return not_now("not_composed", type(error).__name__)
        return self.server.deliver(message, budget)

    def _composed(self, request: Request, key: str, budget: Budget) -> Message:
        asked = {name: values[0] for name, values in parse_qs(request.body).items()}
        data: dict[str, Any] = json.loads(asked["data"])
        to = self.recipients.find(asked["to"], request.account, budget)
        named = data.get(invoices.SHOWN)
        invoice = invoices.read(self.stripe, str(named), asked["to"], request.account, budget) if named else None
        rendered = self.templates.render(
            request.path.removeprefix("/email/"),
            data=data,
            locale=asked.get("locale") or to.locale,
            sender=self.sent_by.display_name or self.sent_by.domain,
            name=to.name,
            invoice=invoice,
        )
        return messages.compose(rendered, key=key, sent_by=self.sent_by, to=to)


def opened(settings: Settings, stripe: StripeGateway) -> Mailing:
    """By these settings. Raises SettingsError and SecretError for what could send nothing."""
    if settings.email_from is None:
        raise SettingsError("BILLING_EMAIL_FROM is not set; write Name <address>, whom e-mails come from")
    return Mailing(
        stripe,
        Recipients(stripe, resolver(settings.email_recipients)),
        Templates(settings.email_templates),
        server_of(settings.email_server, livemode=settings.livemode),
        messages.sender(settings.email_from),
    )


def server_of(secret: Secret, *, livemode: bool) -> Server:
    """The server that this setting names, with the login in it. Raises SecretError, and SettingsError for a URL that
    leads nowhere."""
    found = _place(secret)
    if isinstance(found, Region):
        return Ses(found.name, livemode=livemode)

    def now() -> Place:
        try:
            again = _place(secret)
        except (SecretError, SettingsError):
            return found
        return again if isinstance(again, Place) else found

    def read_again() -> None:
        # A rotated password is used from the next message on. If it cannot be read now, the old one stays.
        with contextlib.suppress(SecretError):
            secret.reload()

    return Smtp(now, livemode=livemode, login_refused=read_again)


def _place(secret: Secret) -> Place | Region:
    try:
        return mail_url.read(secret.reveal())
    except ValueError as error:
        raise SettingsError(f"{secret.setting}: {error}") from None
