"""What Amazon SES tells of an e-mail, in the message of an SNS notification: bounces and complaints.

Both forms are read: notifications of an identity (`notificationType`) and events of a configuration set (`eventType`).
Source: docs.aws.amazon.com/ses/latest/dg/notification-contents.html and event-publishing-retrieving-sns-contents.html.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.email_notices import SES, Kind, Notice, email_in, message_in, status_in


def read(message: str, key: str) -> Notice | None:
    """The bounce or complaint in this text; None if it tells something else, or names no e-mail. `key`: SNS's id of the
    notification, the same for every delivery of it."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, Mapping):
        return None
    mail = _within(data, "mail")
    told = data.get("notificationType") or data.get("eventType")
    if told == "Bounce":
        bounce = _within(data, "bounce")
        # `Undetermined` is what SES could not read; nothing says that the address is wrong.
        kind = Kind.HARD if bounce.get("bounceType") == "Permanent" else Kind.SOFT
        status, at = _status(bounce), bounce.get("timestamp")
    elif told == "Complaint" and _within(data, "complaint").get("complaintFeedbackType") != "not-spam":
        kind, status, at = Kind.COMPLAINT, None, _within(data, "complaint").get("timestamp")
    else:
        return None
    own, named = email_in(_within(mail, "commonHeaders").get("messageId")), message_in(mail.get("messageId"))
    if own is None and named is None:
        return None
    return Notice(kind, key, SES, told_at=_moment(at), email=own, message=named, status=status)


def _status(bounce: Mapping[str, Any]) -> str | None:
    recipients = bounce.get("bouncedRecipients")
    each = recipients[0] if isinstance(recipients, list) and recipients else None
    return status_in(each.get("status")) if isinstance(each, Mapping) else None


def _within(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _moment(said: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None and 2000 < moment.year < 3000 else None
