"""Rate limits: token buckets, as Stripe documents them.

A 429 of a limiter comes before the idempotency key is looked up, so it is never saved.
Source: docs.stripe.com/rate-limits (the limits, and the header that names the one that was hit).
"""

from typing import NamedTuple

from . import errors, fields
from .fields import Refused

OPERATION_RATE = 25.0  # each named operation, such as `POST /v1/payment_intents`
SEARCH_RATE = 20.0  # all search operations together (docs.stripe.com/search)
GLOBAL_RATE = {True: 100.0, False: 25.0}  # by livemode: live, and test or a sandbox
INTENT_UPDATES = 1000.0  # of one PaymentIntent
INTENT_UPDATES_S = 3600.0

_RATE = fields.written(fields.number(0.001, 1_000_000))


class Limit(NamedTuple):
    """At most `most` at once, and `most` more in `per_s` seconds."""

    most: float
    per_s: float = 1.0


class Rates(NamedTuple):
    """Which limits hold. Rates are in requests per second; None is no limit."""

    everything: float | None = None  # per account and mode
    as_stripe: bool = False  # Stripe's own numbers, for everything and for each operation


def parse(value: str, name: str) -> Rates:
    """`off`, `stripe`, or a number of requests per second. Raises Refused."""
    if value == "off":
        return Rates()
    if value == "stripe":
        return Rates(as_stripe=True)
    try:
        return Rates(everything=_RATE(value, name))
    except Refused as refused:
        raise Refused(f"{refused}, or off, or stripe") from None


class Limiter:
    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._buckets: dict[tuple[object, ...], tuple[float, float]] = {}

    def clear(self) -> None:
        self._buckets.clear()

    def take(self, account: str, livemode: bool, operation: str, ids: tuple[str, ...], now: float) -> None:
        """Count one request at `now` (the stand-in's clock: moving it on fills the buckets). Raises the 429.

        `operation` is a row of the routes' table, such as `GET /v1/payment_intents/{id}`.
        """
        rates, caller = self._rates, (account, livemode)
        if rates.as_stripe:
            self._from(caller, Limit(GLOBAL_RATE[livemode]), "global-rate", now)
            if operation.endswith("/search"):
                self._from((*caller, "search"), Limit(SEARCH_RATE), "endpoint-rate", now)
            else:
                self._from((*caller, operation), Limit(OPERATION_RATE), "endpoint-rate", now)
            if ids and operation.startswith("POST /v1/payment_intents/"):
                updates = Limit(INTENT_UPDATES, INTENT_UPDATES_S)
                self._from((*caller, ids[0]), updates, "resource-specific", now)
        elif rates.everything is not None:
            self._from(caller, Limit(max(rates.everything, 1.0), max(1 / rates.everything, 1.0)), "global-rate", now)

    def _from(self, bucket: tuple[object, ...], limit: Limit, reason: str, now: float) -> None:
        tokens, at = self._buckets.get(bucket, (limit.most, now))
        tokens = min(limit.most, tokens + (now - at) * limit.most / limit.per_s)
        if tokens < 1:
            self._buckets[bucket] = (tokens, now)
            raise errors.rate_limited(reason)
        self._buckets[bucket] = (tokens - 1, now)
