"""The list of all kinds of operations, found by name or by id, and the topics of their facts."""

from billing import (
    captures,
    credit_notes,
    documents,
    emails,
    facts,
    invoice_actions,
    invoices,
    probes,
    refunds,
    runs,
    voids,
)
from billing.errors import UnknownEntity
from billing.idempotency import Rules
from billing.registration import Operation
from billing.tables.idempotency_records import Record

OPERATIONS: dict[str, Operation] = {
    operation.kind: operation
    for operation in (
        captures.OPERATION,
        voids.OPERATION,
        refunds.OPERATION,
        invoices.OPERATION,
        invoice_actions.OPERATION,
        credit_notes.OPERATION,
        emails.OPERATION,
        documents.OPERATION,
        probes.OPERATION,
        runs.OPERATION,
    )
}


def register(operation: Operation) -> None:
    """Add a kind to those that this process knows. Raises ValueError for a name or a prefix that is taken."""
    if any(operation.kind == other.kind or operation.prefix == other.prefix for other in OPERATIONS.values()):
        raise ValueError(f"{operation.kind} ({operation.prefix}_) is registered already")
    OPERATIONS[operation.kind] = operation


def by_id(entity_id: str) -> Operation | None:
    """The operation whose ids begin like this one; None if no kind has such ids."""
    prefix = entity_id.partition("_")[0]
    return next((operation for operation in OPERATIONS.values() if operation.prefix == prefix), None)


def operation_of(entity_id: str) -> Operation:
    """As `by_id`. Raises UnknownEntity if no kind has such ids."""
    operation = by_id(entity_id)
    if operation is None:
        raise UnknownEntity(entity_id)
    return operation


def rules_of(record: Record) -> Rules:
    """The rules of this call's step; those of most steps if a newer version wrote it."""
    try:
        return operation_of(record.operation_id).steps(record.step).rules
    except (KeyError, UnknownEntity):
        return Rules()


def topics() -> dict[str, str]:
    """Every topic that this code writes, with what it means."""
    of_operations = {
        topic: meaning
        for operation in OPERATIONS.values()
        for topic, meaning in facts.topics_of(operation.table.life).items()
    }
    return of_operations | facts.topics_of_commands() | facts.topics_of_batches()
