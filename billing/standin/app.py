"""The life of one request: let in, understood, its key reserved, executed, saved, answered.

The steps stand in `Standin._live` in this order, and each fault acts at exactly one of them (`faults.FAULTS`).
"""

import asyncio
import re

import orjson

from . import errors, expansion, forms, hostile, parameters, routes, wire
from .access import Access, Caller
from .admin import Admin
from .api import cards
from .call import Call
from .errors import StripeError
from .faults import BadRule, Fault, Faults, Moment
from .history import API_VERSION
from .idempotency import Idempotency, Record
from .routes import Route
from .waiting import Ending, Waiting
from .wire import Answer
from .world import Request, Settings, World

_VERSION = re.compile(rb"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
_FORM = b"application/x-www-form-urlencoded"
_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")
_NO_RETRY = (b"stripe-should-retry", b"false")

# An event loop counts its waits in less than years.
ALARM_MAX_S = 24 * 3600.0

HeadersIn = dict[bytes, bytes]


def create_app(settings: Settings | None = None) -> "Standin":
    """An ASGI application. Serve it with uvicorn, `http=billing.standin.wire.Protocol`, `lifespan="off"`."""
    return Standin(settings or Settings())


class Standin:
    """State is in memory and belongs to one event loop: one process, no locks, nothing is kept."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self.access = Access(settings)
        self.faults = Faults(settings.seed)
        self.idempotency = Idempotency()
        self.waiting = Waiting()
        self._admin = Admin(self)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: int | None = None

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the stand-in speaks HTTP only: start uvicorn with lifespan='off', ws='none'")
        body = await wire.read(receive)
        if body is None:
            return
        path, query = scope["path"], scope["query_string"]
        if path.startswith("/_standin"):
            self.pass_time()
            status, page = await self._admin.answer(scope["method"], path, query, body)
            self._set_alarm()
            await wire.answer(send, (status, [_JSON], page))
            return
        headers: HeadersIn = dict(scope["headers"])
        raw = body + b"&" + query if body and query else body or query
        request = self._arrived(scope["method"], path, raw, headers)
        fault: Fault | None = None
        answer: Answer | None
        try:
            fault = self.faults.strike(headers.get(b"x-standin-fault"), request.method, request.path, request.key)
        except BadRule as bad:
            answer = _refusal(errors.bad_request(f"X-Standin-Fault: {bad}"), request, headers)
        else:
            request.fault = fault.name if fault else None
            answer = await self._live(request, headers, fault, receive)
        self._set_alarm()
        if answer is None:
            await wire.drop(scope, receive)
            return
        request.status = answer[0]
        if fault is not None and fault.name == "truncate_body":
            await wire.answer_half(scope, receive, send, answer)
        else:
            await wire.answer(send, answer)

    async def _live(
        self, request: Request, headers: HeadersIn, fault: Fault | None, receive: wire.Receive
    ) -> Answer | None:
        """The answer, or None when the connection ends without one. Without a fault nothing here waits."""
        at = fault.moment if fault else None
        if fault and at is Moment.DOOR:
            return hostile.at_the_door(fault)
        try:
            caller = self._let_in(request, headers, fault)
            route, ids, form = _understood(request, headers)
            record = self._reserve(request, caller, fault)
            if record and record.status:
                answer = _replay(record, request, headers)
            else:
                try:
                    params = parameters.read(route.table, form)
                    if fault and at is Moment.BEFORE and not await self._proceeds(request, fault, receive):
                        return None
                    answer = self._execute(request, headers, caller, route, ids, params, fault, record)
                finally:
                    if record and not record.status:
                        self.idempotency.give_back(_place(request, caller), record)
        except StripeError as error:
            answer = _refusal(error, request, headers)
        if fault and at is Moment.AFTER:
            return await self._disturbed(answer, request, fault, receive)
        return answer

    def pass_time(self) -> None:
        """Do what is due by now. Each job sees its own time, so that what it makes is no younger than it should be."""
        for entry in self.world.agenda.due(self.world.clock.time()):
            entry.job(Call(self.world, entry.books, (entry.row_id,), {}, entry.at, None, None))

    def _set_alarm(self) -> None:
        """Wake up for the next job even if nobody asks anything until then."""
        next_at = self.world.agenda.next_at()
        if next_at == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = next_at
        if next_at is not None:
            in_s = min(max(next_at - self.world.clock.time(), 0.0), ALARM_MAX_S)
            self._alarm = asyncio.get_running_loop().call_later(in_s, self._wake)

    def _wake(self) -> None:
        self._alarm_at = None
        self.pass_time()
        self._set_alarm()

    def stop(self) -> None:
        """Nobody who waits is executed any more."""
        self.waiting.forget_all()

    def reset(self) -> None:
        """As at the start. Whoever waits is forgotten and has no effect any more."""
        self.waiting.forget_all()
        self.world.reset()
        self.access.reset()
        self.faults.clear()
        self.idempotency.clear()

    def _arrived(self, method: str, path: str, raw: bytes, headers: HeadersIn) -> Request:
        self.pass_time()
        # For GET and DELETE the header means nothing.
        key = headers.get(b"idempotency-key", b"") if method == "POST" else b""
        return self.world.note_request(method, path, raw, key.decode("latin-1") or None)

    def _let_in(self, request: Request, headers: HeadersIn, fault: Fault | None) -> Caller:
        caller = self.access.caller(headers.get(b"authorization"), headers.get(b"stripe-account"))
        request.account, request.livemode = caller.account, caller.livemode
        match fault.name if fault else None:
            case "401":
                raise errors.expired_api_key(caller.api_key)
            case "403":
                raise errors.not_permitted(caller.api_key)
            case "429_rate":
                raise errors.rate_limited("endpoint-rate")
        self.access.limit(caller)
        return caller

    def _reserve(self, request: Request, caller: Caller, fault: Fault | None) -> Record | None:
        if fault and fault.moment is Moment.KEY:
            raise errors.key_in_use(request.key or "")
        if request.key is None:
            return None
        return self.idempotency.reserve(
            _place(request, caller), request.method, request.path, request.raw, request.id, self.world.clock.time()
        )

    async def _proceeds(self, request: Request, fault: Fault, receive: wire.Receive) -> bool:
        """Wait as the fault says; afterwards, whether the request still is to be executed."""
        if fault.name == "latency":
            ending = await self.waiting.pause(fault.seconds)
        else:
            ending = await self.waiting.hold(request, fault, lambda: wire.client_left(receive))
        # The clock may have been moved meanwhile.
        self.pass_time()
        return ending is Ending.PROCEED

    def _execute(
        self,
        request: Request,
        headers: HeadersIn,
        caller: Caller,
        route: Route,
        ids: tuple[str, ...],
        params: dict[str, object],
        fault: Fault | None,
        record: Record | None,
    ) -> Answer:
        """From here on whatever is answered is saved; only `500_no_effect` is not."""
        books = self.world.books(caller.account, caller.livemode)
        call = Call(self.world, books, ids, params, self.world.now(), request.id, request.key)
        try:
            if fault and fault.moment is Moment.INSTEAD:
                raise _instead(fault)
            told = route.answer(call)
            if fault and fault.moment is Moment.OVER:
                raise errors.server_error()
            if "expand" in call.params:
                expansion.expand(told, call.params["expand"], books)
            status, body = 200, orjson.dumps(told)
        except StripeError as error:
            if not error.begun:
                raise
            status, body = error.status, orjson.dumps(error.body)
        out = _headers(request, headers)
        if record:
            self.idempotency.save(record, status, body)
            out += (*_key_headers(record, request), _NO_RETRY)
        return status, out, body

    async def _disturbed(self, answer: Answer, request: Request, fault: Fault, receive: wire.Receive) -> Answer | None:
        """What becomes of an answer on its way back."""
        status, headers, body = answer
        match fault.name:
            case "drop_after_commit":
                return None
            case "latency_after":
                if await self.waiting.pause(fault.seconds) is not Ending.PROCEED:
                    return None
            case "hold_after":
                ending = await self.waiting.hold(request, fault, lambda: wire.client_left(receive))
                if ending is not Ending.PROCEED:
                    return None
            case "502_html" | "200_html":
                return hostile.page(fault)
            case lie if lie in hostile.LIES:
                told = orjson.loads(body)
                hostile.lie(lie, told)
                return status, headers, orjson.dumps(told)
        return status, headers, body


def _understood(request: Request, headers: HeadersIn) -> tuple[Route, tuple[str, ...], dict[str, object]]:
    """The route, its ids and the form. Raises what Stripe says to a request it cannot read."""
    found = routes.find(request.method, request.path)
    if found is None:
        raise errors.unknown_route(request.method, request.path)
    version = headers.get(b"stripe-version")
    if version is not None and not _VERSION.fullmatch(version):
        raise errors.bad_request(f"Invalid Stripe API version: {version.decode('latin-1')}")
    if request.method == "POST" and request.raw and not headers.get(b"content-type", b"").startswith(_FORM):
        raise errors.bad_request(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded)."
        )
    if request.key and not request.key.isprintable():
        raise errors.bad_request("Idempotency keys must be printable.")
    return *found, forms.decode(request.raw)


def _place(request: Request, caller: Caller) -> tuple[str, bool, str]:
    """Where a key belongs: its scope is the account in one mode, not the API key that was shown."""
    return caller.account, caller.livemode, request.key or ""


def _replay(record: Record, request: Request, headers: HeadersIn) -> Answer:
    request.replayed = True
    out = [*_headers(request, headers), *_key_headers(record, request), _REPLAYED]
    return record.status, out, record.body


def _refusal(error: StripeError, request: Request, headers: HeadersIn) -> Answer:
    return error.status, [*_headers(request, headers), *error.headers], orjson.dumps(error.body)


def _headers(request: Request, headers: HeadersIn) -> wire.Headers:
    version = headers.get(b"stripe-version")
    if version is None or not _VERSION.fullmatch(version):
        version = API_VERSION.encode()
    return [_JSON, (b"request-id", request.id.encode()), (b"stripe-version", version)]


def _key_headers(record: Record, request: Request) -> wire.Headers:
    return [
        (b"idempotency-key", (request.key or "").encode("latin-1")),
        (b"original-request", record.request_id.encode()),
    ]


def _instead(fault: Fault) -> StripeError:
    match fault.name:
        case "402_declined":
            return errors.card_declined(cards.GENERIC)
        case "429_lock_saved":
            return errors.lock_timeout()
        case "424":
            return errors.dependency_failed()
        case name:
            error = errors.server_error()
            error.begun = name == "500_saved"
            return error
