"""What mail servers tell about an e-mail after they have accepted it: that it bounced, or that its reader complained.

A notice is an event like those of Stripe's: it is put into the same inbox, once, and a relay finds the e-mail that it
is about. Here the event itself is all there is to know, so its type says everything: `email.bounce.hard.5.1.1`.
Whoever names the id of an e-mail has received it, or runs a server that has, so one can only lie about one's own. No
address is in a notice, and none is kept.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from billing.tables.received_events import ReceivedEvent

SES, MAILBOX = "ses", "mailbox"
SOURCES = frozenset({SES, MAILBOX})
"""How notices come: by Amazon SNS, and as messages in a mailbox."""
OF_SES = "ses_"
"""What the id of a message begins with that Amazon SES gave it, where it stands among ids of others."""


class Kind(StrEnum):
    """The gravest comes first."""

    COMPLAINT = "complaint"
    HARD = "bounce.hard"
    """It can never be delivered there."""
    SOFT = "bounce.soft"
    """A server has tried for long, and given up."""


@dataclass(frozen=True, slots=True)
class Notice:
    """`key`: by which the same notice is known when it comes again. `email`, `message`: the e-mail's own id, or what
    Amazon SES calls it. `status`: an enhanced status code (RFC 3463), as 5.1.1."""

    kind: Kind
    key: str
    source: str
    told_at: datetime | None = None
    email: str | None = None
    message: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a notice says, read back from its event."""

    kind: Kind
    status: str | None

    @property
    def why(self) -> str:
        """The reason of an e-mail: `hard 5.1.1`; of a complaint, `complaint`."""
        said = self.kind.removeprefix("bounce.")
        return f"{said} {self.status}" if self.status else said


_EMAIL = re.compile(r"<?(eml_[0-9a-f]{32})\.g[0-9]{1,4}@", re.ASCII)
_MESSAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{9,90}", re.ASCII)
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})", re.ASCII)
_TYPE = re.compile(r"email\.(complaint|bounce\.hard|bounce\.soft)(?:\.([245]\.[0-9]{1,3}\.[0-9]{1,3}))?", re.ASCII)


def email_in(message_id: object) -> str | None:
    """The e-mail that a Message-ID of ours names; None for any other text."""
    found = _EMAIL.match(message_id.strip()) if isinstance(message_id, str) else None
    return found[1] if found else None


def message_in(named: object) -> str | None:
    """An id that Amazon SES gave; None for any other text."""
    return named if isinstance(named, str) and _MESSAGE.fullmatch(named) else None


def status_in(said: object) -> str | None:
    """An enhanced status code; None where none begins this text. What follows it may hold an address."""
    found = _STATUS.match(said.strip()) if isinstance(said, str) else None
    return ".".join(found.groups()) if found else None


def event_of(notice: Notice, *, livemode: bool) -> ReceivedEvent:
    """The notice as a row of the inbox. The same one always has the same id."""
    named = f"{notice.source}:{notice.key}:{notice.email}:{notice.message}:{notice.kind}"
    status = f".{notice.status}" if notice.status and notice.kind is not Kind.COMPLAINT else ""
    return ReceivedEvent(
        id=f"evt_{notice.source}_{sha256(named.encode(errors='replace')).hexdigest()[:40]}",
        type=f"email.{notice.kind}{status}",
        thin=False,
        account=None,
        livemode=livemode,
        created_at=notice.told_at or datetime.now(UTC),
        object_id=f"{OF_SES}{notice.message}" if notice.message else None,
        operation_id=notice.email,
        source=notice.source,
    )


def told(events: Iterable[Any]) -> Told | None:
    """The gravest of these notices; None if there is none."""
    found = [match for each in events if (match := _TYPE.fullmatch(each.type))]
    read = [Told(Kind(match[1]), match[2]) for match in found]
    return min(read, key=lambda each: list(Kind).index(each.kind), default=None)
