"""The lives of refunds and credit notes: what is given back."""

from enum import StrEnum

from billing.states.lives import BOOKED, NO_RECEIPT, OPERATOR, WORKER, Life, go


class RefundState(StrEnum):
    """Stripe's own statuses of a refund, and two of ours: asked for, and refused."""

    REQUESTED = "requested"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REFUSED = "refused"


class CreditNoteState(StrEnum):
    REQUESTED = "requested"
    ISSUED = "issued"
    VOIDED = "voided"
    REFUSED = "refused"


_F = RefundState
_AT_STRIPE = (_F.PENDING, _F.REQUIRES_ACTION)
REFUND = Life(
    of="refund",
    states={
        _F.REQUESTED: "an application asked for money to be given back",
        _F.PENDING: "Stripe has accepted it and has not ended it yet",
        _F.REQUIRES_ACTION: "Stripe waits for the customer to act, such as to name a bank account",
        _F.SUCCEEDED: "Stripe gave the money back",
        _F.FAILED: "the money could not be given back, and is in our balance at Stripe",
        _F.CANCELED: "it was canceled at Stripe before the money was given back",
        _F.REFUSED: "the refund is impossible as asked, and nothing was given back",
    },
    transitions=(
        *go(_F.REQUESTED, to=_F.PENDING, by=WORKER, when="Stripe's answer or a look shows our refund"),
        *go(_F.REQUESTED, to=_F.REQUIRES_ACTION, by=WORKER, when="Stripe's answer or a look shows our refund"),
        *go(_F.REQUESTED, to=_F.SUCCEEDED, by=WORKER, when="Stripe's answer or a look shows our refund"),
        *go(_F.REQUESTED, to=_F.FAILED, by=WORKER, when="a look shows our refund, which has failed"),
        *go(_F.REQUESTED, to=_F.CANCELED, by=WORKER, when="a look shows our refund, which was canceled"),
        *go(_F.REQUESTED, to=_F.REFUSED, by=WORKER, when="Stripe refused it, or nothing is there to give back"),
        *go(_F.REQUESTED, to=_F.REFUSED, by=OPERATOR, when="`billing quarantine discard`, or `conclude`"),
        *go(_F.PENDING, to=_F.REQUIRES_ACTION, by=WORKER, when="observed at Stripe: the customer must act"),
        *go(_F.REQUIRES_ACTION, to=_F.PENDING, by=WORKER, when="observed at Stripe: the customer has acted"),
        *go(*_AT_STRIPE, to=_F.SUCCEEDED, by=WORKER, when="observed at Stripe: it has succeeded"),
        *go(*_AT_STRIPE, to=_F.FAILED, by=WORKER, when="observed at Stripe: it has failed"),
        *go(*_AT_STRIPE, to=_F.CANCELED, by=WORKER, when="observed at Stripe: it was canceled"),
        *go(
            _F.SUCCEEDED,
            to=_F.FAILED,
            by=WORKER,
            when="observed at Stripe: the bank returned the money to us",
            observed=True,
        ),
        *go(
            _F.REFUSED,
            to=_F.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
    topics={"booked": BOOKED, "no_receipt": NO_RECEIPT},
)

FREES_ITS_AMOUNT = (RefundState.FAILED, RefundState.CANCELED, RefundState.REFUSED)
"""In every other state a refund's amount counts as given back: no other refund can ask for the same money."""

_N = CreditNoteState
CREDIT_NOTE = Life(
    of="credit_note",
    states={
        _N.REQUESTED: "an application asked for an amount to be taken off an invoice",
        _N.ISSUED: "Stripe issued it: less is due, or what was paid is credited",
        _N.VOIDED: "it was voided at Stripe, and takes nothing off any more",
        _N.REFUSED: "it is impossible as asked, and takes nothing off",
    },
    transitions=(
        *go(_N.REQUESTED, to=_N.ISSUED, by=WORKER, when="Stripe's answer or a look shows our credit note"),
        *go(_N.REQUESTED, to=_N.REFUSED, by=WORKER, when="Stripe refused it, or its refund gave nothing back"),
        *go(_N.REQUESTED, to=_N.REFUSED, by=OPERATOR, when="`billing quarantine discard`, or `conclude`"),
        *go(
            _N.ISSUED,
            to=_N.VOIDED,
            by=WORKER,
            when="it was voided on request, or observed at Stripe: somebody voided it",
            observed=True,
        ),
        *go(
            _N.REFUSED,
            to=_N.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
)

FREES_THE_CREDIT = (CreditNoteState.VOIDED, CreditNoteState.REFUSED)
"""In every other state a credit note's amount counts as taken off its invoice."""
