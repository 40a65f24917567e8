"""The rows of all kinds of operations as one table, for statements that ask about an operation of whatever kind.

Each is a subselect that is made of the registrations, so no statement lists the kinds, and a new kind is in all of
them. A statement names it like a parameter, `JOIN :stoppable AS o ON o.id = ...`, and gets it by `statements.beside`.
Postgres looks into each table by its own index, as if the tables were listed there. In psql it is a variable, too:

    \\set stoppable `python -c 'from billing.operation_rows import STOPPABLE; print(STOPPABLE)'`
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, func, literal, null, select

from billing.operations import OPERATIONS
from billing.registration import Operation
from billing.tables.entities import Requested


def _account(operation: Operation) -> ColumnElement[Any]:
    return null() if operation.local else func.coalesce(operation.table.account, "own")


def _of_the_table(operation: Operation, attribute: str | None) -> Any:
    """This attribute as an expression of SQL; null if there is none."""
    return getattr(operation.table, attribute) if attribute is not None else null()


def _currency(operation: Operation) -> Any:
    return _of_the_table(operation, "currency" if operation.amount is not None else None)


def _in_sql(wanted: Callable[[Operation], bool], **columns: Callable[[Operation], Any]) -> str:
    """The ids of the operations of these kinds, with these columns: name -> what it is for a kind."""
    tables = [
        select(operation.table.id, *(column(operation).label(name) for name, column in columns.items()))
        for operation in OPERATIONS.values()
        if wanted(operation)
    ]
    written = (" ".join(str(table.compile(compile_kwargs={"literal_binds": True})).split()) for table in tables)
    in_one = "\n UNION ALL ".join(written)
    return f"({in_one})"


STOPPABLE = _in_sql(
    lambda operation: operation.scope is not None,
    kind=lambda operation: literal(operation.kind),
    scope=lambda operation: literal(operation.scope),
    account=_account,
    currency=_currency,
    minor=lambda operation: _of_the_table(operation, operation.amount),
)
"""What a switch can stop: `id`; `kind`; `scope`, the switch of all of its kind; `account`, which is `own` for our own,
and null where there is none at Stripe; `currency` and `minor`, its amount in minor units, null if it is not about
money."""

ABOUT_MONEY = _in_sql(
    lambda operation: operation.amount is not None,
    currency=_currency,
    minor=lambda operation: _of_the_table(operation, operation.amount),
)
"""What is about money: `id`, `currency`, and `minor`, its amount in minor units."""

REQUESTED = _in_sql(
    lambda operation: issubclass(operation.table, Requested),
    requested_at=lambda operation: _of_the_table(operation, "requested_at"),
)
"""What an application requested: `id`, and `requested_at`."""
