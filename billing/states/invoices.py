"""The lives of invoices, and of the actions on them."""

from enum import StrEnum

from billing.states.lives import OPERATOR, WORKER, Life, go


class InvoiceState(StrEnum):
    """The recovery point: what is known to be done at Stripe."""

    REQUESTED = "requested"
    DRAFTED = "drafted"
    LINES_ADDED = "lines_added"
    LINES_DIFFER = "lines_differ"
    FINALIZED = "finalized"
    SENT = "sent"
    UNPAID = "unpaid"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOIDED = "voided"
    REFUSED = "refused"


class InvoiceActionState(StrEnum):
    REQUESTED = "requested"
    DONE = "done"
    DECLINED = "declined"
    REFUSED = "refused"


_I = InvoiceState
INVOICE = Life(
    of="invoice",
    states={
        _I.REQUESTED: "an application requested an invoice",
        _I.DRAFTED: "Stripe holds a draft of ours",
        _I.LINES_ADDED: "the draft has our lines and our total",
        _I.LINES_DIFFER: "the draft is not as asked, or Stripe refuses to finalize it; it will be deleted",
        _I.FINALIZED: "the invoice is open and has its number",
        _I.SENT: "Stripe sent it to the customer, or this service was asked to",
        _I.UNPAID: "Stripe was to charge it, and it is not paid: declined, or it waits for the customer or a bank",
        _I.PAID: "it was paid: through Stripe, or out of band",
        _I.UNCOLLECTIBLE: "it was given up at Stripe; it may still be paid, or voided",
        _I.VOIDED: "it was voided at Stripe, and cannot be paid any more",
        _I.REFUSED: "the invoice is impossible as asked",
    },
    transitions=(
        *go(_I.REQUESTED, to=_I.DRAFTED, by=WORKER, when="the draft is made"),
        *go(_I.REQUESTED, to=_I.REFUSED, by=WORKER, when="Stripe refuses to make it, or no call can carry its lines"),
        *go(_I.DRAFTED, to=_I.LINES_ADDED, by=WORKER, when="all lines are on the draft, and compared"),
        *go(_I.DRAFTED, to=_I.LINES_DIFFER, by=WORKER, when="the lines or the total differ from ours"),
        *go(_I.DRAFTED, to=_I.REFUSED, by=WORKER, when="the draft is gone, or is no longer a draft"),
        *go(_I.LINES_ADDED, to=_I.FINALIZED, by=WORKER, when="Stripe finalized it"),
        *go(_I.LINES_ADDED, to=_I.LINES_DIFFER, by=WORKER, when="Stripe refuses to finalize the draft"),
        *go(
            _I.LINES_ADDED, to=_I.REFUSED, by=WORKER, when="the draft is gone, or somebody else finalized and ended it"
        ),
        *go(_I.LINES_DIFFER, to=_I.REFUSED, by=WORKER, when="the draft is deleted"),
        *go(_I.FINALIZED, to=_I.SENT, by=WORKER, when="Stripe sent it, or this service was asked to"),
        *go(_I.FINALIZED, to=_I.PAID, by=WORKER, when="Stripe charged it; or nothing is left to pay"),
        *go(_I.FINALIZED, to=_I.UNPAID, by=WORKER, when="Stripe was to charge it, and the customer has not paid"),
        *go(
            _I.FINALIZED,
            to=_I.UNPAID,
            by=OPERATOR,
            when="`billing quarantine conclude`: a person saw whether Stripe was asked to charge it",
        ),
        *go(_I.FINALIZED, to=_I.VOIDED, by=WORKER, when="somebody voided it before it was sent or charged"),
        *go(_I.FINALIZED, to=_I.UNCOLLECTIBLE, by=WORKER, when="somebody gave it up before it was sent or charged"),
        *go(_I.FINALIZED, to=_I.REFUSED, by=WORKER, when="Stripe does not send it: it is gone, or has no address"),
        *go(
            *(_I.SENT, _I.UNPAID, _I.UNCOLLECTIBLE),
            to=_I.PAID,
            by=WORKER,
            when="observed at Stripe, or asked for: it is paid",
            observed=True,
        ),
        *go(
            *(_I.SENT, _I.UNPAID, _I.UNCOLLECTIBLE),
            to=_I.VOIDED,
            by=WORKER,
            when="observed at Stripe, or asked for: it is voided",
            observed=True,
        ),
        *go(
            *(_I.SENT, _I.UNPAID),
            to=_I.UNCOLLECTIBLE,
            by=WORKER,
            when="observed at Stripe, or asked for: it is given up",
            observed=True,
        ),
        *go(_I.REQUESTED, to=_I.REFUSED, by=OPERATOR, when="`billing quarantine discard`: nothing was made for it"),
        *go(_I.REFUSED, to=_I.REQUESTED, by=OPERATOR, when="reopened: a new draft under a new key"),
        *go(
            _I.REFUSED,
            to=_I.FINALIZED,
            by=OPERATOR,
            when="reopened after it had its number: only sending or charging is left",
        ),
    ),
    topics={
        "reopened": "an operator had a refused invoice tried again",
        "partly_paid": "a part of it was paid; the fact says how much that is by now",
        "payment_failed": "an attempt to pay it has failed, the customer's own or Stripe's; how many there were",
    },
)

IS_OPEN = (InvoiceState.FINALIZED, InvoiceState.SENT, InvoiceState.UNPAID)
"""The states of an invoice that is payable at Stripe, and whose amount due a credit note may reduce."""

_A = InvoiceActionState
INVOICE_ACTION = Life(
    of="invoice_action",
    states={
        _A.REQUESTED: "an application asked for an invoice to be charged, marked paid, voided or given up",
        _A.DONE: "Stripe carried it out; a charge may still be under way",
        _A.DECLINED: "the charge was declined, or the customer must confirm it",
        _A.REFUSED: "it is impossible as asked: as a rule, something else was done with the invoice before",
    },
    transitions=(
        *go(_A.REQUESTED, to=_A.DONE, by=WORKER, when="Stripe's answer or a look shows what was asked for"),
        *go(_A.REQUESTED, to=_A.DECLINED, by=WORKER, when="Stripe answered 402, or a look shows our failed attempt"),
        *go(_A.REQUESTED, to=_A.REFUSED, by=WORKER, when="the invoice is not open any more, or Stripe refuses it"),
        *go(_A.REQUESTED, to=_A.REFUSED, by=OPERATOR, when="`billing quarantine discard`, or `conclude`"),
        *go(_A.REQUESTED, to=_A.DECLINED, by=OPERATOR, when="`billing quarantine conclude`: a person saw the attempt"),
        *go(
            *(_A.DECLINED, _A.REFUSED),
            to=_A.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
)
