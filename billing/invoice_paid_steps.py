"""The call that marks an invoice as paid whose money was taken before: no charge is made, and nothing is sent.

To attach the payment instead (`attach_payment`) would credit the whole payment to one invoice, and an invoice of ours
may hold a part of a payment, or what is left of it (docs/decisions.md). Stripe refuses to pay an invoice that is paid,
so this call has one effect however often it is made.

The action `mark_invoice_paid` makes the same call, and concludes otherwise from what it finds: an invoice that a charge
has paid ends it, and is a conflict here, where the money was taken before; one that was given up may be marked there,
and not here. So each has a look of its own.
"""

from billing.differences import differences, reason
from billing.idempotency import Rules
from billing.invoice_payments import Owed, judge_paid, not_open, shown
from billing.invoice_row import ended, invoice_of, paid, path_of, read_invoice, refuse
from billing.learned import Learned
from billing.own_events import by_whom
from billing.steps import Ask, Gone, Json, Judgment, LoadedOperation, LookResult, Reader, Step
from billing.tables.facts import Fact

PAID_TWICE = "paid_through_stripe"
"""Somebody charged, or the customer paid, what was taken before: it needs a decision, and probably a refund."""


def _ask_to_mark(loaded: LoadedOperation) -> Ask:
    asked = {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    return Ask("POST", path_of(loaded, "pay"), asked, invoice_of(loaded).stripe_invoice)


def _judge(loaded: LoadedOperation, invoice: Json) -> Judgment:
    row = invoice_of(loaded)
    return judge_paid(Owed(str(row.stripe_invoice), row.final_minor, row.currency), invoice)


def _look(loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
    row = invoice_of(loaded)
    try:
        invoice = read_invoice(loaded, read, livemode)
    except Gone as gone:
        return LookResult(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="gone")
    if wrong := differences(invoice, total=row.final_minor, currency=row.currency.lower()):
        return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", wrong))
    match invoice.get("status"):
        case "open":
            return LookResult(Learned.ABSENT, invoice)
        case "paid" if _through_stripe(invoice):
            return LookResult(Learned.FOUND_DIFFERENT, invoice, PAID_TWICE)
        case "paid":
            whose = by_whom(loaded, read, "invoice.paid", str(row.stripe_invoice), loaded.created)
            return LookResult(whose or Learned.FOUND_FREE, invoice)
        case "void" | "uncollectible":
            return LookResult(Learned.IMPOSSIBLE, invoice, not_open(invoice))
    # It was finalized, and no finalized invoice becomes a draft.
    return LookResult(Learned.FOUND_DIFFERENT, invoice, not_open(invoice))


def _through_stripe(invoice: Json) -> bool:
    """Whether money came in for it through Stripe. What a credit balance pays is not among what is paid."""
    amount, off_stripe = invoice.get("amount_paid"), invoice.get("amount_paid_off_stripe")
    return type(amount) is int and type(off_stripe) is int and amount > off_stripe


def _apply(loaded: LoadedOperation, outcome: Learned, data: Json, why: str) -> list[Fact]:
    invoice = shown(data)
    if outcome is Learned.SUCCEEDED:
        return paid(loaded, invoice)
    if invoice.get("status") in ("void", "uncollectible"):
        return ended(loaded, invoice)
    return refuse(loaded, why)


MARK_PAID = Step(
    name="mark_paid",
    ask=_ask_to_mark,
    judge=_judge,
    find=_look,
    apply=_apply,
    # It can be paid by somebody else at any moment, so an absence counts only once our last send has settled.
    rules=Rules(proof_settles=True),
)
