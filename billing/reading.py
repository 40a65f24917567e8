"""Reads at Stripe for a command: patiently, because nobody else waits for it, and it may have many pages to read."""

import time
from collections.abc import Callable

from billing.call_settings import CallSettings
from billing.errors import BillingError
from billing.gateway import Answer, Budget, Gateway, Request, Response, boot_clock
from billing.steps import Reader

PAGE_S = 30.0
PAUSES_S = (0.2, 1.0, 5.0, 15.0)
"""After each time that a page was not answered. Then it is asked for once more, and that answer counts."""
THROTTLED, SERVER_ERROR = 429, 500


class NotRead(BillingError):
    """Stripe did not answer what was asked, so nothing can be said about all of it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Stripe could not be read to the end ({why}); run it again")
        self.why = why


def patient_readers(gateway: Gateway, call_settings: CallSettings) -> Callable[[str | None], Reader]:
    """The reader of an account, through this gateway. Each page has a time of its own, and is asked for again if no
    answer came, because to read is harmless."""

    def of_account(account: str | None) -> Reader:
        def get(path: str) -> Answer:
            for pause_s in PAUSES_S:
                answer = once(path)
                if isinstance(answer, Response) and answer.status < SERVER_ERROR and answer.status != THROTTLED:
                    return answer
                time.sleep(pause_s)
            return once(path)

        def once(path: str) -> Answer:
            until = boot_clock() + PAGE_S
            return gateway.send(Request("GET", path, account=account), Budget(until, until))

        return Reader(get, account or call_settings.own_account)

    return of_account
