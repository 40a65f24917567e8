"""One HTTP request, exactly as recorded: bytes, not-after, one total budget, no redirects, no environment."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from billing.gateway import Budget, boot_clock

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 20.0
IDLE_S = 60.0
"""A connection that was unused for this long is not used again: a NAT or a load balancer on the way forgets it after
some minutes, and reports nothing."""
_CHUNK = 65_536


class TooLate(Exception):
    """The call may no longer start; not one byte of it left. Never crosses the gateway."""


class Unreached(Exception):
    """No connection was made, so not one byte of the call left. Never crosses the gateway."""


class OverBudget(Exception):
    """The answer did not arrive whole within the call's budget. Never crosses the gateway."""


BROKEN = (urllib3.exceptions.HTTPError, OSError)
"""What a broken exchange raises."""
CUT_SHORT = (urllib3.exceptions.IncompleteRead, urllib3.exceptions.ProtocolError)
"""Those of them where the answer ended before it was whole."""


class TooLarge(Exception):
    """The answer has more bytes than were asked for; the rest was not read."""


_current = threading.local()


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
            # By connection: the next exchange on a pooled connection replaces an entry that is still here.
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


@contextlib.contextmanager
def cut_at(connection: socket.socket, at: float) -> Iterator[None]:
    """While it is open, this connection is cut when the boot clock says `at`: for a protocol that is no HTTP."""
    watched = _WATCH.over(connection, at)
    try:
        yield
    finally:
        _WATCH.done(watched)


class _ChecksNotAfter:
    """Connects first, and checks the not-after immediately before the first byte is written."""

    # http.client would open another connection in the middle of a request whose own was closed.
    auto_open = 0
    opened_at = used_at = float("-inf")

    def connect(self) -> None:
        """TLS included. What fails here has failed before the first byte of the request."""
        try:
            super().connect()  # type: ignore[misc]
        except Exception as error:
            if _current.writing:
                raise
            raise Unreached(type(error).__name__) from error
        self.opened_at = boot_clock()

    def request(self, *args: Any, **kwargs: Any) -> None:
        connection: Any = self
        if connection.is_closed:
            connection.connect()
        if boot_clock() > _current.budget.not_after:
            raise TooLate
        self.used_at = boot_clock()
        _current.watched = _WATCH.over(connection.sock, _current.budget.over_at)
        _current.writing = True
        super().request(*args, **kwargs)  # type: ignore[misc]


class _Connection(_ChecksNotAfter, HTTPConnection):
    pass


class _SecureConnection(_ChecksNotAfter, HTTPSConnection):
    pass


class _Kept:
    """Keeps connections for later calls. One that was unused for `IDLE_S` is opened anew. If one stays silent, all that
    were open at that time are opened anew, because each could hold a call for its whole budget."""

    silent_at = float("-inf")

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        if connection.opened_at <= self.silent_at or boot_clock() > connection.used_at + IDLE_S:
            connection.close()
        return connection


class _Pool(_Kept, HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(_Kept, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


Pool = _Pool | _SecurePool


def open_pool(base_url: str, connections: int) -> Pool:
    """Kept connections to one host, no more than there are crew threads. Proxies and netrc are never consulted."""
    url = urllib3.util.parse_url(base_url)
    settings: dict[str, Any] = {"maxsize": connections, "retries": False}
    if url.scheme == "https":
        return _SecurePool(url.host or "", url.port or 443, **settings)
    return _Pool(url.host or "", url.port or 80, **settings)


def exchange(
    pool: Pool,
    budget: Budget,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: str,
    most: int | None = None,
) -> tuple[bytes, int, Mapping[str, str]]:
    """Send once and read the whole answer. Status, body and headers come back whatever the status is.

    `most`: the most bytes of the answer's body. Raises TooLate and Unreached (nothing was sent), OverBudget, TooLarge,
    and what urllib3 raises for a broken exchange.
    """
    _current.budget, _current.writing = budget, False
    left = budget.over_at - boot_clock()
    if left <= 0:
        raise TooLate
    _current.watched = None
    began = boot_clock()
    try:
        answer = _exchange(pool, budget, left, method, path, headers, body, most)
    except Exception as error:
        if _was_cut() or isinstance(error, urllib3.exceptions.ReadTimeoutError | OverBudget):
            pool.silent_at = max(pool.silent_at, began)
        raise
    if _was_cut():
        pool.silent_at = max(pool.silent_at, began)
        raise OverBudget
    return answer


def _was_cut() -> bool:
    return _current.watched is not None and not _WATCH.done(_current.watched)


def _exchange(
    pool: Pool,
    budget: Budget,
    left: float,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: str,
    most: int | None,
) -> tuple[bytes, int, Mapping[str, str]]:
    answer = pool.urlopen(
        method,
        path,
        body=body.encode() if body else None,
        headers=dict(headers),
        # A redirect is never followed to another host; it counts as an answer that says nothing.
        redirect=False,
        retries=False,
        timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, left), read=min(READ_TIMEOUT_S, left)),
        preload_content=False,
    )
    try:
        return _whole(answer, budget, most), answer.status, answer.headers
    except BaseException:
        answer.close()
        raise
    finally:
        answer.release_conn()


def _whole(answer: urllib3.BaseHTTPResponse, budget: Budget, most: int | None) -> bytes:
    announced = answer.headers.get("Content-Length", "")
    if most is not None and announced.isdecimal() and int(announced) > most:
        raise TooLarge
    chunks, size = [], 0
    while chunk := answer.read1(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if most is not None and size > most:
            raise TooLarge
        if boot_clock() > budget.over_at:
            raise OverBudget
    return b"".join(chunks)
