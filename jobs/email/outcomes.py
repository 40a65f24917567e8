"""What came of an attempt to send an e-mail, as answers that the protocol knows (`billing.answers`).

Every code is a word of ours or a number of SMTP's, never a server's text, which may hold an address.
"""

import json
from typing import Any

from billing.gateway import Response


def accepted(message: str, *, livemode: bool) -> Response:
    """The server has taken the whole message, and calls it so."""
    data = {"id": message, "livemode": livemode}
    return Response(200, _kept(data), data, message, replayed=False)


def refused(code: str) -> Response:
    """It is never taken: what is wrong is the message, or its recipient."""
    return _error(400, code)


def not_now(code: str, detail: str = "") -> Response:
    """Not taken, and provably not: it is sent again, with growing pauses, for a day. What is wrong is a server, or our
    own settings and templates, which may be mended meanwhile."""
    return _error(429, code, detail)


def _error(status: int, code: str, detail: str = "") -> Response:
    data = {"error": {"code": code} | ({"param": detail} if detail else {})}
    return Response(status, _kept(data), data, None, replayed=False)


def _kept(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
