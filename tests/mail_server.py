"""A real SMTP server with TLS, for tests: its mailbox, and what it may do wrong."""

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

OK = "250 2.0.0 Ok: queued as 4XyZ1"
USER, PASSWORD = "billing", "p@ss:word"


class _AnyPort(Controller):
    def _trigger_server(self) -> None:
        # It connects once, to see whether the server is there.
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class MailServer:
    """`answers`: by the command (`MAIL`, `RCPT`, `DATA`), what it answers instead, for good. `drop`: at which of these
    it closes the connection without an answer; at `DATA` it has the message by then. `hold`: at which it is silent
    until `let_go`."""

    def __init__(self, certificate: Path, *, tls_at_once: bool = False) -> None:
        self.answers: dict[str, str] = {}
        self.drop = self.hold = ""
        self.held = threading.Event()
        self.received: list[tuple[list[str], EmailMessage]] = []
        self.raw: list[bytes] = []
        self._tls_at_once = tls_at_once
        self._let_go, self._stopped = threading.Event(), False
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        wanted: dict[str, Any] = (
            {"ssl_context": context}
            if tls_at_once
            else {
                "tls_context": context,
                "require_starttls": True,
                "authenticator": self._authenticate,
                "auth_required": True,
            }
        )
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0, ready_timeout=30, **wanted)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self.let_go()
        if not self._stopped:
            self._controller.stop()
        self._stopped = True

    @property
    def url(self) -> str:
        port = self._controller.port
        return f"smtps://127.0.0.1:{port}" if self._tls_at_once else f"smtp://{USER}:p%40ss%3Aword@127.0.0.1:{port}"

    @property
    def mailbox(self) -> Counter[str]:
        """How often each message came, by its Message-ID."""
        return Counter(str(message["Message-ID"]) for _, message in self.received)

    def of(self, operation: str) -> list[EmailMessage]:
        return [message for _, message in self.received if f"<{operation}." in str(message["Message-ID"])]

    def let_go(self) -> None:
        self._let_go.set()

    def be_well(self) -> None:
        self.let_go()
        self.answers.clear()
        self.drop = self.hold = ""
        self._let_go, self.held = threading.Event(), threading.Event()

    # aiosmtpd calls these.

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right and "AUTH" not in self.answers, handled=False)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await self._answer("MAIL", server, "250 OK")

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        answer = await self._answer("RCPT", server, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: Any, _session: Any, envelope: Any
    ) -> str:
        if "DATA" not in self.answers:
            self.raw.append(envelope.content)
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            self.received.append((list(envelope.rcpt_tos), message))
        return await self._answer("DATA", server, OK)

    async def handle_exception(self, _error: Exception) -> str:
        return "451 a fault of the test's"

    async def _answer(self, command: str, server: Any, well: str) -> str:
        if self.hold == command:
            let_go = self._let_go
            self.held.set()
            while not let_go.is_set():
                await asyncio.sleep(0.02)
        if self.drop == command:
            with suppress(Exception):
                server.transport.abort()
            await asyncio.sleep(3600)
        return self.answers.get(command, well)


Started = Callable[..., MailServer]
