"""The schema `billing` holds only our tables, and no login searches it for tables of its own.

Postgres searches for a name without a schema in search_path, which is `"$user", public` by default. So a login with
the name `billing` finds our tables before those of its application: its ORM uses our `invoices`, makes missing tables
beside ours, and its Alembic reads our version table. Nothing in the schema of that name belongs to such a login, so
`claim` takes `$user` out of its path, in this database only.
Source: postgresql.org/docs/current/ddl-schemas.html, "The Schema Search Path".
"""

from collections.abc import Sequence
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from billing.errors import WrongDatabase
from billing.tables.schema import SCHEMA
from jobs.access.grants import COLUMNS

_USER = "$user"
DEFAULT = f'"{_USER}", public'


def claim(connection: Connection, *, installed: bool) -> None:
    """Before migrations: ensure that the schema is ours alone, and that a login of its name does not search it.

    Raises WrongDatabase if it cannot, and nothing was installed yet; later, `billing doctor` reports it. Commits.
    """
    others = strangers(connection)
    if others and not installed:
        raise WrongDatabase(
            f"DATABASE_URL: the schema {SCHEMA} of this database must hold only this service's tables, and it holds "
            f"{named(others)}; move it: ALTER TABLE {SCHEMA}.{others[0]} SET SCHEMA public"
        )
    path = _path(connection)
    if path is not None and _USER in path and not _taken_out(connection, path) and not installed:
        raise WrongDatabase(
            f"DATABASE_URL: the login {SCHEMA} searches the schema {SCHEMA}, which is this service's, for its own "
            f"tables; an administrator must run: {correction(connection)}"
        )
    # So that this session takes no other table for one of ours.
    connection.execute(text("SET search_path = pg_catalog"))
    connection.commit()


def strangers(connection: Connection) -> list[str]:
    """The names of tables, views and sequences in our schema that no version of ours has made."""
    known = {"schema": SCHEMA, "ours": list(COLUMNS)}
    return list(connection.scalars(_STRANGERS, known))


def is_searched(connection: Connection) -> bool:
    """Whether a login with the name of our schema searches it for tables of its own."""
    return _USER in (_path(connection) or ())


def correction(connection: Connection) -> str:
    """The statement by which an administrator takes our schema out of the path of such a login."""
    database = connection.scalar(text("SELECT quote_ident(current_database())"))
    return f"ALTER ROLE {SCHEMA} IN DATABASE {database} SET search_path = public"


def named(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _path(connection: Connection) -> list[str] | None:
    """The search_path that such a login begins with in this database; None if there is no such login."""
    row = connection.execute(_PATH, {"schema": SCHEMA, "default": DEFAULT}).one_or_none()
    return None if row is None else [part.strip().strip('"') for part in str(row[0]).split(",")]


def _taken_out(connection: Connection, path: Sequence[str]) -> bool:
    """Take `$user` out of the path. False if our login may not change that login."""
    rest = [sql.Identifier(name) for name in path if name not in (_USER, "")]
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    statement = sql.SQL("ALTER ROLE {role} IN DATABASE {database} SET search_path = {rest}").format(
        role=sql.Identifier(SCHEMA),
        database=sql.Identifier(str(connection.scalar(text("SELECT current_database()")))),
        rest=sql.SQL(", ").join(rest) if rest else sql.Literal(""),
    )
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement.as_string(raw))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        return False
    return True


_STRANGERS = text(
    """
    SELECT c.relname FROM pg_class AS c
     WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
       AND NOT c.relname = ANY (:ours)
       -- A sequence of a column moves together with its table.
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
     ORDER BY c.relname
    """
)
# The most specific setting for this login is used; without one, the value that this session began with, if it comes
# from the server's configuration.
_PATH = text(
    """
    SELECT coalesce(
             (SELECT substring(setting FROM '^search_path=(.*)$')
                FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting
               WHERE s.setrole IN (r.oid, 0) AND s.setdatabase IN (d.oid, 0) AND setting LIKE 'search\\_path=%'
               ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
             (SELECT reset_val FROM pg_settings
               WHERE name = 'search_path' AND source IN ('default', 'configuration file', 'command line')),
             :default)
      FROM pg_roles AS r, pg_database AS d
     WHERE r.rolname = :schema AND r.rolcanlogin AND d.datname = current_database()
    """
)
