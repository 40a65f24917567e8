"""Act 4: what changes at Stripe by itself, told by webhooks that come twice and out of order."""

from collections import Counter

from billing.states import InvoiceState, RefundState
from jobs.demo.invoicing import at_stripe
from jobs.demo.moves import LATE_S, Moves
from jobs.demo.stage import Stage

EVENTS = ("refund.created", "refund.updated", "charge.refunded", "invoice.paid")
"""What the stand-in sends here. An endpoint at Stripe takes all that docs/moves/webhooks.md names: for the captures of
the third act that would be a thousand webhooks, which tell nothing new."""
BANK_S = 60
"""After so long a bank ends a slow refund, by the stand-in's clock."""
DELIVERED_WITHIN_S = 60.0
"""The stand-in answers no later."""


def play(stage: Stage, moves: Moves) -> None:
    """The customer pays the invoice, and the bank ends the slow refund. What Stripe said before comes after that."""
    stage.title("4. What happens at Stripe by itself: webhooks, twice and out of order")
    standin, shop = stage.standin, moves.shop
    standin.set_webhooks(duplicates={"every": 1})
    shop.pay(at_stripe(stage, moves.invoice))
    standin.advance(BANK_S)
    stage.until(lambda: stage.status(moves.invoice).state == InvoiceState.PAID, "the invoice to be paid")
    stage.until(lambda: stage.status(moves.slow_refund).state == RefundState.SUCCEEDED, "the bank to end the refund")
    standin.set_webhooks(duplicates=None)
    standin.advance(LATE_S)
    sent = [each["event"] for each in standin.wait_webhooks(DELIVERED_WITHIN_S) if each["delivered"]]
    twice, late = disorder(sent, shop.events(EVENTS))
    stage.say("the customer paid the invoice, and the bank ended the refund; nobody here asked for either")
    stage.say(
        f"Stripe sent {len(sent)} webhooks to `billing serve` about {len(set(sent))} events: {twice} came twice, and "
        f"{late} after one that is newer"
    )
    for what in ("seats", "slow"):
        stage.operate("status", f"{stage.tag}-{what}")


def disorder(sent: list[str], made: list[str]) -> tuple[int, int]:
    """How many events came more than once, and how many came for the first time after a newer one. Both lists are ids
    of events: as they were sent, and in the order in which they were made."""
    places = {event: place for place, event in enumerate(made)}
    firsts = [places[event] for event in dict.fromkeys(sent) if event in places]
    late = sum(place < max(firsts[: number + 1]) for number, place in enumerate(firsts))
    return sum(times > 1 for times in Counter(sent).values()), late
