"""Reads messages of a mailbox to which bounces and complaints come: delivery reports (RFC 3464) and feedback reports
(RFC 5965, ARF).

Anybody may write to such an address, so a message may be anything. Only a report is read that names an e-mail of ours,
by the Message-ID in the part that returns its headers; and of that only codes and ids are taken, never a text. A
message that is too large or cannot be read is refused by itself.
"""

import email
from collections.abc import Iterator, Sequence
from datetime import datetime
from email import policy
from email.message import Message
from email.utils import parsedate_to_datetime
from hashlib import sha256

from billing.email_notices import MAILBOX, Kind, Notice, email_in, status_in

MESSAGE_MOST = 5 * 1024 * 1024
"""Bytes of one message. A report returns ours, which has at most some hundred KB."""
_PARTS_MOST = 50
_BOUNDARIES_MOST = 20
"""A report has two, and one more if it returns the whole message. Nested ones cost the parser more than their bytes."""
_COMPLAINTS = frozenset({"abuse", "fraud", "virus", "other"})
"""Feedback types that are complaints (RFC 5965, 7.3). `not-spam` is the contrary, others are about signatures."""


class Unreadable(ValueError):
    """Not a message that we read; says why, and repeats nothing of it."""


def read(raw: bytes) -> Notice | None:
    """What this message tells about an e-mail of ours; None if it is no such report. Raises Unreadable."""
    if len(raw) > MESSAGE_MOST:
        raise Unreadable(f"it has more than {MESSAGE_MOST // 1024 // 1024} MB")
    if raw.lower().count(b"boundary") > _BOUNDARIES_MOST:
        raise Unreadable(f"it has more than {_BOUNDARIES_MOST} nested parts")
    try:
        # The old policy: it keeps headers as they are, and the new one stumbles over some that are malformed.
        return _read(email.message_from_bytes(raw, policy=policy.compat32), raw)
    except Exception as error:  # noqa: BLE001 - somebody else's bytes in somebody else's parser: whatever it is, refused
        raise Unreadable(f"it cannot be read ({type(error).__name__})") from None


def _read(message: Message, raw: bytes) -> Notice | None:
    if message.get_content_type() != "multipart/report" or not message.is_multipart():
        return None
    parts = list(_parts(message))
    ours = next((named for part in parts if (named := _returned(part)) is not None), None)
    if ours is None:
        return None
    told = _bounce(parts) or _complaint(parts)
    if told is None:
        return None
    kind, status = told
    # The same report may be delivered twice; without an id of its own it is known by its bytes.
    known_by = str(message.get("Message-ID", "")).strip().encode(errors="replace") or raw
    key = sha256(known_by).hexdigest()
    return Notice(kind, key, MAILBOX, told_at=_told_at(message), email=ours, status=status)


def _parts(message: Message) -> Iterator[Message]:
    """Those of the report itself, not of the message that it returns."""
    for number, part in enumerate(_within(message)):
        if number < _PARTS_MOST:
            yield part


def _within(part: Message) -> Sequence[Message]:
    """The messages of which a part consists; of a part that is a text, none."""
    payload = part.get_payload()
    return [each for each in payload if isinstance(each, Message)] if isinstance(payload, list) else []


def _returned(part: Message) -> str | None:
    """The id of an e-mail of ours whose headers this part returns."""
    match part.get_content_type():
        case "message/rfc822" | "message/global":
            return next((email_in(each.get("Message-ID")) for each in _within(part)), None)
        case "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers":
            inner = _within(part)
            if inner:
                return email_in(inner[0].get("Message-ID"))
            payload = part.get_payload(decode=True)
            headers = payload if isinstance(payload, bytes) else b""
            return email_in(email.message_from_bytes(headers, policy=policy.compat32).get("Message-ID"))
    return None


def _bounce(parts: Sequence[Message]) -> tuple[Kind, str | None] | None:
    """By the fields of the recipient that failed (RFC 3464, 2.3): the gravest, where there are several."""
    reports = [part for part in parts if part.get_content_type() in _DELIVERY]
    fields = [block for part in reports for block in _within(part)[:_PARTS_MOST]]
    failed = [block for block in fields if str(block.get("Action", "")).strip().lower() == "failed"]
    statuses = [status_in(block.get("Status")) for block in failed]
    if not failed:
        return None  # delayed, delivered, relayed: nothing has bounced
    hard = next((each for each in statuses if each and each.startswith("5")), None)
    soft = next((each for each in statuses if each and each.startswith("4")), None)
    return (Kind.SOFT, soft) if soft and not hard else (Kind.HARD, hard)


_DELIVERY = frozenset({"message/delivery-status", "message/global-delivery-status"})


def _complaint(parts: Sequence[Message]) -> tuple[Kind, None] | None:
    for part in parts:
        if part.get_content_type() == "message/feedback-report":
            said = next((str(each.get("Feedback-Type", "")) for each in _within(part)), "")
            return (Kind.COMPLAINT, None) if said.strip().lower() in _COMPLAINTS else None
    return None


def _told_at(message: Message) -> datetime | None:
    try:
        moment = parsedate_to_datetime(str(message.get("Date", "")))
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
