"""Call the application directly, without a server."""

import asyncio
from typing import Any


def ask(app: Any, method: str = "GET", path: str = "/v1/account", **headers: str) -> list[dict[str, Any]]:
    """One request without a body; returns what was sent: the start, then the body."""
    sent = []
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer sk_test_x"), *named],
    }

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent
