"""Ids: opaque, ordered by time, and with the prefix of their kind (`cap_…`, `ref_…`)."""

from typing import NewType

import uuid_utils

CaptureId = NewType("CaptureId", str)
RefundId = NewType("RefundId", str)
InvoiceId = NewType("InvoiceId", str)
VoidId = NewType("VoidId", str)


def new(kind: str) -> str:
    """A fresh id such as `cap_0198f0c2…`.

    UUIDv7 puts the time first, so rows that are written together lie together in the index
    (RFC 9562, section 5.7). Only letters, digits and `_`, so that an id can be a part of a URL,
    an idempotency key or a queue's job id.
    """
    return f"{kind}_{uuid_utils.uuid7().hex}"
