"""The kinds of requests that have an effect at Stripe, and by what each is recognized there and in the archive."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billing import captures, credit_notes, ids, invoices, refunds
from billing.registration import Operation
from billing.states import CaptureState, CreditNoteState, InvoiceState, RefundState

DONE, NONE, UNDONE, OPEN = "done", "none", "undone", "open"


def asked_at(request_id: object) -> float | None:
    """When this id of ours was made, in seconds since 1970; None: it is no such id."""
    made = ids.made_at(request_id)
    return made.timestamp() if made is not None else None


@dataclass(frozen=True, slots=True)
class Kind:
    """`object`: the column with the id of Stripe's object that shows the effect. `done`: the states of our row in which
    it must show it. `fact`: the topic that tells of it, without the kind; its class in the archive is
    `retention_class`. `may_be`: whether a row that ended without its effect may have had it all the same. `undone`: the
    states in which the effect may have been there, and is not there any more."""

    operation: Operation
    object: str
    done: frozenset[str]
    fact: str
    retention_class: str
    may_be: Callable[[Any], bool] = lambda _row: False
    undone: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.operation.kind

    @property
    def topic(self) -> str:
        return f"{self.name}.{self.fact}"

    def says(self, row: Any) -> str:
        """What our row says of its effect: `DONE`, `NONE`, `UNDONE`, or `OPEN` while it is not known."""
        if row.state in self.done:
            return DONE
        if row.state in self.undone:
            return UNDONE
        return NONE if row.life.is_final(row.state) and not self.may_be(row) else OPEN


_I = InvoiceState
KINDS = (
    Kind(captures.OPERATION, "payment_intent", frozenset({CaptureState.CAPTURED}), "captured", "capture"),
    Kind(
        invoices.OPERATION,
        "stripe_invoice",
        frozenset({_I.FINALIZED, _I.SENT, _I.PAID}),
        "finalized",
        "invoice",
        # Refused after it was finalized: it has a number, and may be payable.
        may_be=lambda invoice: invoice.number is not None,
    ),
    Kind(
        credit_notes.OPERATION,
        "stripe_credit_note",
        frozenset({CreditNoteState.ISSUED}),
        "issued",
        "invoice",
        # Somebody voided it at Stripe.
        undone=frozenset({CreditNoteState.VOIDED}),
    ),
    Kind(
        refunds.OPERATION,
        "stripe_refund",
        frozenset({RefundState.SUCCEEDED}),
        "succeeded",
        "capture",
        # After its success, too: the bank did not take the money, and it came back.
        undone=frozenset({RefundState.FAILED}),
    ),
)
