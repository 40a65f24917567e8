"""The HTTP server around the application: uvicorn, with its own start message and way to stop."""

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from uvicorn import Config, Server

from .wire import Application, Protocol


def serve(app: Application, stopping: Callable[[], None], *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. `stopping` is called first, so that held requests end.

    Ends the process with exit code 1 if the server cannot listen on the address.
    """
    config = Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        # Clients keep their connections in a pool. If the server closed one, it would look like a fault.
        timeout_keep_alive=600,
        timeout_graceful_shutdown=1,
    )
    _Server(config, stopping).run()


class _Server(Server):
    """uvicorn's server. It prints when it is ready, and ends waiting requests when it stops."""

    def __init__(self, config: Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # uvicorn has logged what is wrong with the address. Its own exit code would be another.
            sys.exit(1)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"standin listening on http://{shown}:{port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again at the end, and the exit code would not be 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield
