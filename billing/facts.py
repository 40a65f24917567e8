"""Facts: each says what happened, and is written in the same transaction as the change.

Jobs and the archive read the same stream. A payload holds ids, states, amounts and codes that we
chose, never a provider's text or anything about a person.
"""

import json
from typing import Any

from sqlalchemy import Text, case, cast, func

from billing.tables import Capture, Fact, Invoice, Switch

ENTITY_TYPES: dict[type, str] = {Capture: "capture", Invoice: "invoice", Switch: "switch"}

# Every topic that this code writes, with what it means. `new_fact` refuses any other.
TOPICS = {
    "capture.requested": "somebody asked for an authorization to be captured",
    "capture.authorization_read": "the authorization was read from Stripe",
    "capture.captured": "the money was taken",
    "capture.declined": "the issuer said no",
    "capture.refused": "the capture is impossible",
    "capture.expired": "the authorization lapsed before it was captured",
    "capture.canceled": "the authorization was canceled",
    "invoice.requested": "somebody asked for an invoice",
    "invoice.drafted": "Stripe holds a draft of ours",
    "invoice.lines_added": "the draft carries our lines, and its total is ours",
    "invoice.lines_differ": "the draft is not as asked, or was refused; it is to be deleted",
    "invoice.finalized": "the invoice is open and has its number",
    "invoice.sent": "Stripe sent it to the customer",
    "invoice.paid": "it was paid before it was sent, so nothing is sent",
    "invoice.refused": "the invoice is impossible as asked",
    "invoice.reopened": "a person had a refused invoice made again",
    "switch.pulled": "nothing new is prepared in this scope",
    "switch.released": "the scope runs again",
} | {
    f"{entity}.{topic}": meaning
    for entity in ("capture", "invoice", "switch")
    for topic, meaning in {
        "attempted": "a call to Stripe was reported, with what it showed",
        "attempt_lapsed": "a call to Stripe was never reported; its lease ran out",
        "looked": "a look at Stripe, with what it showed",
        "late_answer": "a call was reported after another worker had taken over",
        "undecided": "it could not be decided so far; Stripe is asked again and again",
        "conflict": "Stripe holds something other than was asked; it needs a decision",
        "disproved": "a generation is proven to have had no effect; the next takes over",
        "replayed": "a person put quarantined work back",
    }.items()
}


OLD_TOPICS = {"capture.authorisation_read": "the authorization was read from Stripe"}
"""What only older versions wrote: read for ever, because facts are never changed."""

_WHY_MOST = 500
"""Characters of a code, and of what differs; the latter may be a long list."""


def new_fact(
    entity: Capture | Invoice | Switch,
    topic: str,
    *,
    actor: str = "billing",
    why: str | None = None,
    **payload: Any,
) -> Fact:
    """The next fact about this entity; the caller adds it to the session that changes the entity.

    `why` is a code of ours, and after a colon what differs, in words. In the payload they are apart, because only the
    code is archived.

    The caller holds the entity's row lock, which is what makes `entity_version` gapless.
    Raises KeyError for a topic that is not in `TOPICS`.
    """
    kind = ENTITY_TYPES[type(entity)]
    full_topic = f"{kind}.{topic}"
    TOPICS[full_topic]
    entity.version = (entity.version or 0) + 1
    if why is not None:
        code, _, differs = why.partition(": ")
        payload |= {"why": code[:_WHY_MOST]} | ({"differs": differs[:_WHY_MOST]} if differs else {})
    return Fact(
        topic=full_topic,
        entity_type=kind,
        entity_id=entity.id,
        entity_version=entity.version,
        actor=actor,
        correlation_id=entity.correlation_id,
        payload=payload,
    )


PAYLOAD_MOST = 16_384
"""Characters of a payload as JSON; Postgres takes no more. The longest of ours, a switch with its reason, has 3,000."""
_LEVELS_MOST = 4
"""Ours are flat, but for one list of sentences."""

# As text, and only so much of it: where a driver reads JSON by itself, one hostile payload fails the whole batch. First
# the stored size is judged, which reads nothing; a compressed payload may still be long.
PAYLOAD_TEXT = case(
    (func.pg_column_size(Fact.payload) <= PAYLOAD_MOST, func.left(cast(Fact.payload, Text), PAYLOAD_MOST + 1))
).label("payload_text")


class UnreadablePayload(ValueError):
    """A fact's payload is not what a payload is; the message says in which way, and quotes nothing of it."""


def read_payload(text: str | None) -> dict[str, Any]:
    """What `PAYLOAD_TEXT` selected, read. Raises UnreadablePayload, and nothing else, whatever somebody wrote there."""
    if text is None or len(text) > PAYLOAD_MOST:
        raise UnreadablePayload(f"the payload has more than {PAYLOAD_MOST} characters")
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        # Postgres stores numbers of any length and any nesting that fits its stack; Python reads neither.
        raise UnreadablePayload("the payload is nested too deeply, or holds a number that is too long") from None
    if not isinstance(payload, dict):
        raise UnreadablePayload(f"the payload is {type(payload).__name__}, not an object")
    if _deeper_than(payload, _LEVELS_MOST):
        raise UnreadablePayload(f"the payload is nested in more than {_LEVELS_MOST} levels")
    return payload


def _deeper_than(value: object, levels: int) -> bool:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if within is None:
        return False
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in within)
