"""One request through the SDK and our transport: what is on the wire, and what becomes of what comes back."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stripe
from hostile_server import HostileServer, answer, header
from service import PATIENCE_S

from billing import transport
from billing.gateway import Answer, Budget, KeyUnavailable, NoAnswer, NotSent, Request, Response, boot_clock, encode
from billing.stripe_gateway import API_VERSION, StripeGateway

ROOT = Path(__file__).parents[2]
KEY = "billing:test:cap_1:capture:g1"
BODY = "amount_to_capture=1999&metadata[billing_operation]=cap_1&odd=a+b%26%2B%C3%A9"
POST = Request("POST", "/v1/payment_intents/pi_1/capture", BODY, KEY)
GET = Request("GET", "/v1/payment_intents/pi_1?expand[0]=latest_charge")
OK = answer("200 OK", b'{"id": "pi_1"}', "Request-Id: req_1")


def budget(seconds: float = 5.0, *, not_after_s: float | None = None) -> Budget:
    now = boot_clock()
    return Budget(now + (seconds if not_after_s is None else not_after_s), now + seconds)


def gateway(url: str, key: Callable[[], str] = lambda: "sk_test_x", connections: int = 2) -> StripeGateway:
    return StripeGateway(key, url, livemode=False, connections=connections)


def says(*parts: bytes, then_close: bool = False) -> Callable[[socket.socket, bytes], None]:
    def behave(connection: socket.socket, _request: bytes) -> None:
        for part in parts:
            connection.sendall(part)
        if then_close:
            connection.shutdown(socket.SHUT_RDWR)

    return behave


def asked(*parts: bytes, request: Request = POST, then_close: bool = False) -> tuple[Answer, HostileServer]:
    with HostileServer(says(*parts, then_close=then_close)) as server:
        return gateway(server.url).send(request, budget()), server


# On the wire.


def test_the_recorded_bytes_are_sent_and_no_others():
    """[16]"""
    _, server = asked(OK)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == BODY.encode()
    assert head.split(b"\r\n")[0] == b"POST /v1/payment_intents/pi_1/capture HTTP/1.1"
    assert header(server.requests[0], "content-type") == "application/x-www-form-urlencoded"


def test_the_headers_are_the_recorded_key_the_pinned_version_and_our_credentials():
    """[44]"""
    _, server = asked(OK)
    sent = server.requests[0]
    assert header(sent, "idempotency-key") == KEY
    assert header(sent, "stripe-version") == API_VERSION == "2026-10-28.endive"
    assert header(sent, "authorization") == "Bearer sk_test_x"
    assert header(sent, "stripe-account") is None
    assert "telemetry" not in (header(sent, "x-stripe-client-user-agent") or "")


def test_the_pinned_version_is_the_one_of_the_installed_sdk():
    assert stripe.api_version == API_VERSION


def test_another_account_is_named_in_its_header():
    """[40]"""
    _, server = asked(OK, request=Request("POST", "/v1/x", "", KEY, "acct_2"))
    assert header(server.requests[0], "stripe-account") == "acct_2"


def test_a_post_without_a_body_says_so():
    _, server = asked(OK, request=Request("POST", "/v1/invoices/in_1/send", "", KEY))
    assert header(server.requests[0], "content-length") == "0"
    assert header(server.requests[0], "idempotency-key") == KEY


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_reading_and_deleting_carry_no_key(method: str):
    _, server = asked(OK, request=Request(method, "/v1/invoices/in_1", "", KEY))
    assert header(server.requests[0], "idempotency-key") is None
    assert server.requests[0].startswith(f"{method} /v1/invoices/in_1 ".encode())


@pytest.mark.parametrize("key", [None, ""])
def test_a_post_without_a_key_never_leaves(key: str | None):
    """[19] The SDK would make one up, and a random key is a double charge."""
    result, server = asked(OK, request=Request("POST", "/v1/x", "a=1", key))
    assert isinstance(result, NotSent)
    assert server.connections == 0


def test_the_api_key_is_asked_for_at_every_request():
    keys = iter(["sk_test_old", "sk_test_new"])
    with HostileServer(says(OK)) as server:
        door = gateway(server.url, lambda: next(keys))
        for _ in range(2):
            door.send(POST, budget())
        assert [header(sent, "authorization") for sent in server.requests] == [
            "Bearer sk_test_old",
            "Bearer sk_test_new",
        ]


def test_a_secret_that_cannot_be_read_sends_nothing_and_is_no_crash():
    def unreadable() -> str:
        raise KeyUnavailable("the secret's file is gone")

    with HostileServer(says(OK)) as server:
        assert isinstance(gateway(server.url, unreadable).send(POST, budget()), NotSent)


# What comes back.


def test_a_success_is_its_status_its_body_and_its_request_id():
    result, _ = asked(OK)
    assert result == Response(200, b'{"id":"pi_1"}', {"id": "pi_1"}, "req_1", replayed=False)


ERROR = b'{"error": {"type": "invalid_request_error", "code": "a_code", "payment_intent": {"id": "pi_1"}}}'


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 424, 429, 500, 502, 503])
def test_an_error_keeps_its_status_its_code_and_its_object_and_is_tried_once(status: int):
    result, server = asked(answer(f"{status} X", ERROR, "Request-Id: req_1"))
    assert isinstance(result, Response)
    assert (result.status, result.error_code, result.request_id) == (status, "a_code", "req_1")
    assert json.loads(result.kept) == json.loads(ERROR)
    assert result.data is not None
    assert result.data["error"]["payment_intent"]["id"] == "pi_1"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 402, 429, 500])
@pytest.mark.parametrize(
    ("headers", "replayed"),
    [
        ((), False),
        (("Idempotent-Replayed: true",), True),
        (("Original-Request: req_1",), False),
        (("Original-Request: req_0",), True),
    ],
)
def test_a_replay_shows_itself_by_its_header_or_by_the_request_it_repeats(
    status: int, headers: tuple[str, ...], replayed: bool
):
    result, _ = asked(answer(f"{status} X", ERROR, "Request-Id: req_1", *headers))
    assert isinstance(result, Response)
    assert result.replayed is replayed


PAGES = {
    "a page": answer("200 OK", b"<html>welcome</html>", "Content-Type: text/html"),
    "nothing": answer("200 OK", b""),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "half an object": answer("200 OK", b'{"id": "pi_'),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_success_that_cannot_be_read_is_no_answer(page: bytes):
    result, _ = asked(page)
    assert isinstance(result, NoAnswer) or (isinstance(result, Response) and result.data is None)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"pi_1"', b"1", b"[1]"])
def test_a_success_that_is_no_object_shows_no_data(body: bytes):
    result, _ = asked(answer("200 OK", body))
    assert isinstance(result, NoAnswer) or (isinstance(result, Response) and result.data is None)


@pytest.mark.parametrize("status", ["307 X", "400 X", "404 X", "502 X"])
def test_a_page_with_an_error_status_shows_no_data(status: str):
    result, _ = asked(answer(status, b"<html>", "Request-Id: req_1"))
    assert isinstance(result, Response)
    assert result.data is None


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"message": "x"}', b"[]"])
def test_a_replayed_server_error_is_seen_as_replayed_whatever_its_body(body: bytes):
    result, _ = asked(answer("500 X", body, "Request-Id: req_1", "Idempotent-Replayed: true"))
    assert isinstance(result, Response)
    assert result.replayed


STRANGE = {
    "error is a list": answer("400 X", b'{"error": [1]}'),
    "error is null": answer("500 X", b'{"error": null}'),
    "error is a number": answer("400 X", b'{"error": 5}'),
    "not utf-8": answer("200 OK", b'\xff\xfe{"id": 1}'),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_nothing_that_comes_back_is_raised(strange: bytes):
    result, _ = asked(strange)
    assert isinstance(result, Response | NoAnswer)


def test_an_oauth_shaped_error_is_not_believed():
    result, _ = asked(answer("400 X", b'{"error": "invalid_grant"}'))
    assert isinstance(result, NoAnswer) or (isinstance(result, Response) and result.error_code is None)


BROKEN = {
    "cut off in the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",),
    "cut off in the headers": (b"HTTP/1.1 200 OK\r\nContent-Le",),
    "cut off in a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",),
    "not http": (b"SSH-2.0-OpenSSH\r\n",),
    "closed at once": (),
    "not gzip": (answer("200 OK", b'{"id": 1}', "Content-Encoding: gzip"),),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",),
}


@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN)
def test_a_broken_exchange_is_no_answer(parts: tuple[bytes, ...]):
    """[57]"""
    result, server = asked(*parts, then_close=True)
    assert isinstance(result, NoAnswer) or (isinstance(result, Response) and result.data is None)
    assert len(server.requests) == 1


def test_a_reset_connection_is_no_answer():
    def reset(connection: socket.socket, _request: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    with HostileServer(reset) as server:
        assert isinstance(gateway(server.url).send(POST, budget()), NoAnswer)


# Nobody else is talked to.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_stranger_sees_nothing(status: int):
    with HostileServer(says(OK)) as stranger:
        moved = answer(f"{status} Moved", b"", f"Location: {stranger.url}/v1/payment_intents/pi_1/capture")
        result, server = asked(moved)
        assert isinstance(result, Response)
        assert result.status == status
        assert len(server.requests) == 1
        assert stranger.connections == 0


def test_neither_proxies_nor_netrc_nor_a_missing_home_change_a_request(tmp_path: Path):
    """[58] In a process of its own, with an environment that would send the key to a stranger."""
    with HostileServer(says(OK)) as server, HostileServer(says(OK)) as stranger:
        (tmp_path / ".netrc").write_text("default login thief password thief\n")
        (tmp_path / ".netrc").chmod(0o600)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), stranger.url),
        }
        program = _program(server.url)
        for changed in (environment, {name: value for name, value in environment.items() if name != "HOME"}):
            run = subprocess.run(program, cwd=ROOT, env=changed, capture_output=True, text=True, check=False)
            assert (run.returncode, run.stdout) == (0, "200\n"), run.stderr
        assert stranger.connections == 0
        assert [header(sent, "authorization") for sent in server.requests] == ["Bearer sk_test_x"] * 2
        assert [path.name for path in tmp_path.iterdir()] == [".netrc"]


def test_a_process_without_any_home_directory_can_call():
    """[59] As in a hardened container: left alone, the SDK dies at its first call, looking for one."""
    without_home = """
import pathlib
def home(*_):
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = pathlib.Path.expanduser = home
"""
    with HostileServer(says(OK)) as server:
        program = _program(server.url)
        program[-1] = without_home + program[-1]
        run = subprocess.run(
            program, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
        )
    assert (run.returncode, run.stdout) == (0, "200\n"), run.stderr


def _program(url: str) -> list[str]:
    code = f"""
from billing.gateway import Budget, Request, boot_clock
from billing.stripe_gateway import StripeGateway
door = StripeGateway(lambda: "sk_test_x", {url!r}, livemode=False, connections=1)
until = boot_clock() + 5
print(door.send(Request("POST", "/v1/x", "a=1", "key"), Budget(until, until)).status)
"""
    return [sys.executable, "-W", "error", "-c", code]


# Time.


def test_a_call_that_is_too_late_sends_nothing():
    with HostileServer(says(OK)) as server:
        door = gateway(server.url)
        assert door.send(POST, budget(not_after_s=-0.001)) == NotSent("too late to start")
        assert door.send(POST, budget(-0.001)) == NotSent("too late to start")
        assert not server.requests
        assert isinstance(door.send(POST, budget()), Response)


def test_the_time_is_looked_at_after_connecting(monkeypatch: pytest.MonkeyPatch):
    """Connecting took so long that the call may not start any more."""
    clock = [boot_clock()]
    monkeypatch.setattr(transport, "boot_clock", lambda: clock[0])
    with HostileServer(says(OK)) as server:
        door = gateway(server.url)
        connect = transport._Connection.connect

        def slowly(self: Any) -> None:
            connect(self)
            clock[0] += 10

        monkeypatch.setattr(transport._Connection, "connect", slowly)
        assert isinstance(door.send(POST, Budget(clock[0] + 5, clock[0] + 30)), NotSent)
        # The connection is there now; a call in time uses it, or another one.
        monkeypatch.setattr(transport._Connection, "connect", connect)
        assert isinstance(door.send(POST, Budget(clock[0] + 5, clock[0] + 30)), Response)
        assert len(server.requests) == 1


def _trickle(head: bytes, byte: bytes) -> tuple[Answer, bool]:
    """What a call with a budget of 0.4 s brings back, and whether it stayed for all 50 s of the trickle."""
    stayed = False

    def behave(connection: socket.socket, _request: bytes) -> None:
        nonlocal stayed
        connection.sendall(head)
        for _ in range(1000):
            connection.sendall(byte)
            if server.wait(0.05):
                return
        stayed = True

    with HostileServer(behave) as server:
        return gateway(server.url).send(POST, budget(0.4)), stayed


def test_a_trickle_of_bytes_does_not_outlast_the_budget():
    result, stayed = _trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" ")
    assert isinstance(result, NoAnswer)
    assert not stayed


def test_a_trickle_of_headers_does_not_outlast_the_budget():
    result, stayed = _trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x")
    assert isinstance(result, NoAnswer)
    assert not stayed


def test_a_body_that_stops_does_not_outlast_the_budget():
    def behave(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        server.wait(0.4)
        connection.sendall(b" ")
        server.wait(PATIENCE_S)

    with HostileServer(behave) as server:
        began = boot_clock()
        result = gateway(server.url).send(POST, budget(0.5))
        took_s = boot_clock() - began
    assert isinstance(result, NoAnswer)
    assert took_s < PATIENCE_S


def test_silence_ends_with_the_budget():
    """Not with the 20 s that a read may take at most."""
    with HostileServer(lambda _connection, _request: None) as server:
        began = boot_clock()
        assert isinstance(gateway(server.url).send(POST, budget(0.3)), NoAnswer)
        assert boot_clock() - began < 15


# Connections.


def test_one_thread_keeps_one_connection():
    with HostileServer(says(OK)) as server:
        door = gateway(server.url)
        for _ in range(5):
            assert isinstance(door.send(POST, budget()), Response)
        assert (len(server.requests), server.connections) == (5, 1)


def test_a_connection_whose_answer_was_not_read_to_its_end_is_not_used_again():
    """Otherwise the rest of one answer would be the beginning of the next."""
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"

    def behave(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(late if len(server.requests) == 1 else OK)

    with HostileServer(behave) as server:
        door = gateway(server.url)
        assert isinstance(door.send(POST, budget(0.2)), NoAnswer)
        result = door.send(POST, budget())
        assert isinstance(result, Response)
        assert result.data == {"id": "pi_1"}
        assert server.connections == 2


def test_threads_get_their_own_answers():
    def echo(connection: socket.socket, request: bytes) -> None:
        key = (header(request, "idempotency-key") or "").encode()
        body = request.partition(b"\r\n\r\n")[2]
        connection.sendall(answer("200 OK", b'{"id": "%s", "object": "%s"}' % (key, body)))

    wrong: list[str] = []
    with HostileServer(echo) as server:
        door = gateway(server.url, connections=4)

        def work(thread: int) -> None:
            for number in range(25):
                name = f"key_{thread}x{number}"
                result = door.send(Request("POST", "/v1/x", f"n_{name}", name), budget())
                if not isinstance(result, Response) or result.data != {"id": name, "object": f"n_{name}"}:
                    wrong.append(f"{name}: {result}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(server.requests) == 100
        assert server.connections <= 4


# The encoding.


def test_parameters_are_encoded_in_their_order_and_always_the_same():
    parameters = {"b": 1, "a": {"x": "é &+", "on": True, "off": False}, "lines": [{"amount": 5}, {"amount": 6}]}
    told = "b=1&a[x]=%C3%A9+%26%2B&a[on]=true&a[off]=false&lines[0][amount]=5&lines[1][amount]=6"
    assert encode(parameters) == told
    assert encode(parameters) == encode(dict(parameters))


@pytest.mark.parametrize("value", [1.0, None, b"x", 1e21, object(), (1, 2), {1}])
def test_what_has_no_place_near_money_cannot_be_encoded(value: Any):
    with pytest.raises(TypeError):
        encode({"amount": value})
