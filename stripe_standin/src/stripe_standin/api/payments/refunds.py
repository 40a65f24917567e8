"""Refunds: money given back to the card it came from, never more than was captured.

Sources: docs.stripe.com/refunds; docs.stripe.com/testing (the cards whose refunds take time). The texts of
refusals are recorded ones.
"""

from stripe_standin import errors
from stripe_standin.api.ledger.balance import enter
from stripe_standin.call import Call
from stripe_standin.expansion import paths
from stripe_standin.lists import page
from stripe_standin.objects import NO_METADATA, Charge, Json, Refund, shown
from stripe_standin.parameters import PAGE, Table, amount, expand, merged, metadata, moment, one_of, text

# Decided here for the two test cards whose refunds end later; the documentation says "some time later".
ENDS_AFTER_S = 60

_expand = expand(*paths("refund"))
CREATE = Table(
    {
        "amount": amount,
        "charge": text,
        "metadata": metadata,
        "payment_intent": text,
        "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
        "expand": _expand,
    }
)
UPDATE = Table({"metadata": metadata, "expand": _expand})
CANCEL = Table({"expand": _expand})
GET = Table({"expand": _expand})
LIST = Table(
    {
        **PAGE,
        "charge": text,
        "created": moment,
        "payment_intent": text,
        "expand": expand(*paths("refund", data=True)),
    }
)


def give_back(
    call: Call,
    charge: Charge,
    amount: int,
    *,
    reason: str | None = None,
    metadata: dict[str, str] = NO_METADATA,
) -> Refund:
    """Refund `amount` (minor units) of what was captured. Raises Stripe's 400 if that is impossible."""
    books = call.books
    left = charge.amount_captured - charge.amount_refunded
    if left == 0:
        raise _nothing_to_refund(call, charge)
    if amount > left:
        raise errors.refund_too_large(amount, left, charge.currency)
    refund_id = call.world.new_id("re")
    fate = charge.card.refunds
    # The fee stays with Stripe (docs: refunds), so the entry has none.
    entry = enter(
        call,
        "refund",
        -amount,
        charge.currency,
        refund_id,
        entry_id=f"txn_{refund_id[3:]}",
        why=f"REFUND FOR CHARGE ({charge.description})" if charge.description else "REFUND FOR CHARGE",
    )
    refund = books.refunds.put(
        Refund(
            id=refund_id,
            created=call.now,
            livemode=charge.livemode,
            amount=amount,
            currency=charge.currency,
            charge=charge.id,
            intent=charge.intent,
            payment_method=charge.payment_method,
            customer=charge.customer,
            metadata=metadata,
            reason=reason,
            status="pending" if fate == "later" else "succeeded",
            balance_transaction=entry.id,
        )
    )
    charge = books.charges.put(charge._replace(amount_refunded=charge.amount_refunded + amount))
    if fate != "at_once":
        call.world.agenda.note(call.now + ENDS_AFTER_S, end, books, refund_id)
    call.event("refund.created", refund)
    call.event("charge.refunded", charge)
    call.effect("refund", refund, amount)
    return refund


def end(call: Call) -> None:
    """End a refund that takes time. If it fails, the money is back, and can be refunded again."""
    books = call.books
    refund = books.refunds.get(call.ids[0])
    charge = books.charges.get(refund.charge) if refund is not None else None
    if refund is None or charge is None:
        return
    if charge.card.refunds == "later":
        _updated(call, refund._replace(status="succeeded"))
        return
    entry = enter(
        call,
        "refund_failure",
        refund.amount,
        refund.currency,
        refund.id,
        entry_id=call.world.new_id("txn"),
        why="REFUND FAILURE",
    )
    books.charges.put(charge._replace(amount_refunded=charge.amount_refunded - refund.amount))
    refund = _updated(call, refund._replace(status="failed", failure_balance_transaction=entry.id))
    call.event("refund.failed", refund)
    call.effect("refund.failed", refund, refund.amount)


def create(call: Call) -> Json:
    asked = call.params
    charge = _charge(call)
    labels = merged(NO_METADATA, asked.get("metadata"))
    amount = asked.get("amount", charge.amount_captured - charge.amount_refunded)
    return shown(give_back(call, charge, amount, reason=asked.get("reason"), metadata=labels))


def update(call: Call) -> Json:
    refund = _refund(call)
    if "metadata" not in call.params:
        return shown(refund)
    return shown(_updated(call, refund._replace(metadata=merged(refund.metadata, call.params["metadata"]))))


def cancel(call: Call) -> Json:
    """Only a refund in `requires_action` can be canceled, and a card's refund is never in that status."""
    _refund(call)
    raise errors.wrong_state("Canceling this refund is unsupported.")


def get(call: Call) -> Json:
    return shown(_refund(call))


def list_(call: Call) -> Json:
    return page(call.books.refunds, call.params, "/v1/refunds", "charge", "payment_intent")


def _refund(call: Call) -> Refund:
    return call.books.find(call.books.refunds, call.ids[0], "refund")


def _charge(call: Call) -> Charge:
    """The charge in the request, or the latest charge of the PaymentIntent in it. Raises if there is none."""
    books, asked = call.books, call.params
    if asked.get("charge"):
        # Stripe names it `id`, though the parameter has another name (recorded).
        charge = books.find(books.charges, asked["charge"], "id")
        if asked.get("payment_intent") not in (None, charge.intent):
            raise errors.wrong_state(
                f"Charge {charge.id} does not belong to PaymentIntent {asked['payment_intent']}.", param="charge"
            )
        return charge
    if not asked.get("payment_intent"):
        raise errors.bad_request(
            "One of the following params should be provided for this request: payment_intent or charge."
        )
    intent = books.find(books.intents, asked["payment_intent"], "payment_intent")
    latest = books.charges.get(intent.latest_charge or "")
    if latest is None:
        raise errors.no_charge_to_refund(intent.id)
    return latest


def _updated(call: Call, refund: Refund) -> Refund:
    refund = call.books.refunds.put(refund)
    call.event("refund.updated", refund)
    call.event("charge.refund.updated", refund)
    return refund


def _nothing_to_refund(call: Call, charge: Charge) -> errors.StripeError:
    if charge.amount_captured:
        return errors.already_refunded(charge.id)
    intent = call.books.intents.get(charge.intent)
    if intent is not None and intent.latest_charge == charge.id and intent.status == "requires_capture":
        return errors.wrong_state(
            f"This uncaptured Charge was created by a PaymentIntent ({charge.intent}). You must cancel the "
            "PaymentIntent to reverse the authorization instead of refunding the Charge directly. For more "
            "information, see https://stripe.com/docs/payments/place-a-hold-on-a-payment-method"
        )
    return errors.no_charge_to_refund(charge.intent)
