"""Whose call did something at Stripe: the event that it caused names its idempotency key.

That is the proof where the object itself cannot carry our metadata: finalizing and sending an invoice, and canceling a
payment intent. Source: docs.stripe.com/api/events/object (`request.idempotency_key`); Stripe lists 30 days of them.
"""

from collections.abc import Mapping

from billing.learned import Learned
from billing.steps import Json, LoadedOperation, Reader


def by_whom(loaded: LoadedOperation, read: Reader, kind: str, provider_object: str, created: Json) -> Learned | None:
    """Who did it, by the events of this kind about this object that were created then: FOUND_OURS for a key of this
    operation, FOUND_FREE for somebody else, or Stripe itself; None if there is no such event. Raises Unread.

    The account's events are the newest first, and a busy account has many pages of them: none is read past ours.
    """
    whose = None
    for event in read.pages("/v1/events", {"types": [kind], **created}):
        if object_of(event) == provider_object:
            if key_of(event) in loaded.keys:
                return Learned.FOUND_OURS
            # Somebody else did it, or Stripe itself (such events have no request).
            whose = Learned.FOUND_FREE
    return whose


def around(at: int) -> Json:
    """The filter for the event of something that Stripe did at this time, in seconds since 1970. By Stripe's own clock,
    so a minute on either side is ample."""
    return {"created": {"gte": at - 60, "lte": at + 60}}


def key_of(event: Json) -> str | None:
    request = event.get("request")
    key = request.get("idempotency_key") if isinstance(request, Mapping) else None
    return key if isinstance(key, str) else None


def object_of(event: Json) -> str:
    """The id of the object that the event is about; empty if it names none."""
    data = event.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    return str(subject.get("id")) if isinstance(subject, Mapping) else ""
