"""One bad client of `billing serve` harms only itself: one that is silent, slow, or has no end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from service import eventually
from test_serving import Web
from uvicorn import Config, Server

from jobs.local.supervisor import Child
from jobs.web import application, connection
from jobs.web.application import Application
from jobs.web.connection import HEAD_MOST, Connection
from jobs.web.inbox_writer import InboxFull

CLIENTS = 4
"""So many connections the server of these tests has at once."""
SOON_S = 0.3


class _Full:
    async def put(self, _event: object) -> None:
        raise InboxFull


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server in this process, with the application of `billing serve` and shorter times."""
    monkeypatch.setattr(connection, "HEAD_WITHIN_S", SOON_S)
    monkeypatch.setattr(application, "BODY_WITHIN_S", SOON_S)
    config = Config(
        Application(_Full(), lambda _: ["whsec_aaaaaaaaaaaaaaaaaaaa"], lambda: None, livemode=False),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        limit_concurrency=CLIENTS + 1,
    )
    config.timeout_keep_alive = SOON_S  # type: ignore[assignment] - the loop's timers take any
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=server.run, args=([listener],))
        serving.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        serving.join()


def status(port: int) -> int | None:
    """Of a question that has an answer; None if the connection was ended instead."""
    try:
        asked = HTTPConnection("127.0.0.1", port, timeout=60)
        asked.request("GET", "/healthz", headers={"Connection": "close"})
        return asked.getresponse().status
    except (OSError, HTTPException):
        return None


@pytest.mark.parametrize(
    "begins",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\nGET /",
        b"POST /webhooks/stripe HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n",
    ],
    ids=["nothing", "half-a-head", "another-question", "half-a-body"],
)
def test_clients_that_go_on_too_slowly_are_left_and_others_are_answered(port: int, begins: bytes) -> None:
    with ExitStack() as open_till_the_end:
        clients = [
            open_till_the_end.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CLIENTS)
        ]
        for client in clients:
            client.sendall(begins)
        left: set[socket.socket] = set()

        def trickle() -> bool:
            for client in [each for each in clients if begins and each not in left]:
                try:
                    client.send(b"G")
                except OSError:
                    left.add(client)
            return status(port) == 200 and len(left) == (CLIENTS if begins else 0)

        eventually(trickle, "others are answered, and the slow ones are left")


def test_a_client_whose_requests_follow_each_other_is_not_left(port: int) -> None:
    client = HTTPConnection("127.0.0.1", port, timeout=60)
    until = time.monotonic() + 4 * SOON_S
    answers = []
    while time.monotonic() < until:
        client.request("GET", "/healthz")
        answer = client.getresponse()
        answers.append((answer.status, answer.read()))
    assert {status for status, _ in answers} == {200}
    assert client.sock is not None, "it was one connection"
    client.close()


@pytest.mark.parametrize(
    "begins",
    [
        b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-Long: ",
        b"GET /",
        b"POST /healthz HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
    ],
    ids=["header", "path", "trailer"],
)
def test_a_head_without_an_end_is_not_read_into_memory(spawn: Callable[..., Child], begins: bytes) -> None:
    secret = {"BILLING_WEBHOOK_SECRETS": "env:SIGNED", "SIGNED": "whsec_aaaaaaaaaaaaaaaaaaaa"}
    web = Web(spawn("serve", "--port", "0", **secret), Path())
    host, port = web.url.removeprefix("http://").split(":")
    most, sent = 100 * HEAD_MOST, 0
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(begins)
        try:
            while sent < most:
                client.sendall(b"a" * HEAD_MOST)
                sent += HEAD_MOST
        except OSError:
            pass
    assert sent < most, "it was left before"
    assert web.ask("GET", "/healthz")[0] == 200
