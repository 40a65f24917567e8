"""The call that charges an invoice: Stripe takes what is to be paid from the customer's payment method.

It ends as paid, or as unpaid: what was declined, or needs the customer, is not tried again by itself. To pay it is a
new request then (`billing.pay_invoice`), or the customer does it.
"""

from billing.idempotency import Rules
from billing.invoice_payments import PROCESSING, Owed, judge_paid, look_for_payment, shown, why_declined
from billing.invoice_row import ended, invoice_of, paid, path_of, refuse, unpaid
from billing.learned import Learned
from billing.steps import Ask, Json, LoadedOperation, Step
from billing.tables.facts import Fact


def _ask_to_pay(loaded: LoadedOperation) -> Ask:
    row = invoice_of(loaded)
    # By the invoice's own payment method, which its draft has, or by the customer's default one. `off_session` is
    # Stripe's default, and is said because the customer is not there to confirm anything.
    return Ask("POST", path_of(loaded, "pay"), {"off_session": True}, row.stripe_invoice)


def _owed(loaded: LoadedOperation) -> Owed:
    row = invoice_of(loaded)
    return Owed(str(row.stripe_invoice), row.final_minor, row.currency)


def _apply_pay(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    invoice = shown(data)
    if outcome is Learned.SUCCEEDED:
        return paid(loaded, invoice) if invoice.get("status") == "paid" else unpaid(loaded, invoice, PROCESSING)
    if invoice.get("status") in ("void", "uncollectible"):
        return ended(loaded, invoice)
    return refuse(loaded, why) if why == "gone" else unpaid(loaded, invoice, why_declined(data, why))


PAY = Step(
    name="pay",
    ask=_ask_to_pay,
    judge=lambda loaded, invoice: judge_paid(_owed(loaded), invoice),
    find=lambda loaded, read, livemode: look_for_payment(loaded, _owed(loaded), read, livemode),
    apply=_apply_pay,
    # That nothing was attempted is read from a count, so the proof waits until the last send has settled. Where
    # somebody else has tried, too, no look can tell whether we did. A person can, by Stripe's log: an attempt that took
    # the money would have been found, so one that was made was declined.
    rules=Rules(proof_settles=True, needs_a_person=True, seen_as=Learned.DECLINED),
    # It has its number and is open at Stripe, whether we have tried to charge it or not.
    ruled_out=lambda loaded, why: unpaid(loaded, {}, why),
)
