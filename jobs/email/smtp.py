"""A message handed to a mail server by SMTP, always over TLS. It says what is known of the message afterwards.

Until the server has read the line with a single dot after the message, it has no message: whatever fails before is
`not now`, and safe to repeat. From then on a missing answer means that nobody knows. Source: RFC 5321, 4.1.1.4.

Of a refusal (5xx), the answer to the recipient and to the message is about this e-mail. An answer before those is about
us, our login and our sender: mended, they go through, so no e-mail is given up for them.
"""

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from billing.email_notices import OF_SES, message_in
from billing.gateway import Answer, Budget, NoAnswer, NotSent, boot_clock
from billing.shapes import message_id
from billing.transport import cut_at
from jobs.config.mail_url import Place
from jobs.email.messages import Message
from jobs.email.outcomes import accepted, not_now, refused

CONNECT_TIMEOUT_S = 10.0
_QUEUED = re.compile(r"(?:queued as|\bid=?|\bas)\s+<?([A-Za-z0-9][A-Za-z0-9_.+-]{2,98}[A-Za-z0-9])", re.IGNORECASE)

_OF_SES = re.compile(r"Ok ([0-9a-f]{16}-[0-9a-f-]{36}-[0-9]{6})\s*", re.IGNORECASE)


class Smtp:
    """`place` is called for each message, and `login_refused` when that was, so that a rotated password is read again.
    A connection is made for each message: after a pause, many servers close one."""

    def __init__(self, place: Callable[[], Place], *, livemode: bool, login_refused: Callable[[], object]) -> None:
        self.livemode = livemode
        self._place, self._login_refused = place, login_refused

    def deliver(self, message: Message, budget: Budget) -> Answer:
        """Once, within the budget. Raises nothing for what the server did."""
        try:
            with self._connected(self._place(), message, budget) as server:
                return self._hand_over(server, message)
        except _NotTaken as error:
            return error.answer

    @contextlib.contextmanager
    def _connected(self, to: Place, message: Message, budget: Budget) -> Iterator[smtplib.SMTP]:
        """A connection that takes mail, with TLS and our login. Raises _NotTaken."""
        timeout_s = min(CONNECT_TIMEOUT_S, budget.over_at - boot_clock())
        if timeout_s <= 0:
            raise _NotTaken(NotSent("too late to start"))
        context = ssl.create_default_context()
        name = message.sender_domain
        server: smtplib.SMTP | None = None
        try:
            with contextlib.ExitStack() as greeting:
                watched = partial(_cut_at, greeting, budget.over_at)
                if to.tls_at_once:
                    server = _Tls(watched, to.host, to.port, name, timeout=timeout_s, context=context)
                else:
                    server = _Watched(watched, to.host, to.port, name, timeout=timeout_s)
            if not to.tls_at_once:
                with cut_at(_socket(server), budget.over_at):
                    server.starttls(context=context)
            if to.user:
                # After STARTTLS it is another socket.
                with cut_at(_socket(server), budget.over_at):
                    server.login(to.user, to.password)
        except smtplib.SMTPAuthenticationError as error:
            _close(server)
            self._login_refused()
            raise _NotTaken(not_now("login_refused", f"smtp_{error.smtp_code}")) from None
        except smtplib.SMTPNotSupportedError:
            _close(server)
            raise _NotTaken(not_now("server_without_tls_or_login")) from None
        except smtplib.SMTPResponseException as error:
            _close(server)
            raise _NotTaken(not_now("server_not_ready", f"smtp_{error.smtp_code}")) from None
        except ssl.SSLError as error:
            _close(server)
            raise _NotTaken(not_now("tls_failed", type(error).__name__)) from None
        except (OSError, smtplib.SMTPException) as error:
            _close(server)
            raise _NotTaken(not_now("server_away", type(error).__name__)) from None
        try:
            with cut_at(_socket(server), budget.over_at):
                _socket(server).settimeout(max(0.001, budget.over_at - boot_clock()))
                yield server
        finally:
            _close(server)

    def _hand_over(self, server: smtplib.SMTP, message: Message) -> Answer:
        try:
            server.ehlo_or_helo_if_needed()
            code, _ = server.mail(message.sender)
            if code != 250:
                return not_now("sender_refused", f"smtp_{code}")
            code, _ = server.rcpt(message.recipient)
            if code not in (250, 251):
                return refused(f"smtp_{code}") if 500 <= code < 600 else not_now(f"smtp_{code}")
            code, _ = server.docmd("DATA")
            if code != 354:
                return refused(f"smtp_{code}") if 500 <= code < 600 else not_now(f"smtp_{code}")
            server.send(message.on_the_wire)
        except (OSError, smtplib.SMTPException) as error:
            return not_now("connection_lost", type(error).__name__)
        try:
            # The boundary: with this line the message is complete, and the server's to deliver.
            server.send(b".\r\n")
            code, said = server.getreply()
        except (OSError, smtplib.SMTPException) as error:
            return NoAnswer(f"no answer to the message: {type(error).__name__}")
        if code == 250:
            return accepted(_named(said) or message.own_id, livemode=self.livemode)
        if 400 <= code < 500:
            return not_now(f"smtp_{code}")
        return refused(f"smtp_{code}") if 500 <= code < 600 else NoAnswer(f"smtp_{code}")


class _Watched(smtplib.SMTP):
    """smtplib waits for the greeting while it connects, and for as long as a byte comes now and then."""

    def __init__(self, watched: Callable[[socket.socket], object], *arguments: Any, **options: Any) -> None:
        self._watched = watched
        super().__init__(*arguments, **options)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        self._watched(connection)
        return connection


class _Tls(_Watched, smtplib.SMTP_SSL):
    pass


def _cut_at(until: contextlib.ExitStack, at: float, connection: socket.socket) -> None:
    until.enter_context(cut_at(connection, at))


class _NotTaken(Exception):
    """Nothing was handed over. Never crosses this page."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def _named(said: bytes) -> str | None:
    """What the server calls the message, where it says so. Amazon SES says nothing else: `Ok 0102018f...-000000`."""
    if (of_ses := _OF_SES.fullmatch(said.decode("ascii", "replace"))) and message_in(of_ses[1]):
        return f"{OF_SES}{of_ses[1]}"
    found = _QUEUED.search(said.decode("ascii", "replace"))
    return found[1] if found and message_id(found[1]) else None


def _socket(server: smtplib.SMTP) -> socket.socket:
    """Raises SMTPServerDisconnected where the server has closed it."""
    if server.sock is None:
        raise smtplib.SMTPServerDisconnected
    return server.sock


def _close(server: smtplib.SMTP | None) -> None:
    """Without QUIT, whose answer nobody waits for: a message that was taken is taken."""
    if server is not None:
        server.close()
