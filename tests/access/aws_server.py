"""A small server of ours that speaks the JSON of AWS Secrets Manager and of Systems Manager's Parameter Store."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from http_server import HttpServer

_JSON = "application/x-amz-json-1.1"


@dataclass
class Aws:
    """What lies there, by name; and what was asked for, as (operation, name, who signed)."""

    url: str = ""
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    fails_with: tuple[int, bytes] | None = None

    def answer(self, target: str, request: dict[str, Any], signature: str) -> tuple[int, bytes]:
        operation = target.partition(".")[2]
        name = request.get("SecretId") or request.get("Name") or ""
        self.asked.append((operation, name, signature.partition("Credential=")[2].partition("/")[0]))
        if self.fails_with is not None:
            return self.fails_with
        match target:
            case "secretsmanager.GetSecretValue" if name in self.secrets:
                return _told({"Name": name, **self.secrets[name]})
            case "secretsmanager.GetSecretValue":
                return error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
            case "AmazonSSM.GetParameter" if name in self.parameters:
                # Without decryption a SecureString comes as it is stored.
                value = self.parameters[name] if request.get("WithDecryption") else "AQICAHhencrypted"
                return _told({"Parameter": {"Name": name, "Type": "SecureString", "Value": value}})
            case _:
                return error("ParameterNotFound", "")


def error(code: str, message: str, status: int = 400) -> tuple[int, bytes]:
    return status, json.dumps({"__type": code, "message": message}).encode()


def _told(answer: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps(answer).encode()


@contextmanager
def serving() -> Iterator[Aws]:
    aws = Aws()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = aws.answer(self.headers["X-Amz-Target"], request, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Type", _JSON)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HttpServer(("127.0.0.1", 0), Handler)
    aws.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
