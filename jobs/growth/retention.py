"""How long the work and the calls of an operation are kept after it has ended: one table, by kind and final state.

Settings may lengthen a window, never shorten it. What has no row here is never removed. Postgres itself removes nothing
that is younger than 30 days, undecided, or not archived (the function `billing.remove_concluded`).

Rows of captures, voids, refunds, invoices, what was done with these, credit notes and e-mails stay, because a request
id that was used is refused for ever, and those of documents, because they say where each is. Facts stay, because
`billing explain` and the feed of changes read them.
"""

from collections.abc import Mapping
from datetime import timedelta

from billing.states import (
    CaptureState,
    CreditNoteState,
    DocumentState,
    EmailState,
    InvoiceActionState,
    InvoiceState,
    RefundState,
    RunState,
    SwitchState,
    VoidState,
)

KEPT: Mapping[str, Mapping[str, int | None]] = {
    "capture": {
        CaptureState.CAPTURED: 90,
        CaptureState.DECLINED: 90,
        CaptureState.REFUSED: 90,
        CaptureState.EXPIRED: 90,
        CaptureState.CANCELED: 90,
    },
    "void": {VoidState.VOIDED: 90, VoidState.REFUSED: 90, VoidState.EXPIRED: 90},
    "refund": {
        RefundState.SUCCEEDED: 90,
        RefundState.FAILED: 90,
        RefundState.CANCELED: 90,
        RefundState.REFUSED: 90,
    },
    "invoice": {
        InvoiceState.SENT: 90,
        InvoiceState.UNPAID: 90,
        InvoiceState.PAID: 90,
        InvoiceState.UNCOLLECTIBLE: 90,
        InvoiceState.VOIDED: 90,
        # An operator may reopen it at any time. Its next call then needs a generation that was never used, and only
        # its records say which were.
        InvoiceState.REFUSED: None,
    },
    "invoice_action": {
        InvoiceActionState.DONE: 90,
        InvoiceActionState.DECLINED: 90,
        InvoiceActionState.REFUSED: 90,
    },
    "credit_note": {CreditNoteState.ISSUED: 90, CreditNoteState.VOIDED: 90, CreditNoteState.REFUSED: 90},
    "email": {EmailState.SENT: 90, EmailState.BOUNCED: 90, EmailState.COMPLAINED: 90, EmailState.REFUSED: 90},
    # A refused one may be fetched again at any time, as an invoice may be reopened.
    "document": {DocumentState.STORED: 90, DocumentState.REFUSED: None},
    # Of a switch that probes released: the work and the calls of its probes.
    "switch": {SwitchState.RELEASED: 90},
    "run": {RunState.DONE: 90},
}
"""Days after the end; None: for ever."""


def windows(kind: str, at_least_days: int = 0) -> dict[timedelta, list[str]]:
    """The final states of this kind by how long their work and calls are kept."""
    found: dict[timedelta, list[str]] = {}
    for state, days in KEPT.get(kind, {}).items():
        if days is not None:
            found.setdefault(timedelta(days=max(days, at_least_days)), []).append(state)
    return found


def shortest(at_least_days: int = 0) -> timedelta:
    """Nothing is removed that was planned later than so long ago."""
    return min(window for kind in KEPT for window in windows(kind, at_least_days))
