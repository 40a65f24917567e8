"""The states of operations, records, work, batches and differences: what each means, and who moves it, when.

Each life is one value: its states, each with a line, and its transitions. Code changes the state of a loaded row by
`set_state` alone, which refuses what is not among them. Statements that change rows without loading them name the
states as literals, so that indexes fit, and a test compares each with these lives. docs/states.md shows these tables
and their diagrams.
"""

from billing.states.credits import CREDIT_NOTE, FREES_ITS_AMOUNT, FREES_THE_CREDIT, REFUND, CreditNoteState, RefundState
from billing.states.invoices import INVOICE, INVOICE_ACTION, IS_OPEN, InvoiceActionState, InvoiceState
from billing.states.lives import ARCHIVER, BOOKED, OPERATOR, RELAY, WORKER, Life, Living, Transition, go, set_state
from billing.states.messages import DOCUMENT, EMAIL, DocumentState, EmailState
from billing.states.payments import CAPTURE, FREES_FROM_THE_VOID, FREES_THE_AUTHORIZATION, VOID, CaptureState, VoidState
from billing.states.running import (
    BATCH,
    DIFFERENCE,
    EVENT,
    RUN,
    SWITCH,
    BatchState,
    DifferenceState,
    EventState,
    RunState,
    SwitchState,
)
from billing.states.work import RECORD, WORK, RecordState, WorkState

LIVES = (
    *(CAPTURE, VOID, REFUND, INVOICE, INVOICE_ACTION, CREDIT_NOTE, EMAIL, DOCUMENT, SWITCH, RUN),
    *(RECORD, WORK, EVENT, BATCH, DIFFERENCE),
)

__all__ = [
    "ARCHIVER",
    "BATCH",
    "BOOKED",
    "CAPTURE",
    "CREDIT_NOTE",
    "DIFFERENCE",
    "DOCUMENT",
    "EMAIL",
    "EVENT",
    "FREES_FROM_THE_VOID",
    "FREES_ITS_AMOUNT",
    "FREES_THE_AUTHORIZATION",
    "FREES_THE_CREDIT",
    "INVOICE",
    "INVOICE_ACTION",
    "IS_OPEN",
    "LIVES",
    "OPERATOR",
    "RECORD",
    "REFUND",
    "RELAY",
    "RUN",
    "SWITCH",
    "VOID",
    "WORK",
    "WORKER",
    "BatchState",
    "CaptureState",
    "CreditNoteState",
    "DifferenceState",
    "DocumentState",
    "EmailState",
    "EventState",
    "InvoiceActionState",
    "InvoiceState",
    "Life",
    "Living",
    "RecordState",
    "RefundState",
    "RunState",
    "SwitchState",
    "Transition",
    "VoidState",
    "WorkState",
    "go",
    "set_state",
]
