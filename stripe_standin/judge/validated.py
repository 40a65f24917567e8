"""The stand-in behind a judge: every answer on /v1 is compared with the SDK's schema before it is sent.

    python stripe_standin/judge/validated.py [the options of python -m stripe_standin]

GET /_schema shows what the judge found: `violations`, and `seen`, the routes that were answered with 2xx.
"""

from collections import Counter
from typing import Any

import orjson
from sdk_routes import class_answering
from sdk_schema import ErrorObject, Problem, problems

from stripe_standin import __main__ as program
from stripe_standin import hostile, pages, routes, wire
from stripe_standin.answers import JSON
from stripe_standin.app import Standin
from stripe_standin.errors import StripeError
from stripe_standin.history import API_VERSION
from stripe_standin.world import Request, Settings

# These faults answer with a wrong shape on purpose: a proxy's page, half a body, another kind of object. All other
# faults are judged, other lies included: their content is false, but its shape is right.
NOT_JUDGED = {"redirect_307", "502_html", "200_html", "truncate_body", "drip_body", "huge_body", "other_object"}

_PAGES = {hostile.BAD_GATEWAY, hostile.WELCOME}
VIOLATIONS_MAX = 100  # only the first ones are stored; they matter most


class Judged(Standin):
    """A stand-in that checks its own answers as they are sent, and shows what it found."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.violations: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self._older: set[bytes | None] = set()

    async def __call__(self, scope: wire.Scope, receive: wire.Receive, send: wire.Send) -> None:
        if scope["path"] == "/_schema":
            found = {"violations": self.violations, "seen": self.seen}
            await wire.answer(send, (200, [JSON], orjson.dumps(found)))
            return
        # A document is no JSON, and needs no key. Its own tests look at it.
        if scope["path"].startswith("/_standin") or pages.is_one(scope["path"]):
            await super().__call__(scope, receive, send)
            return
        start: wire.Message = {}

        async def judged(message: wire.Message) -> None:
            # The start and one body; only a truncated answer announces more than it sends.
            if message["type"] == "http.response.start":
                start.update(message)
            elif not message.get("more_body"):
                self._judge(scope["method"], scope["path"], start["status"], dict(start["headers"]), message["body"])
            await send(message)

        await super().__call__(scope, receive, judged)

    def _execute(self, request: Request, *given: Any) -> tuple[int, bytes]:
        """A refusal that is not saved will be tried again under the same key, so it must have changed nothing."""
        before = self._happened()
        try:
            return super()._execute(request, *given)
        except StripeError:
            if self._happened() != before:
                self._violated(request.method, request.path, None, 400, Problem("", "refused unsaved, with an effect"))
            raise

    def _happened(self) -> tuple[int, int]:
        world = self.state.world
        return len(world.effects), sum(len(books.events) for books in world.all_books())

    def _judge(self, method: str, path: str, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        request = self._request(headers.get(b"request-id", b"").decode())
        if request is None and (status == 307 or body in _PAGES):
            return
        if request is not None and request.fault in NOT_JUDGED:
            return
        # The schema is for one API version, and a replay has the version of the first answer.
        if headers.get(b"stripe-version", b"").decode() != API_VERSION:
            self._older.add(headers.get(b"request-id"))
            return
        if headers.get(b"original-request") in self._older:
            return
        found = routes.find(method, path)
        operation = found[0] if found else None
        wrong = _wrong(operation, status, headers, body)
        if not wrong and operation and status < 300:
            self.seen[operation] += 1
        for problem in wrong:
            self._violated(method, path, operation, status, problem)

    def _violated(self, method: str, path: str, operation: str | None, status: int, problem: Problem) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(
                {"method": method, "path": path, "operation": operation, "status": status, **problem._asdict()}
            )

    def _request(self, named: str) -> Request | None:
        return next((request for request in reversed(self.state.world.requests) if request.id == named), None)


def _wrong(operation: str | None, status: int, headers: dict[bytes, bytes], body: bytes) -> list[Problem]:
    if headers.get(b"content-type") != JSON[1]:
        return [Problem("", f"content type {headers.get(b'content-type')!r}")]
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return [Problem("", f"no JSON: {error}")]
    if status >= 300:
        if not isinstance(content, dict) or content.keys() != {"error"}:
            return [Problem("", "not an `error`, and nothing else")]
        return [Problem(f"/error{each.pointer}", each.message) for each in problems(content["error"], ErrorObject)]
    expected = class_answering(operation) if operation else None
    if expected is None:
        return [Problem("", "the SDK has no method for this route")]
    return problems(content, expected)


if __name__ == "__main__":
    program.main(create=Judged)
