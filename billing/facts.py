"""Facts: each says what happened, and is written in the same transaction as the change.

Relays and archivers read the same table. A payload holds ids, states, amounts and codes that we chose, never a
provider's text or anything about a person.
"""

import json
from typing import Any

from sqlalchemy import Text, case, cast, func

from billing.states import Life
from billing.tables.entities import Entity
from billing.tables.facts import Fact

OF_EVERY_OPERATION = {
    "attempted": "a call to Stripe was reported, with what it showed",
    "attempt_lapsed": "a call to Stripe was never reported; its lease ran out",
    "looked": "a look at Stripe, with what it showed",
    "late_answer": "a call was reported after another worker had taken over",
    "undecided": "it could not be decided so far; Stripe is asked again and again",
    "conflict": "Stripe holds something other than was asked; it needs a decision",
    "disproved": "a generation is proven to have had no effect; the next takes over",
    "replayed": "an operator put quarantined work back",
    "upheld": "an operator closed a conflict: how it stood before it holds",
    "noticed": "something about it may have changed at Stripe by itself; Stripe is looked at",
}
"""Topics that every operation has, with their meanings: about its calls, and about what an operator did."""
NOTICED = "noticed"
"""The one of them that starts work: see `billing.observing`."""

COMMAND = "command"
"""The entity type of the facts about commands; `billing.audit` writes and lists them."""
OF_COMMANDS = {
    "begun": "a command is about to change something outside of Postgres, or in several transactions",
    "done": "a command made its change",
    "failed": "a command that had begun ended with an error; it may have made a part of its change",
}


BATCH = "batch"
"""The entity type of the facts about batches of the archive; the function `billing.purge_facts` writes them."""
OF_BATCHES = {"purged": "facts of this batch left Postgres, after they were compared with the archive"}


def topics_of(life: Life) -> dict[str, str]:
    """Every topic of its facts with its meaning: its states, its other topics, and those of every operation."""
    each = {**life.states, **life.topics, **OF_EVERY_OPERATION}
    return {f"{life.of}.{topic}": meaning for topic, meaning in each.items()}


def topics_of_commands() -> dict[str, str]:
    """Every topic about commands, with what it means."""
    return {f"{COMMAND}.{topic}": meaning for topic, meaning in OF_COMMANDS.items()}


def topics_of_batches() -> dict[str, str]:
    """Every topic about batches, with what it means."""
    return {f"{BATCH}.{topic}": meaning for topic, meaning in OF_BATCHES.items()}


OLD_TOPICS = {"capture.authorisation_read": "the authorization was read from Stripe"}
"""Topics that only older versions wrote. They must be read for ever, because facts are never changed."""

OWN = "own"
"""The account of our own key, in facts about how something ended. A null would not be archived, and then be like a fact
of an older version, which names no account there."""

_WHY_MOST = 500
"""Characters of a code, and of what differs; the latter may be a long list."""


def new_fact(
    entity: Entity,
    topic: str,
    *,
    actor: str = "billing",
    why: str | None = None,
    traceparent: str | None = None,
    **payload: Any,
) -> Fact:
    """The next fact about this entity; the caller adds it to the session that changes the entity.

    `why` is a code of ours, and after a colon what differs, in words. The payload has two fields for them, because
    only the code is archived.

    The caller holds the entity's row lock, which is what makes `entity_version` gapless.
    Raises KeyError for a topic that is not one of `topics_of` its life.
    """
    life = entity.life
    if topic not in life.states and topic not in life.topics and topic not in OF_EVERY_OPERATION:
        raise KeyError(f"{life.of}.{topic}")
    entity.version = (entity.version or 0) + 1
    if why is not None:
        code, _, differs = why.partition(": ")
        payload |= {"why": code[:_WHY_MOST]} | ({"differs": differs[:_WHY_MOST]} if differs else {})
    return Fact(
        topic=f"{life.of}.{topic}",
        entity_type=life.of,
        entity_id=entity.id,
        entity_version=entity.version,
        actor=actor,
        correlation_id=entity.correlation_id,
        traceparent=traceparent,
        payload=payload,
    )


def new_command_fact(command_id: str, number: int, topic: str, actor: str, **payload: Any) -> Fact:
    """A fact about one call of a command. Raises KeyError for a topic that is not one of `OF_COMMANDS`."""
    if topic not in OF_COMMANDS:
        raise KeyError(f"{COMMAND}.{topic}")
    return Fact(
        topic=f"{COMMAND}.{topic}",
        entity_type=COMMAND,
        entity_id=command_id,
        entity_version=number,
        actor=actor,
        payload=payload,
    )


PAYLOAD_MOST = 16_384
"""Characters of a payload as JSON; Postgres takes no more. The longest of ours, a switch with its reason, has 3,000."""
_LEVELS_MOST = 4
"""Our payloads are flat, except for one list of sentences."""

# Selected as text, and cut: a driver that parses JSON by itself fails a whole batch because of one hostile payload. The
# stored size is compared first, which does not read the value; a compressed payload may still be long, so it is cut.
PAYLOAD_TEXT = case(
    (func.pg_column_size(Fact.payload) <= PAYLOAD_MOST, func.left(cast(Fact.payload, Text), PAYLOAD_MOST + 1))
).label("payload_text")


class UnreadablePayload(ValueError):
    """A fact's payload is no object, too long or nested too deeply. The message says which, and quotes nothing of
    it."""


def read_payload(text: str | None) -> dict[str, Any]:
    """What `PAYLOAD_TEXT` selected, read. Raises UnreadablePayload and nothing else, whatever is stored."""
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
