"""A connection pooler in transaction mode between an application and Postgres: ours, or the real PgBouncer.

`TransactionPooler` speaks as much of Postgres' protocol as that takes: it refuses startup parameters that cannot be
kept for a client, in PgBouncer's words, and lends one of two server connections for one transaction at a time, in turn,
so that whatever needs a session is found out at once. Source: postgresql.org/docs/current/protocol.html.
"""

import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from jobs.local.postgres import _give, _unprivileged
from jobs.local.supervisor import Supervisor, wait_until

_NEGOTIATIONS = (80877103, 80877104)  # TLS, GSSAPI
_TRACKED = {"client_encoding", "datestyle", "timezone", "standard_conforming_strings", "application_name"}


class TransactionPooler:
    """On a loopback port, for one user. `options_dropped`: as with PgBouncer's ignore_startup_parameters = options."""

    def __init__(self, server_url: str, *, options_dropped: bool = False) -> None:
        self._server_url = make_url(server_url)
        self._dropped = {"options"} if options_dropped else set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._idle: list[Any] = []
        self._opened: list[Any] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        port = self._listener.getsockname()[1]
        return self._server_url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    def close(self) -> None:
        self._listener.close()
        for server in self._opened:
            server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                if self._welcome(client):
                    while self._one_transaction(client):
                        pass
            except (ConnectionError, OSError, struct.error):
                return

    def _welcome(self, client: socket.socket) -> bool:
        while (code := (packet := _startup(client))[0]) in _NEGOTIATIONS:
            client.sendall(b"N")
        words = packet[1].split(b"\0")
        given = {name.decode().lower() for name in words[:-2:2]} if code == 196608 else {"protocol"}
        refused = sorted(given - _TRACKED - self._dropped - {"user", "database"})
        if refused:
            told = f"unsupported startup parameter: {refused[0]}"
            client.sendall(_message(b"E", f"SFATAL\0VFATAL\0C08P01\0M{told}\0\0".encode()))
            return False
        server = self._borrow()
        reports = [f"{name}\0{server.info.parameter_status(name)}\0".encode() for name in _REPORTED]
        self._give_back(server)
        client.sendall(
            _message(b"R", struct.pack("!i", 0))
            + b"".join(_message(b"S", report) for report in reports)
            + _message(b"K", struct.pack("!ii", 1, 1))
            + _message(b"Z", b"I")
        )
        return True

    def _one_transaction(self, client: socket.socket) -> bool:
        """A server connection from the client's first message until the server says that no transaction is open."""
        first = _read(client)
        if first is None or first[0] == b"X":
            return False
        server = self._borrow()
        stream = socket.socket(fileno=socket.dup(server.pgconn.socket))
        stream.setblocking(True)
        with stream:
            message: tuple[bytes, bytes] | None = first
            while message is not None:
                stream.sendall(_message(*message))
                if message[0] in b"QSF":  # a query, or the end of several messages: now it answers
                    status = _copy_until_ready(stream, client)
                    if status == b"I":
                        self._give_back(server)
                        return True
                message = _read(client)
        server.close()  # the client went away within a transaction
        return False

    def _borrow(self) -> Any:
        with self._lock:
            # With two at hand, the next transaction is never on the last one's connection.
            if len(self._idle) > 1:
                return self._idle.pop(0)
            plain = self._server_url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._opened.append(psycopg.connect(plain, autocommit=True))
            return self._opened[-1]

    def _give_back(self, server: Any) -> None:
        with self._lock:
            self._idle.append(server)


_REPORTED = ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes",
             "standard_conforming_strings", "IntervalStyle")  # fmt: skip


def _startup(client: socket.socket) -> tuple[int, bytes]:
    length, code = struct.unpack("!ii", _exactly(client, 8))
    return code, _exactly(client, length - 8)


def _read(stream: socket.socket) -> tuple[bytes, bytes] | None:
    kind = stream.recv(1)
    if not kind:
        return None
    (length,) = struct.unpack("!i", _exactly(stream, 4))
    return kind, _exactly(stream, length - 4)


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise ConnectionError("the other end is gone")
        data += more
    return data


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _copy_until_ready(server: socket.socket, client: socket.socket) -> bytes:
    while (message := _read(server)) is not None:
        client.sendall(_message(*message))
        if message[0] == b"Z":
            return message[1]
    raise ConnectionError("the server is gone")


@contextmanager
def ours(server_url: str, *, options_dropped: bool = False) -> Iterator[str]:
    pooler = TransactionPooler(server_url, options_dropped=options_dropped)
    yield pooler.url
    pooler.close()


@contextmanager
def pgbouncer(server_url: str, *, options_dropped: bool = False) -> Iterator[str]:
    """The real one, from the PATH, in transaction mode with two connections."""
    program = shutil.which("pgbouncer")
    assert program is not None
    server = make_url(server_url)
    identity = _unprivileged()
    with Supervisor() as supervisor, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        home = supervisor.directory / "pgbouncer"
        home.mkdir()
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "ignore_startup_parameters": "options" if options_dropped else "",
        }
        place = f"host={server.host} port={server.port} user={server.username} password={server.password}"
        (home / "pgbouncer.ini").write_text(
            f"[databases]\n* = {place}\n[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        supervisor.directory.chmod(0o711)
        _give(home, identity)
        child = supervisor.spawn(
            "pgbouncer", [program, str(home / "pgbouncer.ini")], {"PATH": "/usr/bin:/bin"}, identity=identity, cwd=home
        )
        wait_until(lambda: "process up" in child.output(), "pgbouncer to listen")
        yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        child.terminate()


POOLERS: dict[str, Callable[..., Any]] = {"ours": ours}
if shutil.which("pgbouncer"):
    POOLERS["pgbouncer"] = pgbouncer
