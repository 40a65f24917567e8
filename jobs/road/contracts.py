"""Which fact starts which work, by the registrations of the operations, and the row of work that a fact starts."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from billing.operations import OPERATIONS
from billing.registration import Contract, Operation
from billing.scopes import Place, scopes_of
from billing.tables.facts import Fact
from billing.tables.work import Work
from billing.timing import Timing
from billing.traceparent import traceparent

CONTRACTS_VERSION = 1
"""Goes up with every contract that is added. A relay stamps facts with it."""


class Unplannable(ValueError):
    """This fact cannot start its work. The message names the field and what was expected; it quotes no value."""


def contracts() -> list[tuple[Operation, Contract]]:
    """Every contract, with the operation that it carries out."""
    return [(operation, contract) for operation in OPERATIONS.values() for contract in operation.contracts]


def known() -> list[str]:
    """The contracts that this version can carry out, as `name:version`."""
    return [named(contract) for _, contract in contracts()]


def named(contract: Contract) -> str:
    """`take_capture:1`."""
    return f"{contract.name}:{contract.version}"


def may_wait() -> list[str]:
    """The queues whose work is held back while another is behind its SLO: all their contracts are sheddable."""
    sheddable: dict[str, bool] = {}
    for _, each in contracts():
        sheddable[each.queue] = each.sheddable and sheddable.get(each.queue, True)
    return [queue for queue, may in sheddable.items() if may]


def contract_of(work: Work) -> Contract | None:
    """The contract of this piece of work; None if this version does not know it."""
    return next((each for _, each in contracts() if (each.name, each.version) == (work.contract, work.version)), None)


def starting(since: int = 0) -> list[str]:
    """The topics that start work by contracts that came after the version `since`."""
    return sorted({f"{operation.kind}.{each.topic}" for operation, each in contracts() if each.since > since})


def accepted() -> list[str]:
    """The facts that start work, as `topic:version`. Another version of their topics waits for a newer relay."""
    return sorted({each for operation, contract in contracts() for each in starters(operation, contract)})


def starters(operation: Operation, contract: Contract) -> set[str]:
    """The facts that start this contract, as `topic:version`."""
    return {f"{operation.kind}.{contract.topic}:{version}" for version in contract.fact_versions}


def started_by(
    fact: Fact, since: int = 0, among: Sequence[tuple[Operation, Contract]] | None = None
) -> Iterator[tuple[Operation, Contract]]:
    """The contracts that this fact starts, of those that came after the version `since`. `among`: instead of those of
    this version."""
    for operation, contract in contracts() if among is None else among:
        starts = fact.topic == f"{operation.kind}.{contract.topic}" and fact.version in contract.fact_versions
        if starts and contract.since > since and contract.wanted(fact.payload):
            yield operation, contract


def work_for(fact: Fact, operation: Operation, contract: Contract, timing: Timing) -> dict[str, Any]:
    """The row of work that this fact starts. Raises Unplannable for a fact that does not fit."""
    if not re.fullmatch(rf"{operation.prefix}_[0-9a-f]{{32}}", fact.entity_id):
        raise Unplannable(f"entity_id must be the id of a {operation.kind}, as billing.ids makes it")
    account, currency = _text(fact, "account"), _text(fact, "currency")
    return {
        "contract": contract.name,
        "version": contract.version,
        "queue": contract.queue,
        "entity_id": fact.entity_id,
        "scopes": scopes_of(Place(operation, contract.name, contract.queue, account, currency)),
        "urgency": _urgency(fact, operation, contract, timing),
        "dedupe_key": f"fact:{fact.id}:{contract.name}",
        "correlation_id": fact.correlation_id,
        "traceparent": traceparent(fact.traceparent),
    }


def _text(fact: Fact, field: str) -> str | None:
    written = fact.payload.get(field)
    if written is not None and not isinstance(written, str):
        raise Unplannable(f"{field} must be text or null, not {type(written).__name__}")
    return written


def _urgency(fact: Fact, operation: Operation, contract: Contract, timing: Timing) -> datetime:
    """As `urgency_of`; work whose deadline must first be read at Stripe comes before all other. Raises Unplannable."""
    deadline = operation.deadline
    try:
        if contract.comes_first(fact.payload):
            return fact.happened_at - timedelta(days=365)
        return urgency_of(_time(deadline, fact.payload.get(deadline)) if deadline else None, fact.happened_at, timing)
    except OverflowError as error:
        raise Unplannable(f"{deadline or 'a deadline'} or happened_at is out of range") from error


def urgency_of(deadline: datetime | None, created_at: datetime, timing: Timing) -> datetime:
    """When it should be done: its deadline minus a margin. Without a deadline, its creation plus a grace, so that it
    does not wait forever behind work with deadlines."""
    if deadline is None:
        return created_at + timedelta(seconds=timing.grace_s)
    return deadline - timedelta(seconds=timing.deadline_margin_s)


def _time(field: str, written: object) -> datetime | None:
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written) if isinstance(written, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Unplannable(f"{field} must be null or a time with its zone, as in 2026-01-31T12:00:00+00:00")
    return moment
