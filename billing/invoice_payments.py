"""What Stripe shows of an invoice's payment: whether it is paid, and what became of an attempt to charge it.

That no attempt was made is provable before the first one only: Stripe counts every first attempt, and of later ones
those alone that it makes by itself (`attempt_count`, docs.stripe.com/api/invoices/object). So a later attempt is found
by the event that carries our key, and where there is none, nothing is proven. A second charge of one invoice is
excluded by Stripe: an invoice that is paid, or whose payment is under way, is not charged.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from billing.differences import differences, reason
from billing.idempotency import BAD_REQUEST
from billing.learned import Learned
from billing.own_events import around, by_whom
from billing.provider_ids import IdKind, object_path
from billing.steps import Gone, Json, Judgment, LoadedOperation, LookResult, Reader, judgment, read_object
from billing.tables.idempotency_records import Record

PROCESSING = "processing"
"""A payment is under way: the customer's bank takes days for it, as for a direct debit."""
REQUIRES_ACTION = "requires_action"
"""The customer must confirm the payment, as with 3-D Secure."""
BY_OTHERS = "by_others"
"""Why a look has found an effect that an event shows to be somebody else's."""
_NEEDS_THE_CUSTOMER = "invoice_payment_intent_requires_action"
"""Stripe's code for that. Source: docs.stripe.com/error-codes."""
REFUSED = (
    "refused_by_stripe: has the customer, or the invoice, a payment method? Stripe's log has its reason under the "
    "request id"
)
"""Stripe's refusals of this call have no codes, and we never read their texts."""
_WITH_PAYMENTS = "expand[0]=payments.data.payment.payment_intent&expand[1]=amount_paid_off_stripe"


class Owed(NamedTuple):
    """What is to be paid: the invoice at Stripe, and its total in minor units."""

    stripe_invoice: str
    minor: int
    currency: str


def judge_paid(of: Owed, invoice: Json) -> Judgment:
    """Of the answer to a call that pays it. One that is still open is looked at: its payment may be under way."""
    wrong = differences(invoice, object="invoice", id=of.stripe_invoice, currency=of.currency.lower())
    if wrong or invoice.get("status") != "paid":
        return judgment(wrong, Learned.ASK)
    return judgment(differences(invoice, total=of.minor))


def read_to_end(of: Owed, read: Reader, livemode: bool) -> Json | LookResult:
    """The invoice with its payments, or what ends a look: it is not what we asked for. Raises Unread and Gone."""
    path = f"{object_path(IdKind.INVOICE, of.stripe_invoice)}?{_WITH_PAYMENTS}"
    invoice = read_object(read, path, ("invoice", of.stripe_invoice), livemode=livemode)
    if invoice.get("status") == "draft":
        # It was finalized, and no finalized invoice becomes a draft.
        return LookResult(Learned.FOUND_DIFFERENT, invoice, not_open(invoice))
    if wrong := differences(invoice, total=of.minor, currency=of.currency.lower()):
        return LookResult(Learned.FOUND_DIFFERENT, invoice, reason("total_differs", wrong))
    return invoice


def look_for_payment(
    loaded: LoadedOperation, of: Owed, read: Reader, livemode: bool, *, chargeable: Sequence[str] = ("open",)
) -> LookResult:
    """What became of the open record's call that charges this invoice, which it may in these statuses. Raises
    Unread."""
    try:
        invoice = read_to_end(of, read, livemode)
        return invoice if isinstance(invoice, LookResult) else _seen(loaded, of, invoice, read, chargeable)
    except Gone as gone:
        # Stripe deletes no invoice that has its number. Unless the account is known to be ours, its key may be
        # another's.
        return LookResult(Learned.IMPOSSIBLE if gone.sure else Learned.UNPROVABLE, why="gone")


def _seen(loaded: LoadedOperation, of: Owed, invoice: Json, read: Reader, chargeable: Sequence[str]) -> LookResult:
    status = invoice.get("status")
    if status == "paid":
        whose = by_whom(loaded, read, "invoice.paid", of.stripe_invoice, _when_it_was_paid(loaded, invoice))
        return LookResult(whose or Learned.FOUND_FREE, invoice, BY_OTHERS if whose is Learned.FOUND_FREE else "")
    if status == "void":
        return LookResult(Learned.IMPOSSIBLE, invoice, not_open(invoice))
    found = _attempted(loaded, of, invoice, read) if was_attempted(invoice) else None
    if found is not None:
        return found
    if status not in chargeable:
        return LookResult(Learned.IMPOSSIBLE, invoice, not_open(invoice))
    if was_refused(loaded.open_record):
        return LookResult(Learned.REFUSED, invoice, REFUSED)
    if was_attempted(invoice):
        return LookResult(Learned.UNPROVABLE, invoice, "attempted_by_whom")
    return LookResult(Learned.ABSENT, invoice)


def _attempted(loaded: LoadedOperation, of: Owed, invoice: Json, read: Reader) -> LookResult | None:
    """What became of the attempt, if it may have been ours; None if nothing shows that we have made one."""
    intent = _intent_of(invoice)
    match intent.get("status"):
        case "processing":
            # By whoever it was begun: there is nothing to do but to wait for it.
            return LookResult(Learned.SUCCEEDED, invoice, PROCESSING)
        case "requires_action":
            return LookResult(Learned.DECLINED, invoice, REQUIRES_ACTION)
    kind = "invoice.payment_failed"
    if by_whom(loaded, read, kind, of.stripe_invoice, loaded.created) is Learned.FOUND_OURS:
        return LookResult(Learned.DECLINED, invoice, _code(intent.get("last_payment_error")) or "declined")
    return None


def was_attempted(invoice: Json) -> bool:
    """Whether somebody has tried to charge it, as far as Stripe shows: it counts any payment attempt as the first."""
    return invoice.get("attempt_count") != 0 or invoice.get("attempted") is not False


def not_open(invoice: Json) -> str:
    return reason("not_open", differences(invoice, status="open"))


def why_declined(answer: Json, why: str) -> str:
    """The reason of what was declined: the code of the card's issuer where Stripe names it, else Stripe's own. `why` is
    what the protocol made of the answer."""
    error = answer.get("error")
    if not isinstance(error, Mapping):
        return why
    code = _code(error)
    return REQUIRES_ACTION if code == _NEEDS_THE_CUSTOMER else code or why


def shown(data: Json) -> Json:
    """The invoice that an answer is, or that is attached to its error."""
    error = data.get("error")
    attached = error.get("invoice") if isinstance(error, Mapping) else None
    return attached if isinstance(attached, Mapping) else data


def _code(error: object) -> str | None:
    """The code of the card's issuer in an error, or Stripe's."""
    if not isinstance(error, Mapping):
        return None
    return next((str(code) for name in ("decline_code", "code") if (code := error.get(name))), None)


def was_refused(record: Record | None) -> bool:
    """Whether Stripe refused the request of this record, and so charged nothing for it: its only send was answered with
    a 400."""
    if record is None or record.answer_status != BAD_REQUEST:
        return False
    return record.unanswered <= 1 and not record.replayed


def _intent_of(invoice: Json) -> Json:
    """The PaymentIntent by which it is to be paid; empty if Stripe shows none."""
    return next((intent for intent in _intents(invoice)), {})


def _intents(invoice: Json) -> Iterator[Json]:
    payments: Any = invoice.get("payments")
    listed = payments.get("data") if isinstance(payments, Mapping) else None
    for each in listed if isinstance(listed, list) else ():
        payment = each.get("payment") if isinstance(each, Mapping) and each.get("status") == "open" else None
        intent = payment.get("payment_intent") if isinstance(payment, Mapping) else None
        if isinstance(intent, Mapping):
            yield intent


def _when_it_was_paid(loaded: LoadedOperation, invoice: Json) -> Json:
    """The filter for the event of its payment."""
    transitions = invoice.get("status_transitions")
    at = transitions.get("paid_at") if isinstance(transitions, Mapping) else None
    return around(at) if type(at) is int else loaded.created
