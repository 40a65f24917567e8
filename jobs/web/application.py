"""The ASGI application: Stripe's webhooks, what Amazon SES tells, and two questions about this process.

    POST /webhooks/stripe            events of our own account, and of connected ones
    POST /webhooks/stripe/acct_...   events of this connected account alone
    POST /email/ses                  what Amazon SES tells about e-mails, if a topic of its is allowed
    GET  /healthz                    the process answers
    GET  /readyz                     and the database takes events

An event is checked and put into the inbox, and nothing else is done about it here. Five routes need no framework.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol

import structlog

from billing import events
from billing.events import ADVICE, BODY_MOST, Refused
from billing.provider_ids import IdKind, is_id
from billing.tables.received_events import ReceivedEvent
from jobs.config.secrets import SecretError
from jobs.web import notices
from jobs.web.notices import Notices

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WEBHOOKS = "/webhooks/stripe"
BODY_WITHIN_S = 10.0
"""A client that sends its body more slowly is left. Stripe waits for an answer for some ten seconds at most."""
READY_FOR_S = 1.0
"""An answer about the database is given again for so long: anybody may ask, and Postgres is not asked each time."""
AGAIN_S = 5

_STATUS: Mapping[Refused, int] = {Refused.INCOMPLETE: 408, Refused.TOO_LARGE: 413, Refused.BUSY: 503}
"""Of all others, 400."""


class Answer(NamedTuple):
    status: int
    body: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class Inbox(Protocol):
    async def put(self, event: ReceivedEvent) -> None: ...


class Application:
    """`secrets`: those that may have signed; with True, read again. `ready`: None, or why the database takes no event;
    it is asked in a thread. `taker`: takes what Amazon SES tells, in a thread; None if no topic is allowed."""

    def __init__(
        self,
        inbox: Inbox,
        secrets: Callable[[bool], list[str]],
        ready: Callable[[], str | None],
        *,
        livemode: bool,
        taker: Notices | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox, self._secrets, self._ready = inbox, secrets, ready
        self._livemode, self._clock = livemode, clock
        self._notices = taker
        self._asked_at = float("-inf")
        self._unready: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("this application speaks HTTP only")
        answer = await self._answer(scope, receive)
        body = json.dumps(answer.body).encode() + b"\n"
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), *answer.headers]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        account = path.removeprefix(f"{WEBHOOKS}/") if path.startswith(f"{WEBHOOKS}/") else None
        if path == WEBHOOKS or is_id(IdKind.ACCOUNT, account):
            if method != "POST":
                return _not_allowed("POST", "Stripe sends events by POST")
            return await self._take(scope, receive, account)
        if path == notices.PATH and self._notices is not None:
            if method != "POST":
                return _not_allowed("POST", "SNS sends messages by POST")
            return await self._take_notice(self._notices, scope, receive)
        if path in ("/healthz", "/readyz"):
            if method not in ("GET", "HEAD"):
                return _not_allowed("GET, HEAD", "only read this")
            return Answer(200, {"alive": True}) if path == "/healthz" else await self._readiness()
        return Answer(404, _error("no_such_path", f"this process answers {WEBHOOKS}, /healthz and /readyz"))

    async def _take(self, scope: Scope, receive: Receive, account: str | None) -> Answer:
        headers = _headers(scope)
        body = await _body(headers, receive)
        if isinstance(body, Refused):
            return self._refuse(body)
        try:
            refused = await self._check(body, headers.get("stripe-signature"))
        except SecretError as error:
            log.error("webhook.unchecked", setting=error.setting, message=str(error))  # noqa: TRY400 - no trace is needed
            return self._refuse(Refused.BUSY)
        if refused is not None:
            return self._refuse(refused)
        event = events.read_event(body, source="webhook")
        if event is None:
            return self._refuse(Refused.NOT_AN_EVENT)
        if event.livemode != self._livemode:
            return self._refuse(Refused.OTHER_MODE, event)
        if account is not None and event.account != account:
            return self._refuse(Refused.OTHER_ACCOUNT, event)
        try:
            await self._inbox.put(event)
        except Exception:  # noqa: BLE001 - whatever it is, the event is not stored, and the writer has logged why
            return self._refuse(Refused.BUSY, event)
        return Answer(200, {"received": event.id})

    async def _take_notice(self, taker: Notices, scope: Scope, receive: Receive) -> Answer:
        body = await _body(_headers(scope), receive)
        if isinstance(body, Refused):
            return self._refuse(body)
        status, told = await asyncio.get_running_loop().run_in_executor(None, taker.take, body)
        if status == 200:
            return Answer(200, {"received": told})
        again = (("retry-after", str(AGAIN_S)),) if status == 503 else ()
        return Answer(status, _error(told, notices.ADVICE[told]), again)

    async def _check(self, body: bytes, header: str | None) -> Refused | None:
        """With fresh secrets if the known ones do not fit: one may have been rolled."""
        refused = events.check(body, header, self._secrets(False), self._clock())
        if refused is Refused.BAD_SIGNATURE:
            # In a thread: the store that holds them may be on the network.
            fresh = await asyncio.get_running_loop().run_in_executor(None, self._secrets, True)
            refused = events.check(body, header, fresh, self._clock())
        return refused

    def _refuse(self, reason: Refused, event: ReceivedEvent | None = None) -> Answer:
        event_id, event_type = (event.id, event.type) if event is not None else (None, None)
        log.warning("webhook.refused", reason=str(reason), event_id=event_id, event_type=event_type)
        again = (("retry-after", str(AGAIN_S)),) if reason is Refused.BUSY else ()
        return Answer(_STATUS.get(reason, 400), _error(reason, ADVICE[reason]), again)

    async def _readiness(self) -> Answer:
        now = time.monotonic()
        if now >= self._asked_at + READY_FOR_S:
            self._asked_at = now
            self._unready = await asyncio.get_running_loop().run_in_executor(None, self._ready)
        if self._unready is not None:
            return Answer(503, _error("not_ready", self._unready), (("retry-after", str(AGAIN_S)),))
        return Answer(200, {"ready": True})


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes | Refused:
    """The bytes as they came, or why they are not read to their end."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > BODY_MOST:
        return Refused.TOO_LARGE
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Refused.INCOMPLETE
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > BODY_MOST:
                    return Refused.TOO_LARGE
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        return Refused.INCOMPLETE


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": str(code), "message": message}}


def _not_allowed(allow: str, message: str) -> Answer:
    return Answer(405, _error("method_not_allowed", message), (("allow", allow),))
