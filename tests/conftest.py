"""What all tests stand on: real servers, started once."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import aws_models  # noqa: F401 - that it is imported has its effect
import psycopg
import pytest
import structlog
import verdicts
from databases import Database, Databases
from moto_server import MotoServer
from service import Service, drop_database, make_old_database, make_template
from sqlalchemy.engine import make_url

from jobs import logs
from jobs.access import migrate
from jobs.config.settings import Settings
from jobs.config.sources import variable
from jobs.local import forked
from jobs.local.seaweed import SeaweedFS
from jobs.local.servers import LocalServers
from jobs.local.servers import StandIn as StandInServer
from jobs.local.supervisor import Child

HOUR_S, LAST_S = 3600, 20
"""Most tests take less than so many seconds, on a busy machine, too."""

# Where no keys are set the SDK of AWS looks for a role: not by asking the network that a test runs in.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
# Wherever in the tests the local servers are started, the stand-in's answers are judged.
StandInServer.program = verdicts.JUDGED


# At once, too: while a test runs pytest has handlers of its own, and no others are set then.
logs.configure("warning")


@pytest.fixture(autouse=True)
def logs_of_warnings() -> None:
    """A command that an earlier test ran in this process may have set up another level."""
    logs.configure("warning")
    # A logger that keeps what it was first used with would keep that level.
    structlog.configure(cache_logger_on_first_use=False)


@contextlib.contextmanager
def files_in_memory() -> Iterator[None]:
    """What is started in here keeps its files in memory, where a system has enough of it for several such runs.

    Thousands of databases are made, of 400 files each, and removed. On a disk that others use, one takes 0.27 s of CPU
    and 0.8 s; in memory 0.03 s and 0.1 s.
    """
    memory = Path("/dev/shm")  # noqa: S108
    with pytest.MonkeyPatch.context() as here:
        if memory.is_dir() and shutil.disk_usage(memory).free > 8 << 30:
            here.setattr(tempfile, "tempdir", str(memory))
        yield


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalServers]:
    """Postgres, Valkey and the Stripe stand-in for the whole run.

    A test that restarts or kills one of them leaves it running.
    """
    servers = LocalServers()
    with files_in_memory():
        servers.start()
    if not os.environ.get("STRIPE_API_BASE"):  # one of your own has no judge
        verdicts.watch(servers.standin.url, "stack")
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def s3(stack: LocalServers) -> Iterator[SeaweedFS]:
    """S3 with Object Lock for the tests that ask for it; each has a bucket of its own."""
    server = SeaweedFS(stack.supervisor, durable=False, environment={})
    server.start()
    yield server
    server.stop()
    server.remove_sockets()


@pytest.fixture(scope="session")
def moto(stack: LocalServers) -> Iterator[MotoServer]:
    """A second S3, for the tests that ask for it."""
    server = MotoServer(stack.supervisor, durable=False, environment={})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(stack: LocalServers) -> LocalServers:
    """The stack, with a migrated database to copy from."""
    make_template(stack)
    return stack


@pytest.fixture(scope="session")
def databases(template: LocalServers) -> Iterator[Databases]:
    databases = Databases(template)
    yield databases
    databases.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated and stamped database of the test's own."""
    database = databases.take()
    yield database
    databases.give_back(database)


@pytest.fixture
def database_url(database: Database) -> str:
    return database.url


@pytest.fixture
def migrated(template: LocalServers) -> Iterator[Callable[..., Service]]:
    """`migrated("0003", *rows)`: a service on a database into which an older version, that of this revision, wrote rows
    by these statements, and which was migrated since."""
    made: list[tuple[str, Service]] = []

    def migrated(revision: str, *rows: str) -> Service:
        name = f"test_{uuid4().hex}"
        url = make_old_database(template, name, revision)
        with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)) as old:
            for statement in rows:
                old.execute(statement)  # type: ignore[call-overload]
        migrate.upgrade(url, environment="test", livemode=False)
        made.append((name, Service(template, url)))
        return made[-1][1]

    yield migrated
    for name, service in made:
        service.close()
        drop_database(template, name)


@pytest.fixture
def service(template: LocalServers, database: Database) -> Iterator[Service]:
    """A service on a database of its own, an empty Redis and a fresh stand-in.

    Just before a full hour it waits until that has struck: a relay writes the hour's runs, and a new day begins at
    midnight in UTC, which is nothing that a test counts on while it runs.
    """
    if (left_s := HOUR_S - time.time() % HOUR_S) < LAST_S:
        time.sleep(left_s)
    service = Service(template, database.url, engines=database.engines_of_a_test())
    service.standin.reset()
    # At once: by default Valkey frees the memory later, and a test may ask how much is used.
    service.redis.execute_command("FLUSHALL", "SYNC")
    yield service
    service.close()


@pytest.fixture
def spawn(template: LocalServers, service: Service) -> Iterator[Callable[..., Child]]:
    """Start a process of this service: `spawn("worker", "captures")`, with more settings if need be.

    It is forked from one that has imported the service (`jobs.local.forked`). `program` is what is started instead: the
    `billing` command of another environment, or `command.BILLING`.
    """
    service.make_no_ticks()
    started: list[Child] = []
    environment = {
        "DATABASE_URL": service.url,
        "BILLING_ENVIRONMENT": "test",
        "BILLING_STRIPE_KEY": "sk_test_processes",
        "BILLING_TIMING": "short",
        # On a busy machine what gives way would wait for longer than a test does.
        "BILLING_FUNCTION_NICENESS": "0",
        "BILLING_LOG_LEVEL": "warning",
        "BILLING_HEALTH_DIRECTORY": str(template.directory / "health"),
    }

    def start(*arguments: str, program: Sequence[str | Path] | None = None, **more: str) -> Child:
        name, settings = "-".join(arguments), {**environment, **more}
        if program is None:
            everything = {**os.environ, **template.environment, **settings}
            started.append(forked.child(name, arguments, everything, template.directory / f"{name}.log"))
        else:
            started.append(template.spawn(name, [*program, *arguments], settings))
        return started[-1]

    yield start
    for child in started:
        if child.poll() is None:
            child.terminate()
        if child.poll() not in (0, -signal.SIGTERM, -signal.SIGKILL):
            # Shown if the test failed.
            print(child.name, "ended with", child.poll(), "after:", child.log.read_text(errors="replace")[-2000:])


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine this runs on, and a working directory without a settings file."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("BILLING_") or name in map(variable, Settings.model_fields):
            monkeypatch.delenv(name)
