"""Stripe, read only and at a pace: a gateway that waits for a token before each read, and leaves most of them to work.

It shares the buckets of all workers (`jobs.limits`), so a pass that reads ten thousand pages takes no capture's place.
"""

import time
from collections.abc import Callable

from billing.gateway import Answer, Budget, Gateway, NotSent, Request, Response, boot_clock
from jobs.limits.pace import Pace
from jobs.road.refusing_gateways import ReadOnly

LEAVES = 0.5
"""The share of an account's tokens that it leaves to the workers while they use them, as the invoices do."""
TRIES = 5
"""Of one read, if Stripe refuses it for its rate. Each refusal slows the account down for everybody."""
REST_S = 0.05


class Paced:
    """A `Gateway` that only reads. `nap` waits for so many seconds."""

    def __init__(self, gateway: Gateway, pace: Pace, nap: Callable[[float], object] = time.sleep) -> None:
        self.livemode = gateway.livemode
        self._gateway, self._pace, self._nap = ReadOnly(gateway), pace, nap

    def send(self, request: Request, budget: Budget) -> Answer:
        """Read, once there is a token for this account. A 429 is tried again within the budget, at the new pace."""
        answer: Answer = NotSent("too late to start")
        for _ in range(TRIES):
            while not (self._pace.room(1) and self._pace.allows(request.account)):
                if boot_clock() > budget.not_after:
                    return answer
                self._nap(max(REST_S, min(1.0, self._pace.opens_in_s())))
            self._pace.spend(request.account)
            answer = self._gateway.send(request, budget)
            refused = isinstance(answer, Response) and answer.status == 429
            throttled = (answer.error_code or "rate_limit") if isinstance(answer, Response) and refused else None
            self._pace.learn(request.account, reached=_reached(answer), throttled=throttled)
            self._pace.tell()
            if not refused:
                break
        return answer


def _reached(answer: Answer) -> bool | None:
    """As `calls.Report.reached`: None if Stripe was not called."""
    match answer:
        case Response(status=status, data=data):
            return status < 500 and data is not None
        case NotSent(unreached=False):
            return None
        case _:
            return False
