"""The HTTP server around the application: uvicorn, told when to speak and how to stop."""

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

from uvicorn import Config, Server

from .wire import Application, Protocol


def serve(app: Application, stopping: Callable[[], None], *, host: str, port: int) -> None:
    """Serve until told to stop by SIGTERM or SIGINT; `stopping` is called before connections are waited for.

    Ends the process with exit code 1 when the address cannot be listened on.
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
        # A worker pool keeps its connections; closing them under its hands would look like a fault.
        timeout_keep_alive=600,
        timeout_graceful_shutdown=1,
    )
    _Server(config, stopping).run()


class _Server(Server):
    """uvicorn's server, which says when it is ready and lets nobody wait when it stops."""

    def __init__(self, config: Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # uvicorn has said in a line what is the matter with the address, and has a code of its own for it.
            sys.exit(1)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"standin listening on http://{shown}:{port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end; being asked to stop is not a failure here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield
