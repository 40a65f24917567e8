"""Refuses a connection pooler that keeps no session, detected when a connection is made.

Locks, timeouts and planner settings are a session's. A pooler in transaction mode gives the connection to somebody else
after each transaction: it refuses our settings (PgBouncer), or drops them without a word, as it may be told to. Then no
lock of ours would end by itself, and the lock that keeps migrations apart would be another session's.
"""

import re
from typing import Any

import psycopg
from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from billing.errors import KeepsNoSession

# The words of PgBouncer, and of Amazon's RDS Proxy.
_SETTINGS_REFUSED = re.compile(r"unsupported startup parameter|command-line options", re.IGNORECASE)


def refuse(engine: Engine, *, lock_timeout: str) -> None:
    """Let every connection of this engine be one that keeps its settings; else connecting raises KeepsNoSession.

    `lock_timeout` is the one of them that is looked at, as Postgres shows it: "200ms".
    """

    @event.listens_for(engine, "do_connect")
    def _(dialect: Dialect, _record: object, arguments: Any, named: Any) -> DBAPIConnection:
        try:
            connection: Any = dialect.connect(*arguments, **named)
        except psycopg.OperationalError as error:
            if _SETTINGS_REFUSED.search(str(error)):
                raise KeepsNoSession from None
            raise
        # One round trip, and no transaction.
        connection.autocommit = True
        held = connection.execute("SHOW lock_timeout").fetchone()
        connection.autocommit = False
        if held != (lock_timeout,):
            connection.close()
            raise KeepsNoSession
        return connection  # type: ignore[no-any-return]
