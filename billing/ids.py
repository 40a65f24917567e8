"""Ids: opaque, ordered by time, and with the prefix of their kind (`cap_…`, `ref_…`)."""

import re
from datetime import UTC, datetime
from typing import NewType

import uuid_utils

CaptureId = NewType("CaptureId", str)
RefundId = NewType("RefundId", str)
InvoiceId = NewType("InvoiceId", str)
InvoiceActionId = NewType("InvoiceActionId", str)
CreditNoteId = NewType("CreditNoteId", str)
EmailId = NewType("EmailId", str)
DocumentId = NewType("DocumentId", str)
VoidId = NewType("VoidId", str)


def new(kind: str) -> str:
    """A fresh id such as `cap_0198f0c2…`.

    UUIDv7 puts the time first, so rows that are written together lie together in the index
    (RFC 9562, section 5.7). Only letters, digits and `_`, so that an id can be a part of a URL,
    an idempotency key or a queue's job id.
    """
    return f"{kind}_{uuid_utils.uuid7().hex}"


def first(kind: str, at: datetime) -> str:
    """All ids of this kind that were made at this time or later sort after it, and no others: an id begins with the
    milliseconds since 1970. The clock is that of whoever makes the id, so leave a margin."""
    return f"{kind}_{max(0, int(at.timestamp() * 1000)):012x}"


def made_at(id_: object) -> datetime | None:
    """When this id was made, to the millisecond; None if it is no id of ours."""
    matched = _MADE.fullmatch(id_) if isinstance(id_, str) else None
    # 12 digits reach beyond the calendar.
    return datetime.fromtimestamp(int(matched[1], 16) / 1000, UTC) if matched else None


_MADE = re.compile(r"[a-z]{2,4}_(0[0-9a-f]{11})[0-9a-f]{20}")
