"""Every kind of operation, by its name and by its ids."""

from billing import captures, invoices, probes
from billing.errors import UnknownEntity
from billing.steps import Operation

OPERATIONS: dict[str, Operation] = {
    operation.kind: operation for operation in (captures.OPERATION, invoices.OPERATION, probes.OPERATION)
}


def by_id(entity_id: str) -> Operation | None:
    """The operation whose ids begin like this one; None for a stranger's id."""
    prefix = entity_id.partition("_")[0]
    return next((operation for operation in OPERATIONS.values() if operation.prefix == prefix), None)


def operation_of(entity_id: str) -> Operation:
    """As `by_id`. Raises UnknownEntity for a stranger's id."""
    operation = by_id(entity_id)
    if operation is None:
        raise UnknownEntity(entity_id)
    return operation
