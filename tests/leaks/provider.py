"""Between the service and the stand-in: every answer is poisoned, with what Stripe says about people and worse."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

import urllib3
from canaries import Canaries
from http_server import HttpServer

ANSWER, ERROR, PAGE, HEADER, HOSTILE = (
    Canaries(f"provider's {place}") for place in ("answer", "error", "page", "header", "hostile")
)
ALL = (ANSWER, ERROR, PAGE, HEADER, HOSTILE)


def about_a_person(canaries: Canaries) -> dict[str, Any]:
    """As charges, intents and invoices carry it."""
    address = {"line1": canaries["address"], "city": "Berlin"}
    person = {"name": canaries["name"], "email": canaries["email"], "phone": canaries["phone"], "address": address}
    method = {"card": {"number": canaries["card"], "cvc": canaries["cvc"]}, "sepa_debit": {"iban": canaries["iban"]}}
    return {
        "billing_details": person,
        "shipping": person,
        "receipt_email": canaries["email"],
        "customer_name": canaries["name"],
        "customer_address": address,
        "description": canaries.text,
        "statement_descriptor": canaries["card"],
        "client_secret": canaries["stripe_secret"],
        "payment_method_data": method,
        "last_payment_error": {"message": canaries.text},
        "note": canaries.text,
    }


def poisoned(data: Any, canaries: Canaries) -> Any:
    if isinstance(data, list):
        return [poisoned(item, canaries) for item in data]
    if not isinstance(data, dict):
        return data
    kept = {name: poisoned(value, canaries) for name, value in data.items()}
    if "error" in kept:
        error = {**kept["error"], **about_a_person(ERROR), "message": ERROR.text, "doc_url": ERROR.text}
        return {**kept, "error": error}
    if "metadata" in kept:
        kept["metadata"] = {**kept["metadata"], "customer": canaries.text, canaries["email"]: canaries["name"]}
    return {**about_a_person(canaries), **kept}


def hostile(data: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that is read says something about a person."""
    return {
        **data,
        "status": HOSTILE["name"],
        "currency": HOSTILE["email"],
        "amount_received": int(HOSTILE["card"]),
        "total": int(HOSTILE["card"]),
        # Of the very shape that an id or a code has.
        "latest_charge": HOSTILE["stripe_secret"],
        "number": HOSTILE["card"],
        "cancellation_reason": HOSTILE["stripe_key"],
        "metadata": {"billing_operation": HOSTILE.text},
    }


class Provider:
    """`behave[intent]` is `page`, once, or `hostile_error`, `hostile_object`; else an answer is only poisoned."""

    def __init__(self, standin: str) -> None:
        self.behave: dict[str, str] = {}
        self._pool = urllib3.PoolManager(retries=False, maxsize=16)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider._pass_on(self, standin)

            do_POST = do_DELETE = do_GET  # noqa: N815 - as the base class has them

            def log_message(self, *_: object) -> None: ...

        self._server = HttpServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._pool.clear()

    def _pass_on(self, asked: BaseHTTPRequestHandler, standin: str) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in asked.headers.items() if name.lower() != "host"}
        told = self._pool.request(asked.command, standin + asked.path, headers=headers, body=body)
        status, content = told.status, told.data
        intent = next((intent for intent in self.behave if f"{intent}/capture" in asked.path), "")
        way = self.behave.get(intent, "")
        if way == "page":
            del self.behave[intent]
            status, content = 502, f"<html>{PAGE.text}</html>".encode()
        elif way == "hostile_error":
            codes = {
                "type": "card_error",
                "code": HOSTILE["stripe_key"],
                "decline_code": HOSTILE["card"],
                "param": HOSTILE["email"],
                "message": HOSTILE.text,
                "charge": HOSTILE["stripe_secret"],
            }
            status, content = 402, json.dumps({"error": codes}).encode()
        else:
            data = poisoned(json.loads(content), ANSWER)
            content = json.dumps(hostile(data) if way == "hostile_object" else data).encode()
        asked.send_response(status)
        for name, value in told.headers.items():
            if name.lower() in ("content-type", "original-request", "idempotent-replayed"):
                asked.send_header(name, value)
        request_id = told.headers.get("Request-Id", "") if not way.startswith("hostile") else HEADER["email"]
        asked.send_header("Request-Id", request_id)
        for name in ("X-Customer", "Set-Cookie", "WWW-Authenticate", "Stripe-Note"):
            asked.send_header(name, HEADER.text)
        asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content)
