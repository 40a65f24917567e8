"""The calls that make a draft an invoice: finalize it and send it.

Afterwards its amounts cannot change. An event with our key proves that a call was ours.
"""

from collections.abc import Mapping

from billing.differences import differences, reason
from billing.idempotency import Rules
from billing.invoice_payments import shown
from billing.invoice_row import (
    ENDED,
    differ,
    ended,
    invoice_of,
    money_of,
    move,
    paid,
    path_of,
    read_invoice,
    refuse,
)
from billing.learned import Learned
from billing.own_events import around, by_whom
from billing.states import InvoiceState
from billing.steps import Ask, Gone, Json, Judgment, LoadedOperation, LookResult, Reader, Step, judgment
from billing.tables.facts import Fact


def _judge_open(loaded: LoadedOperation, invoice: Json) -> Judgment:
    row = invoice_of(loaded)
    wrong = differences(invoice, object="invoice", id=row.stripe_invoice, currency=row.currency.lower())
    if wrong or invoice.get("status") not in _FINALIZED:
        return judgment(wrong, Learned.ASK)
    return judgment(differences(invoice, total=row.final_minor))


_FINALIZED = ("open", "paid")


def _refused_open(_loaded: LoadedOperation, error: Json) -> Learned:
    invoice = error.get("invoice")
    if isinstance(invoice, Mapping) and invoice.get("status") in ("void", "uncollectible"):
        return Learned.REFUSED
    return Learned.ASK


def _look_for_finalized(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        invoice = read_invoice(loaded, read, livemode)
        if invoice.get("status") == "draft":
            return LookResult(Learned.ABSENT, invoice)
        if ended := _no_longer_open(loaded, invoice):
            return ended
        whose = _whose(loaded, read, "invoice.finalized", _when_it_was_finalized(loaded, invoice))
    except Gone:
        return LookResult(Learned.IMPOSSIBLE, why="gone")
    # It is finalized. Without an event that says by whom, it counts as finalized by somebody else.
    return LookResult(whose or Learned.FOUND_FREE, invoice)


def _look_for_sent(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    try:
        invoice = read_invoice(loaded, read, livemode)
        if invoice.get("status") == "draft":
            # It was finalized, and no finalized invoice becomes a draft.
            return LookResult(Learned.FOUND_DIFFERENT, invoice, _not_open(invoice))
        if ended := _no_longer_open(loaded, invoice):
            return ended
        whose = _whose(loaded, read, "invoice.sent", _since_it_was_finalized(loaded, invoice))
    except Gone:
        return LookResult(Learned.IMPOSSIBLE, why="gone")
    if whose is not Learned.FOUND_OURS and invoice.get("status") == "paid":
        # A paid invoice needs no e-mail that asks for payment.
        return LookResult(Learned.FOUND_FREE, invoice, PAID)
    if whose is None and invoice.get("customer_email", "unknown") is None:
        return LookResult(Learned.IMPOSSIBLE, invoice, NO_EMAIL)
    return LookResult(whose or Learned.ABSENT, invoice)


def _no_longer_open(loaded: LoadedOperation, invoice: Json) -> LookResult | None:
    """What ends finalizing and sending: it was voided or marked uncollectible, or it is not what we asked for."""
    row = invoice_of(loaded)
    if invoice.get("status") not in _FINALIZED:
        return LookResult(Learned.IMPOSSIBLE, invoice, _not_open(invoice))
    if wrong := differences(invoice, total=row.final_minor, currency=row.currency.lower()):
        return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", wrong))
    return None


def _not_open(invoice: Json) -> str:
    return reason("not_open", differences(invoice, status="open"))


def _whose(loaded: LoadedOperation, read: Reader, kind: str, created: Json) -> Learned | None:
    """Who did it, by the events of this kind that were created then; None if there is none. Raises Unread."""
    return by_whom(loaded, read, kind, str(invoice_of(loaded).stripe_invoice), created)


def _when_it_was_finalized(loaded: LoadedOperation, invoice: Json) -> Json:
    """The filter for the event of its finalization. By Stripe's own clock, so a minute on either side is ample."""
    at = _finalized_at(invoice)
    return loaded.created if at is None else around(at)


def _since_it_was_finalized(loaded: LoadedOperation, invoice: Json) -> Json:
    """The filter for the events of its sends: as `loaded.created`, but none is older than its finalization."""
    return loaded.created_since(_finalized_at(invoice) or 0)


def _finalized_at(invoice: Json) -> int | None:
    """When Stripe finalized it, in seconds since 1970; None if it does not say."""
    transitions = invoice.get("status_transitions")
    at = transitions.get("finalized_at") if isinstance(transitions, Mapping) else None
    return at if type(at) is int else None


def _apply_finalize(loaded: LoadedOperation, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    row, seen = invoice_of(loaded), shown(invoice)
    status, number = seen.get("status"), seen.get("number")
    if isinstance(number, str) and status != "void":
        # Kept for a refused one, too: it may be payable, so no second one is made.
        row.number = number
    if outcome is not Learned.SUCCEEDED:
        # The draft is deleted first, because somebody could finalize it by mistake.
        return differ(loaded, why) if status in (None, "draft") and why != "gone" else refuse(loaded, why)
    finalized = move(loaded, InvoiceState.FINALIZED, "finalized", number=number, **money_of(row))
    # A credit balance, or a total below Stripe's minimum, leaves nothing to pay.
    return [*finalized, *paid(loaded, seen)] if status == "paid" else finalized


def _apply_send(loaded: LoadedOperation, outcome: Learned, invoice: Json, why: str) -> list[Fact]:
    if outcome is not Learned.SUCCEEDED:
        return ended(loaded, shown(invoice)) if shown(invoice).get("status") in ENDED else refuse(loaded, why)
    if why == PAID:
        return paid(loaded, invoice)
    row = invoice_of(loaded)
    return move(loaded, InvoiceState.SENT, "sent", number=row.number, **money_of(row))


NO_EMAIL = "no_email: the customer has no e-mail address, so Stripe sends nothing; set one, and reopen the invoice"
"""Why an invoice that has its number was not sent."""
PAID = "paid"
"""The reason why a send counts as done although the invoice was not sent."""

FINALIZE = Step(
    name="finalize",
    ask=lambda loaded: Ask(
        "POST", path_of(loaded, "finalize"), {"auto_advance": False}, invoice_of(loaded).stripe_invoice
    ),
    judge=_judge_open,
    refusal=_refused_open,
    find=_look_for_finalized,
    apply=_apply_finalize,
)
SEND = Step(
    name="send",
    ask=lambda loaded: Ask("POST", path_of(loaded, "send"), {}, invoice_of(loaded).stripe_invoice),
    judge=_judge_open,
    refusal=_refused_open,
    find=_look_for_sent,
    apply=_apply_send,
    rules=Rules(proof_settles=True),
)
