"""What the documentation promises about PaymentIntents and refunds, written a second time.

It is independent of the stand-in; amounts are in minor units, times in seconds on its clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from model_keys import DAY, Books, Effects, Verdict

HOLD = 7 * DAY  # of every card used here (docs.stripe.com/payments/place-a-hold-on-a-payment-method)
BACKGROUND = 3600  # `automatic_async` has its balance transaction within an hour (docs: asynchronous capture)
REFUND_FAILS_AFTER = 60  # decided by the stand-in: Stripe says "some time later"

VISA, DECLINED, ASKS = "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"
REFUND_FAILS = "pm_card_refundFail"
UNPAID = ("requires_payment_method", "requires_confirmation", "requires_action")


def done(*effects: tuple[str, int | None]) -> Verdict:
    return Verdict(200, None, effects)


def refused(code: str | None = None, status: int = 400, *, begun: bool = True) -> Verdict:
    return Verdict(status, code, begun=begun)


MALFORMED = refused(begun=False)
MISSING = refused("resource_missing", 404)
UNEXPECTED_STATE = refused("payment_intent_unexpected_state")
UNKNOWN_CARD = refused("resource_missing")  # test cards are unknown in live mode


@dataclass(eq=False)
class Payment:
    """A PaymentIntent with its latest charge."""

    books: Books
    amount: int
    capture_method: str = "automatic"
    several: bool = False  # captures
    id: str = ""  # learned from the effect
    status: str = "requires_payment_method"
    card: str | None = None
    asked: bool = False  # a bank was asked, and there is a charge
    held: int = 0
    captured: int = 0
    captures: int = 0
    refunded: int = 0
    held_until: float | None = None
    failing: list[tuple[float, int]] = field(default_factory=list)  # refunds that will come back
    paid: Callable[[], Effects] | None = None  # updates its invoice, if it has one

    def confirm(self, card: str | None, now: float) -> Verdict:
        if self.status not in UNPAID or (card or self.card) is None:
            return UNEXPECTED_STATE
        if card is not None and self.books.livemode:
            return UNKNOWN_CARD
        self.card = card or self.card
        if self.card == ASKS:
            self.status = "requires_action"
            return done()
        return self.ask_the_bank(now)

    def authenticated(self, proved: bool, now: float) -> Verdict:
        if proved:
            return self.ask_the_bank(now)
        self.status, self.card = "requires_payment_method", None
        return done(("decline", self.amount))

    def ask_the_bank(self, now: float) -> Verdict:
        self.asked = True
        if self.card == DECLINED:
            self.status, self.card = "requires_payment_method", None
            return Verdict(402, "card_declined", (("decline", self.amount),))
        if self.capture_method == "manual":
            self.status, self.held, self.held_until = "requires_capture", self.amount, int(now) + HOLD
            return done(("authorization", self.amount))
        self.status, self.captured, self.captures = "succeeded", self.amount, 1
        return done(("capture", self.amount), *(self.paid() if self.paid else ()))

    def capture(self, amount: int | None, final: bool) -> Verdict:
        if self.status != "requires_capture":
            return UNEXPECTED_STATE
        taken = self.held if amount is None else amount
        if taken > self.held:
            return refused("amount_too_large")
        if not final and not self.several:
            return refused()
        if taken == 0 and not (final and self.captures):
            return MALFORMED
        self.held -= taken
        self.captured += taken
        self.captures += taken > 0
        return done(*([("capture", taken)] if taken else []), *(self._release() if final else ()))

    def cancel(self) -> Verdict:
        if self.status in ("succeeded", "canceled") or self.paid:
            return UNEXPECTED_STATE
        return done(*self.end("payment_intent.canceled"))

    def refund(self, amount: int | None, now: float) -> Verdict:
        left = self.captured - self.refunded
        if left == 0:
            return refused("charge_already_refunded" if self.captured else None)
        given = left if amount is None else amount
        if given > left:
            return refused()
        self.refunded += given
        if self.card == REFUND_FAILS:
            self.failing.append((int(now) + REFUND_FAILS_AFTER, given))
        return done(("refund", given))

    def pass_time(self, now: float) -> Iterator[tuple[str, int]]:
        """Apply what happens by itself until `now`."""
        for at, amount in [each for each in self.failing if each[0] <= now]:
            self.failing.remove((at, amount))
            self.refunded -= amount
            yield "refund.failed", amount
        if self.status == "requires_capture" and self.held_until is not None and self.held_until <= now:
            yield from self.end("authorization.expired")

    def borders(self) -> Iterator[float]:
        yield from (at for at, _ in self.failing)
        if self.held_until is not None:
            yield self.held_until

    def end(self, kind: str) -> list[tuple[str, int]]:
        """Release the rest. Earlier captures stay, and no more can follow (docs: multicapture)."""
        if self.captured:
            return self._release()
        held, self.held, self.status = self.held, 0, "canceled"
        return [(kind, held)]

    def _release(self) -> list[tuple[str, int]]:
        left, self.held, self.status = self.held, 0, "succeeded"
        return [("release", left)] if left else []
