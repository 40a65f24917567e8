"""Databases that tests have one after the other, each as if it were new.

To copy a database, to connect to it, and to let Postgres read its catalogs and plan each statement anew took more than
half of the CPU of a usual test. So a database is given on with its connections if nothing but rows was written to it,
and these are removed. A test that has changed a table, a right or a function, or has left a connection or a transaction
open, has its database dropped.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
from service import OWNER, WAIT_FOR_LOCKS, drop_database, empty, engines_of, make_database, session_settings
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from jobs.local.servers import LocalServers

MOST_TESTS = 50
"""That have one database: each leaves dead rows in the catalogs, which slow down the next."""

CATALOGS = (
    *("attribute", "attrdef", "constraint", "default_acl", "depend", "extension", "index", "namespace", "policy"),
    *("proc", "rewrite", "sequence", "trigger", "type"),
)
"""In which only what defines a database is written: whatever changes there leaves another number of rows, or another
sum of the transactions that wrote them."""
SHAPE = """
    SELECT CAST(ROW(
        -- To empty a table writes there, too: where its file is.
        (SELECT string_agg(CAST(ROW(oid, relname, relnamespace, relowner, relkind, relnatts, relchecks, relhastriggers,
                relrowsecurity, relforcerowsecurity, relacl, reloptions) AS text), ';' ORDER BY oid)
            FROM pg_class WHERE oid >= 16384),
        (SELECT CAST(ROW(datallowconn, datconnlimit, datacl, datdba) AS text)
            FROM pg_database WHERE datname = current_database()),
        (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
            WHERE datname = current_database()),
        {parts}
    ) AS text)
"""
CATALOG = "(SELECT CAST(ROW(count(*), sum(CAST(CAST(xmin AS text) AS bigint))) AS text) FROM pg_{})"
ROWS = "(SELECT string_agg(CAST(each AS text), ';' ORDER BY CAST(each AS text)) FROM billing.{} AS each)"
SEEDED = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'billing'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0 ORDER BY relname
"""
LEFT_OPEN = """
    SELECT EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database()) OR EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND NOT pid = ANY (:ours)
    )
"""


@dataclass
class Database:
    """One of a test's own. Its engines stay connected when the next test has it, unless it is for one test alone."""

    name: str
    url: str
    for_one_test: bool = False
    engines: dict[str, Engine] = field(default_factory=dict)
    tests: int = 0

    def engines_of_a_test(self) -> dict[str, Engine] | None:
        """What listens to one of them does not listen to that of the next test. None: the test makes its own."""
        if self.for_one_test:
            return None
        self.engines = self.engines or engines_of(self.url)
        return {kind: engine.execution_options() for kind, engine in self.engines.items()}

    def close(self) -> None:
        for engine in self.engines.values():
            engine.dispose()


class Databases:
    """Migrated and stamped copies of the template."""

    def __init__(self, stack: LocalServers) -> None:
        self._stack = stack
        self._spare: list[Database] = []
        self._seeded: tuple[str, ...] = ()
        self._shape_of_all = ""

    def take(self) -> Database:
        if self._spare:
            return self._spare.pop()
        name = f"test_{uuid4().hex}"
        database = Database(name, make_database(self._stack, name))
        if not self._seeded:
            self._look_at(database)
        return database

    def give_back(self, database: Database) -> None:
        database.tests += 1
        if database.tests < MOST_TESTS and database.engines and self._is_as_new(database):
            self._spare.append(database)
        else:
            self._drop(database)

    def close(self) -> None:
        for database in self._spare:
            self._drop(database)

    def _look_at(self, new: Database) -> None:
        """What all copies have in common."""
        new.engines = engines_of(new.url)
        with new.engines[OWNER].connect() as connection:
            self._seeded = tuple(connection.scalars(text(SEEDED)))
            self._shape_of_all = self._shape(connection)

    def _shape(self, connection: Connection) -> str:
        parts = [*map(CATALOG.format, CATALOGS), *map(ROWS.format, self._seeded)]
        return str(connection.scalar(text(SHAPE.format(parts=", ".join(parts)))))

    def _is_as_new(self, database: Database) -> bool:
        """Remove the rows that the test has written. False where that is not enough."""
        with suppress(SQLAlchemyError, psycopg.Error):
            if any(engine.pool.checkedout() for engine in database.engines.values()):
                return False
            ours = [_reset(kind, engine) for kind, engine in database.engines.items() if engine.pool.checkedin()]
            with database.engines[OWNER].begin() as connection:
                connection.execute(text(WAIT_FOR_LOCKS))
                ours.append(connection.scalar(text("SELECT pg_backend_pid()")))
                if connection.scalar(text(LEFT_OPEN), {"ours": ours}):
                    return False
                if self._shape(connection) != self._shape_of_all:
                    return False
                empty(connection, keep=self._seeded)
            return True
        return False

    def _drop(self, database: Database) -> None:
        database.close()
        drop_database(self._stack, database.name)


def _reset(kind: str, engine: Engine) -> int:
    """Let the session of this engine be as it was when it was opened. Returns the number of its process."""
    with engine.connect() as connection:
        session: psycopg.Connection[object] = connection.connection.driver_connection
        session.autocommit = True
        session.execute("RESET ROLE; RESET ALL; SELECT pg_advisory_unlock_all(); UNLISTEN *; DISCARD TEMP")
        session.execute(session_settings(kind))
        session.autocommit = False
        return session.info.backend_pid
