"""Refuses a connection through a pooler that does not keep the session, when the connection is made.

Locks, timeouts and planner settings belong to a session. A pooler in transaction mode gives the connection to another
client after each transaction. PgBouncer refuses our settings, or drops them silently if it is configured so. Then no
lock of ours would time out, and the lock that lets one migration run at a time would belong to another session.
"""

import re
from typing import Any

import psycopg
from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from billing.errors import KeepsNoSession

# The error messages of PgBouncer, and of Amazon's RDS Proxy.
_SETTINGS_REFUSED = re.compile(r"unsupported startup parameter|command-line options", re.IGNORECASE)


def refuse(engine: Engine, *, lock_timeout: str) -> None:
    """Have each new connection of this engine checked: if its settings are not kept, connecting raises KeepsNoSession.

    `lock_timeout` is the setting that is compared, as Postgres shows it: "200ms".
    """

    @event.listens_for(engine, "do_connect")
    def _(dialect: Dialect, _record: object, arguments: Any, named: Any) -> DBAPIConnection:
        try:
            connection: Any = dialect.connect(*arguments, **named)
        except psycopg.OperationalError as error:
            if _SETTINGS_REFUSED.search(str(error)):
                raise KeepsNoSession from None
            raise
        # One round trip, without a transaction.
        connection.autocommit = True
        held = connection.execute("SHOW lock_timeout").fetchone()
        connection.autocommit = False
        if held != (lock_timeout,):
            connection.close()
            raise KeepsNoSession
        return connection  # type: ignore[no-any-return]
