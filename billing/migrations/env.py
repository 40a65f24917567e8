"""Runs the numbered migrations, one process at a time in the whole cluster; the engine sets how long they wait for
a lock.
"""

from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from billing.tables.schema import SCHEMA, Table


def _only_ours(name: str | None, kind: str, _parents: object) -> bool:
    # The database is shared with the application; its tables are none of our business.
    return name == SCHEMA if kind == "schema" else True


def run(connection: Connection) -> None:
    # Session-wide, so that it outlives each migration's own transaction.
    connection.execute(text("SELECT pg_advisory_lock(hashtextextended('billing.migrations', 0))"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.commit()
    settings: dict[str, Any] = {
        "target_metadata": Table.metadata,
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": _only_ours,
        "compare_type": True,
        "compare_server_default": True,
        "transaction_per_migration": True,
    }
    context.configure(connection=connection, **settings)
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(hashtextextended('billing.migrations', 0))"))
        connection.commit()


run(context.config.attributes["connection"])
