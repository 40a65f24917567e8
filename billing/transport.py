"""One HTTP request, exactly as recorded: bytes, not-after, one total budget, no redirects, no environment."""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from billing.gateway import Budget, boot_clock

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 20.0
_CHUNK = 65_536


class TooLate(Exception):
    """The call may no longer start; not one byte of it left. Never crosses the gateway."""


class OverBudget(Exception):
    """The answer did not arrive whole within the call's budget. Never crosses the gateway."""


_in_hand = threading.local()


class _Watch:
    """Cuts connections whose budget is over: a timeout per read would let a trickle hold a call for ever."""

    EVERY_S = 0.1

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    def over(self, connection: socket.socket, at: float) -> "_Watched":
        """Cut this connection when the boot clock says `at`, unless `done` is called before."""
        entry = _Watched(connection, at)
        with self._lock:
            # By connection: whoever takes it up from the pool next replaces an entry that is still here.
            self._watched[id(connection)] = entry
            # Started here and not at import: a process that forked has none of its parent's threads.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="budget-watch", daemon=True)
                self._thread.start()
        self._some.set()
        return entry

    def done(self, entry: "_Watched") -> bool:
        """This exchange is over. False when its connection was cut: what was read is not whole."""
        with self._lock:
            if self._watched.get(id(entry.connection)) is entry:
                del self._watched[id(entry.connection)]
            return not entry.cut

    def _run(self) -> None:
        while True:
            self._some.wait()
            time.sleep(self.EVERY_S)
            with self._lock:
                for entry in [entry for entry in self._watched.values() if boot_clock() > entry.at]:
                    del self._watched[id(entry.connection)]
                    entry.cut = True
                    with contextlib.suppress(OSError):
                        # Not the SSLSocket's own: it drops TLS first, and a write in between would go out in the clear.
                        socket.socket.shutdown(entry.connection, socket.SHUT_RDWR)
                if not self._watched:
                    self._some.clear()


@dataclass(slots=True)
class _Watched:
    connection: socket.socket
    at: float
    cut: bool = False


_WATCH = _Watch()


class _LastLook:
    """Connects first, and checks the not-after as the last act before a byte is written."""

    def request(self, *args: Any, **kwargs: Any) -> None:
        connection: Any = self
        if connection.is_closed:
            connection.connect()
        if boot_clock() > _in_hand.budget.not_after:
            raise TooLate
        _in_hand.watched = _WATCH.over(connection.sock, _in_hand.budget.over_at)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _Connection(_LastLook, HTTPConnection):
    pass


class _SecureConnection(_LastLook, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def open_pool(base_url: str, connections: int) -> HTTPConnectionPool:
    """Kept connections to one host, no more than there are crew threads. Proxies and netrc are never consulted."""
    url = urllib3.util.parse_url(base_url)
    settings: dict[str, Any] = {"maxsize": connections, "retries": False}
    if url.scheme == "https":
        return _SecurePool(url.host or "", url.port or 443, **settings)
    return _Pool(url.host or "", url.port or 80, **settings)


def exchange(
    pool: HTTPConnectionPool, budget: Budget, method: str, path: str, headers: Mapping[str, str], body: str
) -> tuple[bytes, int, Mapping[str, str]]:
    """Send once and read the whole answer. Status, body and headers come back whatever the status is.

    Raises TooLate (nothing was sent), OverBudget, and what urllib3 raises for a broken exchange.
    """
    _in_hand.budget = budget
    left = budget.over_at - boot_clock()
    if left <= 0:
        raise TooLate
    _in_hand.watched = None
    whole = True
    try:
        answer = _exchange(pool, budget, left, method, path, headers, body)
    finally:
        if _in_hand.watched is not None:
            whole = _WATCH.done(_in_hand.watched)
    if not whole:
        raise OverBudget
    return answer


def _exchange(
    pool: HTTPConnectionPool,
    budget: Budget,
    left: float,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: str,
) -> tuple[bytes, int, Mapping[str, str]]:
    answer = pool.urlopen(
        method,
        path,
        body=body.encode() if body else None,
        headers=dict(headers),
        # A redirect is an answer that we do not believe, never a request to somebody else.
        redirect=False,
        retries=False,
        timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, left), read=min(READ_TIMEOUT_S, left)),
        preload_content=False,
    )
    try:
        return _whole(answer, budget), answer.status, answer.headers
    except BaseException:
        answer.close()
        raise
    finally:
        answer.release_conn()


def _whole(answer: urllib3.BaseHTTPResponse, budget: Budget) -> bytes:
    chunks = []
    while chunk := answer.read1(_CHUNK):
        chunks.append(chunk)
        if boot_clock() > budget.over_at:
            raise OverBudget
    return b"".join(chunks)
