"""Act 1: every move once, as an operator types it. An application asks by `billing.request_capture` and its like.

Commands that do not wait for each other run at once.
"""

from dataclasses import dataclass

from billing.states import CaptureState, InvoiceState, RefundState, VoidState
from jobs.demo.shopping import Shop
from jobs.demo.stage import Running, Stage

IN_PARTS = "&payment_method_options[card][request_multicapture]=if_available"
SLOW_BANK = "pm_card_pendingRefund"
"""A test card of Stripe's: its refunds are `pending` first."""
LATE_S = 3600
"""So late come webhooks about the refunds, by the stand-in's clock, which the demo moves in its fourth act."""


@dataclass(slots=True)
class Moves:
    """`invoice` and `slow_refund` are requests that Stripe has not ended after this act."""

    stage: Stage
    shop: Shop
    invoice: str = ""
    slow_refund: str = ""

    def play(self) -> None:
        stage, shop = self.stage, self.shop
        stage.title("1. Every move of money, once")
        parts = shop.card(2000, IN_PARTS)
        rest, unwanted, slow = shop.card(1999), shop.card(4500), shop.card(2500, card=SLOW_BANK)
        customer = shop.customer()
        bill = ("--customer", customer, "--line", "3 seats=4500", "--currency", "EUR", "--days-until-due", "14")
        first = self._begin("capture", parts, "parcel-1", "--amount", "700", "--currency", "USD", "--remainder", "keep")
        part = self._begin("capture", rest, "part", "--amount", "1500", "--currency", "USD")
        void = self._begin("void", unwanted, "canceled", "--reason", "requested_by_customer")
        whole = self._begin("capture", slow, "whole", "--amount", "2500", "--currency", "USD")
        invoice = stage.begin("invoice", "issue", *bill, "--request-id", self._request_id("seats"), "--wait")
        stage.ends(first, CaptureState.CAPTURED, "7.00 of 20.00 USD; the remainder is kept for another capture")
        self.invoice = stage.ends(invoice, InvoiceState.SENT, "an invoice: drafted, filled, finalized, sent")
        stage.expected[self.invoice] = InvoiceState.PAID
        last = self._begin("capture", parts, "parcel-2", "--amount", "1100", "--currency", "USD")
        stage.ends(part, CaptureState.CAPTURED, "15.00 of 19.99 USD; the remainder is released to the customer")
        stage.ends(void, VoidState.VOIDED, "the order is canceled before anything was captured")
        stage.ends(whole, CaptureState.CAPTURED, "all of it, of a card whose bank is slow with refunds")
        stage.standin.set_webhooks(delay_s=LATE_S)
        back = self._begin("refund", rest, "discount", "--amount", "500", "--currency", "USD")
        late = stage.begin("refund", "--payment-intent", slow, "--request-id", self._request_id("slow"))
        stage.ends(last, CaptureState.CAPTURED, "the second part of the first payment; 2.00 USD are released")
        stage.ends(back, RefundState.SUCCEEDED, "a part is given back")
        stage.ends(self._begin("refund", rest, "return"), RefundState.SUCCEEDED, "then all that is left")
        self.slow_refund = stage.ends(late, RefundState.SUCCEEDED, "a refund that the bank does not end at once")
        stage.until(
            lambda: stage.status(self.slow_refund).state == RefundState.PENDING, "Stripe to accept the slow refund"
        )
        stage.operate("status", self._request_id("slow"))
        stage.standin.set_webhooks(delay_s=0)

    def _begin(self, move: str, payment_intent: str, what: str, *more: str) -> Running:
        names = ("--payment-intent", payment_intent, "--request-id", self._request_id(what))
        return self.stage.begin(move, *names, *more, "--wait")

    def _request_id(self, what: str) -> str:
        return f"{self.stage.tag}-{what}"
