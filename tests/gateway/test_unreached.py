"""What counts as not sent: no connection could be made. Everything after the first byte of a request is in doubt."""

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile_server import HostileServer, answer
from service import PATIENCE_S

from billing import transport
from billing.gateway import Answer, Budget, NoAnswer, NotSent, Request, Response, boot_clock
from billing.stripe_gateway import StripeGateway

POST = Request("POST", "/v1/payment_intents/pi_1/capture", "amount_to_capture=1", "key-1")
OK = answer("200 OK", b'{"object": "payment_intent", "id": "pi_1", "livemode": false}', "Request-Id: req_1")
RESET = struct.pack("ii", 1, 0)


def send(url: str, within_s: float = 3.0) -> Answer:
    return _gateway(url).send(POST, Budget(boot_clock() + within_s, boot_clock() + within_s))


def _gateway(url: str) -> StripeGateway:
    return StripeGateway(lambda: "sk_test_unreached", url, livemode=False, connections=8)


class Raw:
    """Takes a connection, does to it what a test says, and keeps every byte that came."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.bytes = b""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with contextlib.suppress(OSError):
                    self._behave(connection)
                connection.close()

    def read(self, connection: socket.socket) -> bytes:
        data = connection.recv(65_536)
        self.bytes += data
        return data


@pytest.fixture
def raw() -> Iterator[Callable[..., Raw]]:
    opened: list[Raw] = []

    def open_one(behave: Callable[[Raw, socket.socket], None]) -> Raw:
        opened.append(Raw(lambda connection: behave(opened[-1], connection)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_a_refused_connection_has_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert send(f"http://127.0.0.1:{port}") == NotSent("no connection: NewConnectionError", unreached=True)
    assert send(f"https://127.0.0.1:{port}") == NotSent("no connection: NewConnectionError", unreached=True)


def test_a_name_that_cannot_be_found_has_sent_nothing() -> None:
    assert send("https://billing.invalid") == NotSent("no connection: NameResolutionError", unreached=True)


def hang_up(_: Raw, connection: socket.socket) -> None:
    connection.close()


def reset(_: Raw, connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def talk_plainly(raw: Raw, connection: socket.socket) -> None:
    raw.read(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def say_nothing(raw: Raw, connection: socket.socket) -> None:
    while raw.read(connection):
        pass


@pytest.mark.parametrize("behave", [hang_up, talk_plainly, say_nothing], ids=lambda behave: behave.__name__)
def test_a_tls_handshake_that_fails_has_sent_nothing_of_the_request(
    raw: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch, behave: Callable[..., None]
) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT_S", 0.5)
    server = raw(behave)
    result = send(f"https://127.0.0.1:{server.port}")
    assert isinstance(result, NotSent)
    assert result.unreached
    assert not server.bytes or server.bytes[0] == 0x16, "a client's greeting, and nothing else"
    for secret in (b"POST", b"pi_1", b"key-1", b"sk_test_unreached"):
        assert secret not in server.bytes


def test_a_certificate_that_is_not_trusted_has_sent_nothing_of_the_request(
    raw: Callable[..., Raw], tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    made += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    def serve(_: Raw, connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as opened:
            heard.append(opened.recv(65_536))

    result = send(f"https://127.0.0.1:{raw(serve).port}")
    assert result == NotSent("no connection: SSLCertVerificationError", unreached=True)
    assert heard in ([], [b""])


# The controls: from the first byte on it may have arrived, whatever it looks like here.


def read_and_hang_up(raw: Raw, connection: socket.socket) -> None:
    raw.read(connection)


def read_and_reset(raw: Raw, connection: socket.socket) -> None:
    raw.read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def test_a_connection_that_is_reset_leaves_doubt_unless_that_was_seen_while_connecting(raw: Callable[..., Raw]) -> None:
    server = raw(reset)
    result = send(f"http://127.0.0.1:{server.port}")
    # Which of the two it is depends on who is scheduled first; in both, nothing is sent a second time.
    assert isinstance(result, NoAnswer) or (isinstance(result, NotSent) and result.unreached)
    assert server.connections == 1


@pytest.mark.parametrize(
    "behave", [hang_up, read_and_hang_up, read_and_reset, say_nothing], ids=lambda behave: behave.__name__
)
def test_a_connection_that_was_made_leaves_doubt_however_early_it_breaks(
    raw: Callable[..., Raw], behave: Callable[..., None]
) -> None:
    server = raw(behave)
    assert isinstance(send(f"http://127.0.0.1:{server.port}"), NoAnswer)
    assert server.connections == 1, "sent once, on one connection"


def test_a_connection_that_nobody_takes_up_leaves_doubt() -> None:
    # The kernel answers for a server whose process is stuck: the bytes have left.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert isinstance(send(f"http://127.0.0.1:{listener.getsockname()[1]}"), NoAnswer)


@pytest.mark.parametrize("silently", [True, False], ids=["silent", "closed"])
def test_a_kept_connection_that_is_dead_leaves_doubt(silently: bool) -> None:
    def once(connection: socket.socket, _request: bytes) -> None:
        if len(server.requests) == 1:
            connection.sendall(OK)
        elif silently:
            server.wait(PATIENCE_S)
        else:
            connection.close()

    with HostileServer(once) as server:
        door = _gateway(server.url)
        assert isinstance(door.send(POST, Budget(boot_clock() + 30, boot_clock() + 30)), Response)
        assert isinstance(door.send(POST, Budget(boot_clock() + 3, boot_clock() + 3)), NoAnswer)
        assert (len(server.requests), server.connections) == (2, 1)


# Kept connections.


def test_one_dead_connection_speaks_for_all_that_were_kept_beside_it() -> None:
    together, dead = threading.Barrier(4), threading.Event()
    old: set[int] = set()

    def behave(connection: socket.socket, _request: bytes) -> None:
        if not dead.is_set():
            old.add(id(connection))
        elif id(connection) in old:
            server.wait(PATIENCE_S)  # open, and dead
            return
        together.wait(PATIENCE_S)
        connection.sendall(OK)

    with HostileServer(behave) as server, ThreadPoolExecutor(4) as pool:
        door = _gateway(server.url)

        def call(within_s: float) -> Answer:
            return door.send(POST, Budget(boot_clock() + within_s, boot_clock() + within_s))

        assert all(isinstance(each, Response) for each in pool.map(call, [PATIENCE_S] * 4))
        assert server.connections == 4, "four are kept"
        dead.set()
        assert isinstance(call(3.0), NoAnswer)
        assert all(isinstance(each, Response) for each in pool.map(call, [PATIENCE_S] * 4)), (
            "none of the old ones was tried"
        )
        assert server.connections == 8


def test_a_connection_that_was_not_used_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with HostileServer(lambda connection, _: connection.sendall(OK)) as server:
        door = _gateway(server.url)
        for idle_s, connections in ((60.0, 1), (60.0, 1), (-1.0, 2), (60.0, 2)):
            monkeypatch.setattr(transport, "IDLE_S", idle_s)
            assert isinstance(door.send(POST, Budget(boot_clock() + 5, boot_clock() + 5)), Response)
            assert server.connections == connections
