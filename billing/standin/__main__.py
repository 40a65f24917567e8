"""`python -m billing.standin`: serve the stand-in until told to stop."""

import argparse
import contextlib
import signal
import socket
from collections.abc import Iterator

from uvicorn import Config, Server

from .app import Standin, create_app
from .wire import Protocol
from .world import REQUESTS_KEPT, Settings

DESCRIPTION = """\
A stand-in for Stripe, in memory, for development and tests: no account, no network.

  python -m billing.standin --port 12111

Point the real SDK at it:

  client = stripe.StripeClient("sk_test_anything", base_addresses={"api": "http://127.0.0.1:12111"},
                               max_network_retries=0)

Make one request fail (the money is taken, the answer is lost), and see what really happened:

  curl http://127.0.0.1:12111/_standin/faults \\
       -d '{"fault": "drop_after_commit", "path": "/capture$", "times": 1}'
  curl http://127.0.0.1:12111/_standin/effects

docs/standin.md has all of it.
"""


class _Server(Server):
    """uvicorn's server, which says when it is ready and lets nobody wait when it stops."""

    def __init__(self, config: Config, app: Standin) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"standin listening on http://{shown}:{port}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.waiting.forget_all()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end; being asked to stop is not a failure here.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main(arguments: list[str] | None = None) -> None:
    asked = _parser().parse_args(arguments)
    settings = Settings(
        account=asked.account,
        api_keys=tuple(asked.api_key),
        rate_limit=asked.rate_limit,
        seed=asked.seed,
        requests_kept=asked.requests_kept,
    )
    app = create_app(settings)
    config = Config(
        app,
        host=asked.host,
        port=asked.port,
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
    _Server(config, app).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m billing.standin",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; anyone who reaches it may use /_standin, so leave it at loopback",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes any free one")
    parser.add_argument(
        "--rate-limit",
        type=_rate,
        default=None,
        metavar="N|off",
        help="requests per second, per account and mode, before 429 (Stripe: 25 in test mode); default off",
    )
    parser.add_argument("--account", default=Settings.account, help="the account that API keys belong to")
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help="accept this API key only (may be repeated); default: every sk_/rk_ test or live key",
    )
    parser.add_argument("--seed", type=int, default=None, help="make ids and chances repeatable")
    parser.add_argument(
        "--requests-kept",
        type=int,
        default=REQUESTS_KEPT,
        metavar="N",
        help="how many requests GET /_standin/requests remembers; default %(default)s",
    )
    return parser


def _rate(value: str) -> float | None:
    return None if value == "off" else float(value)


if __name__ == "__main__":
    main()
