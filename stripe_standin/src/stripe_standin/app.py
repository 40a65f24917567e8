"""The life of one request: authenticate, read, reserve the key, execute, save, answer.

`Standin._live` has the steps in this order. Each fault acts at exactly one of them (`faults.FAULTS`).
"""

import traceback

import orjson

from . import admin, answers, errors, expansion, hostile, pages, parameters, reading, versions, wire
from .access import Caller
from .api import ROUTES
from .api.customers import cards
from .call import Call, Route
from .errors import StripeError
from .faults import Fault, Moment
from .fields import Refused
from .history import API_VERSION
from .idempotency import Record
from .objects import Json, shown
from .reading import Asked, HeadersIn
from .state import State
from .waiting import Ending
from .wire import Answer
from .world import Request, Settings


def create_app(settings: Settings | None = None) -> "Standin":
    """An ASGI application. Serve it with uvicorn, `http=stripe_standin.wire.Protocol`, `lifespan="off"`."""
    return Standin(settings or Settings())


class Standin:
    """State is in memory and belongs to one event loop: one process, no locks, nothing is written to disk."""

    def __init__(self, settings: Settings) -> None:
        self.state = State(settings)

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the stand-in speaks HTTP only: start uvicorn with lifespan='off', ws='none'")
        body = await wire.read(receive)
        if body is None:
            return
        path, query = scope["path"], scope["query_string"]
        if path.startswith("/_standin"):
            self.state.clockwork.pass_time()
            status, page = await admin.answer(self.state, scope["method"], path, query, body)
            self.state.clockwork.set_alarm()
            await wire.answer(send, (status, [answers.JSON], page))
            return
        headers: HeadersIn = dict(scope["headers"])
        raw = body + b"&" + query if body and query else body or query
        request = self._arrived(scope["method"], path, raw, headers)
        fault: Fault | None = None
        answer: Answer | None
        try:
            fault = self.state.faults.fault_for(
                headers.get(b"x-standin-fault"), request.method, request.path, request.key
            )
        except Refused as bad:
            answer = answers.refusal(request, API_VERSION, errors.bad_request(f"X-Standin-Fault: {bad}"))
        else:
            request.fault = fault.name if fault else None
            life = self._page if pages.is_one(path) else self._live
            answer = await life(request, headers, fault, receive)
            if self.state.webhooks.disorder.before_response:
                await self.state.webhooks.quiet(request_id=request.id)
        self.state.clockwork.set_alarm()
        if answer is None:
            await wire.drop(scope, receive)
            return
        request.status = answer[0]
        answer = pages.at_home(answer, headers.get(b"host"))
        match fault.name if fault else None:
            case "truncate_body":
                await wire.answer_half(scope, receive, send, answer)
            case "drip_body":
                await wire.answer_slowly(receive, send, answer, lambda parts: self._paused(fault, parts))
            case "huge_body":
                await wire.answer_at_length(send, answer, fault.megabytes if fault else 0)
            case _:
                await wire.answer(send, answer)

    async def _paused(self, fault: Fault | None, parts: int) -> bool:
        """Wait for one part of the fault's time. False if the stand-in stops."""
        return fault is not None and await self.state.waiting.pause(fault.seconds / parts) is Ending.PROCEED

    async def _page(
        self, request: Request, headers: HeadersIn, fault: Fault | None, receive: wire.Receive
    ) -> Answer | None:
        """The document behind a link that an answer has shown: whoever has the link needs no key."""
        if fault and fault.moment is Moment.ARRIVAL:
            return hostile.on_arrival(fault)
        answer = pages.answer(self.state.world, request.method, request.path)
        if fault and fault.moment is Moment.AFTER and fault.name not in hostile.LIES:
            return await self._after_fault(answer, request, fault, receive)
        return answer

    async def _live(
        self, request: Request, headers: HeadersIn, fault: Fault | None, receive: wire.Receive
    ) -> Answer | None:
        """The answer, or None if the connection ends without one. Without a fault, nothing here waits."""
        at = fault.moment if fault else None
        if fault and at is Moment.ARRIVAL:
            return hostile.on_arrival(fault)
        version = reading.version_of(headers)
        try:
            caller = self._authenticate(request, headers, fault)
            asked = reading.read(request, headers)
            self._admit(caller, asked)
            record = self._reserve(request, caller, fault)
            if record and record.status:
                answer = answers.replay(request, version, record)
            else:
                try:
                    params = parameters.read(ROUTES[asked.operation].table, asked.form, version=version)
                    if fault and at is Moment.BEFORE and not await self._proceeds(request, fault, receive):
                        return None
                    status, body = self._execute(request, caller, asked, params, fault)
                    if record:
                        now = self.state.world.clock.time()
                        self.state.idempotency.save(_place(request, caller), record, status, body, now)
                    answer = answers.first(request, version, record, status, body)
                finally:
                    if record and not record.status:
                        self.state.idempotency.give_back(_place(request, caller), record)
        except StripeError as error:
            answer = answers.refusal(request, version, error)
        if fault and at is Moment.AFTER:
            return await self._after_fault(answer, request, fault, receive)
        return answer

    def stop(self) -> None:
        """Called before the server waits for its connections to end."""
        self.state.stop()

    def _arrived(self, method: str, path: str, raw: bytes, headers: HeadersIn) -> Request:
        self.state.clockwork.pass_time()
        # Stripe ignores the header for GET and DELETE.
        key = headers.get(b"idempotency-key", b"") if method == "POST" else b""
        return self.state.world.note_request(method, path, raw, key.decode("latin-1") or None)

    def _authenticate(self, request: Request, headers: HeadersIn, fault: Fault | None) -> Caller:
        caller = self.state.access.caller(headers.get(b"authorization"), headers.get(b"stripe-account"))
        request.account, request.livemode = caller.account, caller.livemode
        request.named = b"stripe-account" in headers
        match fault.name if fault else None:
            case "401":
                raise errors.expired_api_key(caller.api_key)
            case "403":
                raise errors.not_permitted(caller.api_key, caller.account)
            case "429_rate":
                raise errors.rate_limited("endpoint-rate")
        return caller

    def _admit(self, caller: Caller, asked: Asked) -> None:
        self.state.access.permit(caller, asked.operation)
        self.state.limiter.take(
            caller.account, caller.livemode, asked.operation, asked.ids, self.state.world.clock.time()
        )

    def _reserve(self, request: Request, caller: Caller, fault: Fault | None) -> Record | None:
        if fault and fault.moment is Moment.KEY:
            raise errors.key_in_use(request.key or "")
        if request.key is None:
            return None
        return self.state.idempotency.reserve(
            _place(request, caller),
            request.method,
            request.path,
            request.raw,
            request.id,
            self.state.world.clock.time(),
        )

    async def _proceeds(self, request: Request, fault: Fault, receive: wire.Receive) -> bool:
        """Wait as the fault says. Returns whether the request is to be executed afterwards."""
        if fault.name == "latency":
            ending = await self.state.waiting.pause(fault.seconds)
        else:
            ending = await self.state.waiting.hold(request, fault, lambda: wire.client_left(receive))
        # The clock may have been moved meanwhile.
        self.state.clockwork.pass_time()
        return ending is Ending.PROCEED

    def _execute(
        self, request: Request, caller: Caller, asked: Asked, params: dict[str, object], fault: Fault | None
    ) -> tuple[int, bytes]:
        """Execute the route. From here on every answer is saved, except that of `500_no_effect`."""
        books = self.state.world.books(caller.account, caller.livemode)
        call = Call(self.state.world, books, asked.ids, params, self.state.world.now(), request.id, request.key)
        try:
            content = _run_route(ROUTES[asked.operation], call, fault)
            if "expand" in call.params:
                expansion.expand(content, call.params["expand"], books)
            if asked.version != API_VERSION:
                content = versions.as_of(content, asked.version, books)
            return 200, orjson.dumps(content)
        except StripeError as error:
            if not error.begun:
                raise
            return error.status, orjson.dumps(versions.as_of(error.body, asked.version, books))
        except Exception:  # noqa: BLE001 - a bug of ours is saved as one of Stripe's, so that no retry acts again
            traceback.print_exc()
            return 500, orjson.dumps(errors.server_error().body)

    async def _after_fault(
        self, answer: Answer, request: Request, fault: Fault, receive: wire.Receive
    ) -> Answer | None:
        """Apply a fault that acts on the answer."""
        status, headers, body = answer
        match fault.name:
            case "drop_after_commit":
                return None
            case "latency_after":
                if await self.state.waiting.pause(fault.seconds) is not Ending.PROCEED:
                    return None
            case "hold_after":
                ending = await self.state.waiting.hold(request, fault, lambda: wire.client_left(receive))
                if ending is not Ending.PROCEED:
                    return None
            case "502_html" | "200_html":
                return hostile.page(fault)
            case lie if lie in hostile.LIES:
                content = orjson.loads(body)
                hostile.lie(lie, content)
                return status, headers, orjson.dumps(content)
        return status, headers, body


def _place(request: Request, caller: Caller) -> tuple[str, bool, str]:
    """The scope of an idempotency key: the account and mode, not the API key that was sent."""
    return caller.account, caller.livemode, request.key or ""


def _run_route(route: Route, call: Call, fault: Fault | None) -> Json:
    """Run the route. A fault may replace it, or hide its answer once the route has begun."""
    if fault and fault.moment is Moment.INSTEAD:
        raise _replacement(fault, call)
    if fault is None or fault.moment is not Moment.OVER:
        return route.answer(call)
    call.webhooks_late_s = fault.seconds
    try:
        route.answer(call)
    except StripeError as error:
        if not error.begun:
            raise
    raise errors.server_error()


def _replacement(fault: Fault, call: Call) -> StripeError:
    match fault.name:
        case "402_declined":
            intent = call.books.intents.get(call.ids[0]) if call.ids else None
            attached = {"payment_intent": shown(intent)} if intent else {}
            return errors.card_declined(cards.GENERIC, **attached)
        case "429_lock_saved":
            return errors.lock_timeout()
        case "424":
            return errors.dependency_failed()
        case name:
            error = errors.server_error()
            error.begun = name == "500_saved"
            return error
