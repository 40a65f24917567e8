"""The thread that cuts calls over their budget harms no other call, on TLS and on connections that are used again."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import PATIENCE_S, eventually

from billing import transport
from billing.gateway import Budget, NoAnswer, NotSent, Request, Response, boot_clock
from billing.stripe_gateway import StripeGateway

POST = Request("POST", "/v1/payment_intents/pi_1/capture", "amount_to_capture=1", "key-1")


@pytest.fixture
def trickling_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An HTTPS server that answers one byte every 20 ms."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            certificate,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "keyUsage=digitalSignature,keyCertSign",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(raw: socket.socket) -> None:
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not over.wait(0.0002):
                    connection.sendall(b" ")
        except OSError:
            pass

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    listening.close()


def test_a_tls_connection_that_is_cut_is_no_answer_and_not_a_bug(
    trickling_tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSLSocket.shutdown` drops its TLS object first, and a read after that raises ValueError, which is no OSError.

    What escapes the gateway counts as an attempt: a slow Stripe must not quarantine captures.
    """
    door = StripeGateway(lambda: "sk_test_1", trickling_tls, livemode=False, connections=1)
    cut = 0
    while cut < 20:
        result = door.send(POST, Budget(boot_clock() + 5, boot_clock() + 0.15))
        # On a busy machine its time may be over before it is connected.
        assert isinstance(result, NoAnswer | NotSent)
        assert "SSL" not in result.why, "the certificate of this test is not believed"
        cut += isinstance(result, NoAnswer)


def test_cutting_a_tls_connection_never_lets_a_byte_through_in_the_clear(trickling_tls: str) -> None:
    """`SSLSocket.shutdown` drops its TLS object before it shuts down: what is written in between would be plain text,
    the API key of the next call on that connection.
    """
    port = int(trickling_tls.rpartition(":")[2])
    sent_in_the_clear: list[bytes] = []

    class Pausing(ssl.SSLSocket):
        """Another thread's turn comes exactly between the two statements of `SSLSocket.shutdown`."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_sslobj" and value is None and getattr(self, "watched", False):
                sent_in_the_clear.append(b"Authorization: Bearer sk_live_...")
                self.send(sent_in_the_clear[0])

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = Pausing
    with socket.create_connection(("127.0.0.1", port)) as raw, context.wrap_socket(raw) as connection:
        connection.watched = True  # type: ignore[attr-defined]
        transport._WATCH.over(connection, boot_clock() - 1)
        until = boot_clock() + PATIENCE_S
        while threading.get_ident() in transport._WATCH._watched and boot_clock() < until:
            pass
        import time

        time.sleep(0.2)
        connection.watched = False  # type: ignore[attr-defined]
    assert sent_in_the_clear == []


def test_the_watch_never_cuts_a_connection_that_another_call_uses_by_now() -> None:
    """One call's answer is whole and its connection is in the pool; another takes it while the first is watched."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    listening = socket.create_server(("127.0.0.1", 0))
    second_came, cut = threading.Event(), threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        connection.recv(65_536)
        connection.sendall(answer)
        if connection.recv(65_536):
            second_came.set()
            cut.wait(PATIENCE_S)
            with contextlib.suppress(OSError):
                connection.sendall(answer)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    port = listening.getsockname()[1]
    door = StripeGateway(lambda: "sk_test_1", f"http://127.0.0.1:{port}", livemode=False, connections=1)
    results: dict[str, object] = {}
    over_at = boot_clock() + 3
    done = transport._WATCH.done
    a_released = threading.Event()

    def slow_done(entry: object) -> bool:
        if threading.current_thread().name == "A":
            a_released.set()
            # A is between giving its connection back and telling the watch; its budget passes now.
            cut.wait(PATIENCE_S)
        return done(entry)  # type: ignore[arg-type]

    transport._WATCH.done = slow_done  # type: ignore[method-assign]
    try:
        a = threading.Thread(name="A", target=lambda: results.update(a=door.send(POST, Budget(over_at, over_at))))
        a.start()
        assert a_released.wait(PATIENCE_S)
        b = threading.Thread(
            name="B",
            target=lambda: results.update(b=door.send(POST, Budget(boot_clock() + 5, boot_clock() + PATIENCE_S))),
        )
        b.start()
        assert second_came.wait(PATIENCE_S)
        eventually(lambda: boot_clock() > over_at + 0.3, "the first call's budget is over")
        cut.set()
        a.join()
        b.join()
    finally:
        transport._WATCH.done = done  # type: ignore[method-assign]
        listening.close()
    assert isinstance(results["b"], Response), results["b"]
