"""Stripe's events as they come in: is this one Stripe's, and which objects does it name? Pure functions.

A payload is proven by its signature and then read for ids alone: whatever an event says of an object's state or money
is read from Stripe again. Sources: docs.stripe.com/webhooks/signature, docs.stripe.com/api/events/object,
docs.stripe.com/api/v2/core/events (thin events).
"""

import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from billing.provider_ids import IdKind, is_id
from billing.steps import METADATA_KEY
from billing.tables.received_events import EVENT_ID, EVENT_TYPE, ReceivedEvent
from billing.timing import EARLIEST, LATEST

TOLERANCE_S = 300
"""Stripe's own: an older signature may be replayed by somebody who has recorded it. One from the future is refused,
too: it could be kept, and used later."""
BODY_MOST = 512 * 1024
"""Bytes. Stripe's largest events have some ten thousand."""
SECRETS_MOST = 10


class Refused(StrEnum):
    """Why a webhook was not taken, each with what to do. The value is in the answer, in the log and in the metric."""

    NO_SIGNATURE = "no_signature"
    BAD_SIGNATURE = "bad_signature"
    TOO_OLD = "too_old"
    FROM_THE_FUTURE = "from_the_future"
    NOT_AN_EVENT = "not_an_event"
    OTHER_MODE = "other_mode"
    OTHER_ACCOUNT = "other_account"
    TOO_LARGE = "too_large"
    INCOMPLETE = "incomplete"
    BUSY = "busy"


ADVICE: Mapping[Refused, str] = {
    Refused.NO_SIGNATURE: "it has no header Stripe-Signature with a signature: it was not Stripe that sent this, or a "
    "proxy drops it",
    Refused.BAD_SIGNATURE: "none of the signing secrets here has signed these bytes: add the endpoint's own "
    "(whsec_...), and let no proxy change the body",
    Refused.TOO_OLD: f"it was signed more than {TOLERANCE_S} s ago: set the clock of this machine, or it is a replay",
    Refused.FROM_THE_FUTURE: f"it was signed more than {TOLERANCE_S} s ahead: set the clock of this machine",
    Refused.NOT_AN_EVENT: "it is signed, and is no event of Stripe's: name this address for events alone",
    Refused.OTHER_MODE: "it is of the other mode (test or live): name this address in one mode alone",
    Refused.OTHER_ACCOUNT: "it is of another account than the address names",
    Refused.TOO_LARGE: f"its body has more than {BODY_MOST} bytes, as no event has",
    Refused.INCOMPLETE: "its body did not come to its end in time",
    Refused.BUSY: "the database does not take it now; Stripe sends it again",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What the header says: when it was signed, and the signatures; several while Stripe rolls a secret."""

    at: int
    signed: tuple[str, ...]


def read_signature(header: str) -> Signature | None:
    """`t=1492774577,v1=5257a8...,v1=...`; None for anything else. Other schemes than v1 are passed over."""
    at, signed = None, []
    for part in header.split(",")[:50]:
        name, _, value = part.strip().partition("=")
        if name == "t" and re.fullmatch(r"[0-9]{1,12}", value):
            at = int(value)
        elif name == "v1" and re.fullmatch(r"[0-9a-f]{64}", value):
            signed.append(value)
    return Signature(at, tuple(signed)) if at is not None and signed else None


def check(body: bytes, header: str | None, secrets: Iterable[str], now_s: float) -> Refused | None:
    """None if one of these secrets has signed exactly these bytes, not too long ago and not in the future."""
    signature = read_signature(header) if header is not None else None
    if signature is None:
        return Refused.NO_SIGNATURE
    payload = b"%d." % signature.at + body
    # Each is compared, so that the time it takes does not tell which secret was close.
    fits = [
        hmac.compare_digest(hmac.new(secret.encode(), payload, sha256).hexdigest(), each)
        for secret in secrets
        for each in signature.signed
    ]
    if not any(fits):
        return Refused.BAD_SIGNATURE
    if signature.at < now_s - TOLERANCE_S:
        return Refused.TOO_OLD
    return Refused.FROM_THE_FUTURE if signature.at > now_s + TOLERANCE_S else None


def read_event(body: bytes, *, source: str) -> ReceivedEvent | None:
    """The event in these bytes; None if they hold none."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return event_of(data, source=source)


def event_of(data: object, *, source: str) -> ReceivedEvent | None:
    """An event as Stripe writes it, for the inbox; None if it is none."""
    if not isinstance(data, Mapping) or data.get("object") not in ("event", "v2.core.event"):
        return None
    thin = data["object"] != "event"
    event_id, event_type, livemode = data.get("id"), data.get("type"), data.get("livemode")
    created = _moment(data.get("created"))
    if not (_fits(EVENT_ID, event_id) and _fits(EVENT_TYPE, event_type) and type(livemode) is bool and created):
        return None
    subject = _within(data, "related_object") if thin else _within(data, "data", "object")
    account = data.get("context" if thin else "account")
    version = data.get("api_version")
    return ReceivedEvent(
        id=event_id,
        type=event_type,
        thin=thin,
        account=account if is_id(IdKind.ACCOUNT, account) else None,
        livemode=livemode,
        api_version=version if _fits(r"[0-9A-Za-z.-]{1,40}", version) else None,
        created_at=created,
        object_id=_id(subject.get("id")),
        payment_intent=_id(subject.get("payment_intent")),
        charge=_id(subject.get("charge") or subject.get("latest_charge")),
        invoice=_id(subject.get("invoice")),
        operation_id=_own_id(_within(subject, "metadata").get(METADATA_KEY)),
        caused_by=operation_of_key(data.get("request")),
        source=source,
    )


def ids_of(event: ReceivedEvent) -> Sequence[str]:
    """Every object of Stripe's that it names. Not a customer, who is nobody's own: all invoices of his would be
    found."""
    named = (event.object_id, event.payment_intent, event.charge, event.invoice)
    return [each for each in named if each and not each.startswith("cus_")]


def _moment(created: object) -> datetime | None:
    """Seconds since 1970; in thin events a time as text."""
    try:
        if type(created) is int:
            moment = datetime.fromtimestamp(created, UTC)
        elif isinstance(created, str):
            moment = datetime.fromisoformat(created)
        else:
            return None
        return moment if moment.tzinfo is not None and EARLIEST <= moment < LATEST else None
    except (ValueError, OverflowError, OSError):
        return None


def _within(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = data.get(name)
        data = found if isinstance(found, Mapping) else {}
    return data


def _fits(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _id(value: object) -> str | None:
    """An id of Stripe's, also of an object that was expanded."""
    if isinstance(value, Mapping):
        value = value.get("id")
    return value if isinstance(value, str) and is_id(IdKind.CHARGE, value) else None


_OWN_ID = r"[a-z]{2,8}_[0-9a-f]{32}"


def _own_id(value: object) -> str | None:
    return value if isinstance(value, str) and _fits(_OWN_ID, value) else None


def operation_of_key(request: object) -> str | None:
    """The operation in an idempotency key of ours. Nothing of any other key is kept: another system may have put an
    address into it."""
    key = request.get("idempotency_key") if isinstance(request, Mapping) else None
    found = re.fullmatch(rf"[^:]+:[^:]+:({_OWN_ID}):.+:g[0-9]+", key, re.ASCII) if isinstance(key, str) else None
    return found[1] if found else None
