"""`stripe-standin`, or `python -m stripe_standin`: serve the stand-in until SIGTERM or SIGINT."""

import argparse
from collections.abc import Callable
from typing import Any

from . import fields, index, limits
from .access import ACCOUNT, API_KEY
from .app import Standin, create_app
from .fields import Reader, Refused
from .parameters import FURTHER, take_currencies_of
from .serving import serve
from .world import REQUESTS_KEPT, REQUESTS_KEPT_MAX, Settings

DESCRIPTION = """\
A stand-in for Stripe, in memory, for development and tests: no account, no network.

  stripe-standin --port 12111

Point the real SDK at it:

  client = stripe.StripeClient("sk_test_anything", base_addresses={"api": "http://127.0.0.1:12111"},
                               max_network_retries=0)

Make one request fail (the money is taken, the answer is lost), and see what really happened:

  curl http://127.0.0.1:12111/_standin/faults \\
       -d '{"fault": "drop_after_commit", "path": "/capture$", "times": 1}'
  curl http://127.0.0.1:12111/_standin/effects

See the README for everything else.
"""

EPILOG = """\
exit code: 0 stopped by SIGTERM or SIGINT; 1 the address cannot be used; 2 an option is wrong
"""


def main(arguments: list[str] | None = None, create: Callable[[Settings], Standin] = create_app) -> None:
    """Serve the application that `create` makes from the options; by default the stand-in itself."""
    asked = _parser().parse_args(arguments)
    settings = Settings(
        account=asked.account,
        api_keys=tuple(asked.api_key),
        rates=asked.rate_limit,
        seed=asked.seed,
        requests_kept=asked.requests_kept,
        search_lag_s=asked.search_lag,
    )
    take_currencies_of(asked.country)
    app = create(settings)
    serve(app, app.stop, host=asked.host, port=asked.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "stripe-standin",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; anyone who reaches it may use /_standin, so leave it at loopback",
    )
    parser.add_argument(
        "--port",
        type=_number("N", fields.whole(0, 65_535)),
        default=0,
        metavar="N",
        help="port to listen on; 0, the default, takes any free one",
    )
    parser.add_argument(
        "--rate-limit",
        type=_option("N", limits.parse),
        default=limits.Rates(),
        metavar="N|stripe|off",
        help="429 above so many requests per second, per account and mode; `stripe` for Stripe's own limits, "
        "of each operation, too; default off",
    )
    parser.add_argument(
        "--account",
        type=_option("ID", ACCOUNT),
        default=Settings.account,
        metavar="ID",
        help="the account that API keys belong to; default %(default)s",
    )
    parser.add_argument(
        "--country",
        choices=sorted(FURTHER),
        default="US",
        help="where the accounts are: in AE they take currencies with three decimals, too; default %(default)s",
    )
    parser.add_argument(
        "--api-key",
        type=_option("KEY", API_KEY),
        action="append",
        default=[],
        metavar="KEY",
        help="accept this API key only (may be repeated); default: every sk_/rk_ test or live key",
    )
    parser.add_argument(
        "--seed",
        type=_number("N", fields.SEED),
        default=None,
        metavar="N",
        help="make ids and chances repeatable",
    )
    parser.add_argument(
        "--requests-kept",
        type=_number("N", fields.whole(0, REQUESTS_KEPT_MAX)),
        default=REQUESTS_KEPT,
        metavar="N",
        help="how many requests GET /_standin/requests remembers; default %(default)s",
    )
    parser.add_argument(
        "--search-lag",
        type=_number("SECONDS", fields.number(0, index.LAG_MAX_S)),
        default=index.LAG_S,
        metavar="SECONDS",
        help="how far behind search is; default %(default)s",
    )
    return parser


def _option(shown: str, reader: Reader) -> Callable[[str], Any]:
    """A function for argparse that reads an option's text. `shown` is the value's name in the help."""

    def read(text: str) -> Any:
        try:
            return reader(text, shown)
        except Refused as refused:
            raise argparse.ArgumentTypeError(str(refused)) from None

    return read


def _number(shown: str, reader: Reader) -> Callable[[str], Any]:
    return _option(shown, fields.written(reader))


if __name__ == "__main__":
    main()
