"""What the documentation promises about keys and faults, written a second time, independent of the stand-in.

The machine asks both, and compares. Times are in seconds on the stand-in's clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

DAY = 86_400

Effects = tuple[tuple[str, int | None], ...]  # kinds and amounts, in no particular order


class Books(NamedTuple):
    """An account in one mode, to which objects and keys belong. Other books never see them."""

    account: str | None  # None: the account of the API key
    livemode: bool


class Verdict(NamedTuple):
    """The expected result of a request. Its key saves it only if execution has begun."""

    status: int
    code: str | None = None
    effects: Effects = ()
    begun: bool = True


class Sent(NamedTuple):
    """A request, as far as keys compare it."""

    books: Books
    method: str
    path: str
    form: dict[str, str]
    key: str | None


@dataclass(eq=False)
class Saved:
    """What is saved under a key. The body is taken from the first whole answer."""

    sent: Sent
    at: float
    verdict: Verdict
    request_id: str
    body: bytes | None = None


@dataclass
class Expected:
    """What the client should see. `status` None: the connection ends without a whole answer."""

    status: int | None
    code: str | None = None
    page: bool = False
    lie: bool = False
    replay_of: Saved | None = None
    saved: Saved | None = None
    effects: Effects = ()


# What a fault does (README.md).
ON_ARRIVAL = {"drop_before": None, "502_html": 502, "200_html": 200, "redirect_307; location=http://127.0.0.1:9/x": 307}
REFUSED_BEFORE = {
    "401": (401, "api_key_expired"),
    "403": (403, None),
    "429_rate": (429, "rate_limit"),
    "409_in_use": (409, "idempotency_key_in_use"),
}
INSTEAD = {
    "402_declined": Verdict(402, "card_declined"),
    "500_saved": Verdict(500),
    "500_no_effect": Verdict(500, begun=False),
    "429_lock_saved": Verdict(429, "lock_timeout"),
    "424": Verdict(424),
}
OVER = "500_with_effect"
LOST = ("drop_after_commit", "truncate_body")
PAGES = {"502_html; with_effect=true": 502, "200_html; with_effect=true": 200}
LIES = ("other_id", "other_object", "other_livemode", "other_currency", "other_amount", "not_end_state")
HARMLESS = ("latency; seconds=0.001", "latency_after; seconds=0.001")
FAULTS = (*ON_ARRIVAL, *REFUSED_BEFORE, *INSTEAD, OVER, *LOST, *PAGES, *LIES, *HARMLESS)


class Keys:
    """One key, one answer, for a day (docs.stripe.com/api/idempotent_requests)."""

    def __init__(self) -> None:
        self._saved: dict[tuple[Books, str], Saved] = {}

    def borders(self) -> Iterator[float]:
        return (saved.at + DAY for saved in self._saved.values())

    def expect(self, sent: Sent, fault: str | None, at: float, request_id: str, run: Callable[[], Verdict]) -> Expected:
        """The expected result of `sent` at the time `at`.

        `run` computes it, and is called only if `sent` is executed.
        """
        if fault in ON_ARRIVAL:
            return Expected(ON_ARRIVAL[fault], page=True)
        if fault in REFUSED_BEFORE:
            return Expected(*REFUSED_BEFORE[fault])
        expected = self._understood(sent, fault, at, request_id, run)
        if fault in LOST:
            expected.status = None
        elif fault in PAGES:
            expected.status, expected.page = PAGES[fault], True
        expected.lie = fault in LIES
        return expected

    def _understood(
        self, sent: Sent, fault: str | None, at: float, request_id: str, run: Callable[[], Verdict]
    ) -> Expected:
        place = (sent.books, sent.key or "")
        saved = self._saved.get(place)
        if saved is not None and at - saved.at < DAY:
            if saved.sent != sent:
                return Expected(400)
            return Expected(saved.verdict.status, saved.verdict.code, replay_of=saved)
        verdict = run()
        if fault == OVER and verdict.begun:
            verdict = verdict._replace(status=500, code=None)
        record = None
        if sent.key and verdict.begun:
            record = self._saved[place] = Saved(sent, at, verdict, request_id)
        return Expected(verdict.status, verdict.code, saved=record, effects=verdict.effects)
