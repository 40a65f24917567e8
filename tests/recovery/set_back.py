"""A database that is set back, and what a process does when it starts on it."""

from dataclasses import dataclass

import psycopg
from command import Run
from psycopg import sql
from service import Service, _plain, drop_database
from sqlalchemy.engine import make_url

from jobs.cli.opening import open_process
from jobs.local.servers import LocalServers


def start(role: str = "worker-captures") -> None:
    """What a process does before anything else."""
    process = open_process(role)
    try:
        process.check(provider=True)
    finally:
        process.close()


def pulled(run: Run) -> list[tuple[str, str]]:
    return [(row["scope"], row["actor"]) for row in run("switch", "list", "--json").json]


@dataclass
class Backup:
    """A copy of the service's database, as a backup is: whole, and of one moment."""

    service: Service
    stack: LocalServers

    def __post_init__(self) -> None:
        self.name = str(make_url(self.service.url).database)
        self.admin = _plain(make_url(self.stack.environment["DATABASE_URL"]))

    def take(self) -> None:
        self._copy(self.name, self._saved)

    def put_back(self, *, same_database: bool = False) -> None:
        """`same_database`: as a recovery to a point in time does, which keeps the database's own numbers."""
        self.service.forget_connections()
        drop_database(self.stack, self.name)
        self._copy(self._saved, self.name)
        if same_database:
            self.service.execute(
                "UPDATE billing.lineage SET database_oid = d.oid FROM pg_database AS d"
                " WHERE d.datname = current_database()"
            )

    def remove(self) -> None:
        with psycopg.connect(self.admin, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self._saved)))

    @property
    def _saved(self) -> str:
        return f"{self.name}_saved"

    def _copy(self, source: str, target: str) -> None:
        self.service.forget_connections()
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        with psycopg.connect(self.admin, autocommit=True) as admin:
            admin.execute(copy.format(sql.Identifier(target), sql.Identifier(source)))
