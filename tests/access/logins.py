"""A database with a login of each kind of process in it."""

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from service import drop_database
from sqlalchemy.engine import make_url

from billing import database
from billing.timing import SHORT
from jobs.access import credentials
from jobs.access.kinds import KINDS
from jobs.local.servers import LocalServers


@dataclass(frozen=True)
class Place:
    """One database, the secrets of its logins, and its owner's URL."""

    owner: str
    secrets: Path

    def connect(self, kind: str) -> "psycopg.Connection[tuple[object, ...]]":
        url = self.owner if kind == "owner" else (self.secrets / f"{kind}_database_url").read_text()
        return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def set_up(stack: LocalServers, owner: str, secrets: Path) -> list[credentials.Login]:
    """Passwords for every kind of process, and their logins in this database."""
    name = make_url(owner).database or ""
    list(credentials.for_postgres(secrets, "127.0.0.1", stack.postgres.port, name))
    engine = database.open_engine(owner, SHORT, name="access", pooled=False)
    with engine.begin() as connection:
        return credentials.apply(connection, secrets)


def tear_down(stack: LocalServers, owner: str) -> None:
    """Roles belong to the cluster, and would outlive the database."""
    name = make_url(owner).database or ""
    drop_database(stack, name)
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as admin:
        for kind in KINDS.values():
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(f"{kind.role}_{name}")))
