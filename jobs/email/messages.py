"""A rendered e-mail as a message: its headers, and the bytes that a server gets."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from jobs.email.recipients import Recipient, one_line
from jobs.email.rendering import Rendered

_LINE_END = re.compile(rb"\r\n|\r|\n")
_WIRE = policy.SMTP.clone(cte_type="7bit")
"""Lines end as SMTP wants them, and every server takes seven bits."""


@dataclass(frozen=True, slots=True)
class Message:
    """`own_id`: what stands in its Message-ID before the @. `bytes_`: headers and body."""

    own_id: str
    sender: str
    recipient: str
    bytes_: bytes

    @property
    def sender_domain(self) -> str:
        return self.sender.rpartition("@")[2]

    @property
    def on_the_wire(self) -> bytes:
        """As it stands between DATA and the line with the dot: a line that begins with a dot gets another one. Source:
        RFC 5321, 4.5.2."""
        body = _LINE_END.sub(b"\r\n", self.bytes_)
        body = re.sub(rb"(?m)^\.", b"..", body)
        return body if body.endswith(b"\r\n") else body + b"\r\n"


def sender(text: str) -> Address:
    """`Example Ltd <billing@example.com>`. Raises ValueError."""
    name, address = parseaddr(text)
    if text != one_line(text) or not address or not address.isascii():
        raise ValueError("write Name <address>, in one line")
    return Address(display_name=name, addr_spec=address)


def own_id(key: str) -> str:
    """What names this e-mail in the logs of every server on its way: its operation and the generation of its call. The
    same for every attempt, so that a repetition shows itself."""
    *_, operation, _step, generation = key.split(":")
    return f"{operation}.{generation}"


def compose(
    rendered: Rendered,
    *,
    key: str,
    sent_by: Address,
    to: Recipient,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Message:
    """Raises ValueError for what cannot be a header."""
    message = EmailMessage(policy=_WIRE)
    message["From"] = sent_by
    message["To"] = to.address
    message["Subject"] = one_line(rendered.subject)
    message["Date"] = format_datetime(now())
    message["Message-ID"] = f"<{own_id(key)}@{sent_by.domain}>"
    message["Content-Language"] = rendered.locale
    # No machine answers it: RFC 3834.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    return Message(own_id(key), sent_by.addr_spec, to.address.addr_spec, message.as_bytes())
