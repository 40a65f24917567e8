"""The contracts: which fact starts which, and under which conditions it is carried out.

A contract is a promise between the process that plans a piece of work and the one that carries it out,
which may be of another version. Its payload holds ids only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from billing.switches import scopes_of
from billing.tables import Fact
from billing.timing import Timing

CONTRACTS_VERSION = 1
"""Raised with every contract that is added; a fact is stamped with the version that planned it."""


class Unplannable(ValueError):
    """A fact starts nothing as it is. The message names the field and what was expected; it quotes no value."""


class Payload(BaseModel):
    """Ids, never blobs or secrets; an unknown field is an error, not something to be dropped silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OneCapture(Payload):
    capture_id: str = Field(pattern=r"^cap_[0-9a-f]{32}$")


class OneInvoice(Payload):
    invoice_id: str = Field(pattern=r"^inv_[0-9a-f]{32}$")


class OneSwitch(Payload):
    switch_id: str = Field(pattern=r"^swi_[0-9a-f]{32}$")


@dataclass(frozen=True, slots=True)
class Contract:
    """One kind of work. `since` is the `CONTRACTS_VERSION` that brought it."""

    name: str
    version: int
    topic: str
    fact_version: int
    payload: type[Payload]
    entity: str
    """The payload's field that holds the operation's id."""
    operation: str
    queue: str
    max_attempts: int
    """Crashes of a worker and unknown errors; outages are bounded by the key's horizon, not by number."""
    owner: str
    purpose: str
    since: int = 1

    def wanted(self, fact: Mapping[str, Any]) -> bool:
        """Whether this fact really starts it: a probe is for switches that the system pulled."""
        return self.operation != "switch" or bool(fact.get("probes"))


CONTRACTS = (
    Contract(
        name="take_capture",
        version=1,
        topic="capture.requested",
        fact_version=1,
        payload=OneCapture,
        entity="capture_id",
        operation="capture",
        queue="captures",
        max_attempts=5,
        owner="payments",
        purpose="take the money of one authorization, once",
    ),
    Contract(
        name="issue_invoice",
        version=1,
        topic="invoice.requested",
        fact_version=1,
        payload=OneInvoice,
        entity="invoice_id",
        operation="invoice",
        queue="invoices",
        max_attempts=5,
        owner="billing",
        purpose="draft, fill, finalize and send one invoice",
    ),
    Contract(
        name="probe_provider",
        version=1,
        topic="switch.pulled",
        fact_version=1,
        payload=OneSwitch,
        entity="switch_id",
        operation="switch",
        queue="captures",
        max_attempts=1_000_000,
        owner="payments",
        purpose="ask Stripe until our credentials are accepted again, and release the switch",
    ),
)

QUEUES = ("captures", "invoices")
"""Each has workers of its own, so that one noisy workload cannot starve another. One queue per worker process."""

BY_NAME = {(contract.name, contract.version): contract for contract in CONTRACTS}
KNOWN = [f"{name}:{version}" for name, version in BY_NAME]


def planned_by(fact: Fact, contracts: Sequence[Contract] = CONTRACTS) -> list[Contract]:
    """Those of the contracts that this fact starts."""
    return [
        contract
        for contract in contracts
        if (contract.topic, contract.fact_version) == (fact.topic, fact.version) and contract.wanted(fact.payload)
    ]


def work_for(fact: Fact, contract: Contract, timing: Timing) -> dict[str, Any]:
    """The row of work that this fact starts. Raises Unplannable for a fact that does not fit."""
    try:
        payload = contract.payload(**{contract.entity: fact.entity_id})
    except ValidationError as error:
        raise Unplannable(f"entity_id must be the id of a {contract.operation}, as billing.ids makes it") from error
    account = fact.payload.get("account")
    if account is not None and not isinstance(account, str):
        raise Unplannable(f"account must be text or null, not {type(account).__name__}")
    kind = {"capture": "captures", "invoice": "invoices"}.get(contract.operation)
    return {
        "contract": contract.name,
        "version": contract.version,
        "arguments": payload.model_dump(),
        "queue": contract.queue,
        "entity_id": fact.entity_id,
        "scopes": scopes_of(kind, account) if kind else [],
        "urgency": urgency(fact, timing),
        "dedupe_key": f"fact:{fact.id}:{contract.name}",
        "correlation_id": fact.correlation_id,
    }


def urgency(fact: Fact, timing: Timing) -> datetime:
    """By when it should be done: the deadline less its margin, or its age plus grace so that nothing starves.

    A capture whose authorization is unknown comes first, and only to be read. Raises Unplannable.
    """
    try:
        if fact.topic == "capture.requested" and not _authorized(fact.payload):
            return fact.happened_at - timedelta(days=365)
        return urgency_of(_deadline(fact.payload.get("capture_before")), fact.happened_at, timing)
    except OverflowError as error:
        raise Unplannable("capture_before or happened_at is out of range") from error


def _authorized(payload: Mapping[str, Any]) -> bool:
    """An application of the version before migration 0010 spells it otherwise."""
    return bool(payload.get("authorized") or payload.get("authorised"))


def urgency_of(capture_before: datetime | None, created_at: datetime, timing: Timing) -> datetime:
    if capture_before is None:
        return created_at + timedelta(seconds=timing.grace_s)
    return capture_before - timedelta(seconds=timing.deadline_margin_s)


def _deadline(written: object) -> datetime | None:
    if written is None:
        return None
    try:
        deadline = datetime.fromisoformat(written) if isinstance(written, str) else None
    except ValueError:
        deadline = None
    if deadline is None or deadline.tzinfo is None:
        raise Unplannable("capture_before must be null or a time with its zone, as in 2026-01-31T12:00:00+00:00")
    return deadline
