"""The states of operations, records, work, batches and differences: what each means, and who moves it, when.

Each life is one value: its states, each with a line, and its transitions. Code changes the state of a loaded row by
`set_state` alone, which refuses what is not among them. Statements that change rows without loading them name the
states as literals, so that indexes fit, and a test compares each with this page. docs/states.md shows these tables
and their diagrams.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

from billing.errors import IllegalTransition
from billing.schedules import SCHEDULES


class CaptureState(StrEnum):
    REQUESTED = "requested"
    CAPTURED = "captured"
    DECLINED = "declined"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELED = "canceled"


class VoidState(StrEnum):
    REQUESTED = "requested"
    VOIDED = "voided"
    REFUSED = "refused"
    EXPIRED = "expired"


class RefundState(StrEnum):
    """Stripe's own statuses of a refund, and two of ours: asked for, and refused."""

    REQUESTED = "requested"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    REFUSED = "refused"


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


class CreditNoteState(StrEnum):
    REQUESTED = "requested"
    ISSUED = "issued"
    VOIDED = "voided"
    REFUSED = "refused"


class EmailState(StrEnum):
    REQUESTED = "requested"
    SENT = "sent"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    REFUSED = "refused"


class DocumentState(StrEnum):
    REQUESTED = "requested"
    STORED = "stored"
    REFUSED = "refused"


class SwitchState(StrEnum):
    PULLED = "pulled"
    RELEASED = "released"


class RecordState(StrEnum):
    PLANNED = "planned"
    SENT = "sent"
    IN_DOUBT = "in_doubt"
    CONFLICT = "conflict"
    UNSETTLED = "unsettled"
    ANSWERED = "answered"
    DISPROVED = "disproved"


class WorkState(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    HELD = "held"
    PARKED = "parked"
    QUARANTINED = "quarantined"
    DONE = "done"


class RunState(StrEnum):
    DUE = "due"
    DONE = "done"


class EventState(StrEnum):
    RECEIVED = "received"
    MATCHED = "matched"
    UNKNOWN = "unknown"
    IGNORED = "ignored"


class BatchState(StrEnum):
    CLAIMED = "claimed"
    ARCHIVED = "archived"


class DifferenceState(StrEnum):
    OPEN = "open"
    GONE = "gone"
    CLOSED = "closed"


OPERATOR, WORKER, RELAY, ARCHIVER = "operator", "worker", "relay", "archiver"
"""Who moves something. An operator is a person with the `billing` command; the others are processes."""


class Transition(NamedTuple):
    start: str
    end: str
    who: str
    when: str
    observed: bool = False
    """It happened at Stripe by itself, and was only found there (`billing.observing`). Nothing of ours waits for it, so
    the state before it is final all the same."""


@dataclass(frozen=True)
class Life:
    """The life of one kind of row."""

    of: str
    """What it is called: the entity type of its facts, where it has any."""
    states: Mapping[str, str]
    """Every state with what it means, in one line. The first is the one in which a row is written."""
    transitions: tuple[Transition, ...]
    topics: Mapping[str, str] = field(default_factory=dict)
    """Topics of its facts beside its states, each with its meaning."""

    @property
    def first(self) -> str:
        return next(iter(self.states))

    @cached_property
    def legal(self) -> frozenset[tuple[str, str]]:
        """Every (from, to). To stay in a state is no transition."""
        return frozenset((each.start, each.end) for each in self.transitions)

    def before(self, state: str) -> list[str]:
        """The states from which a row comes to this one."""
        return sorted({each.start for each in self.transitions if each.end == state})

    def is_final(self, state: str) -> bool:
        """Whether our part is over: only an operator could still change it, or what happens at Stripe by itself."""
        return all(each.who == OPERATOR or each.observed for each in self.transitions if each.start == state)

    def may_change(self, state: str) -> bool:
        """Whether a look at Stripe could still change it: it is not final, or has a transition that is observed."""
        return not self.is_final(state) or any(each.observed for each in self.transitions if each.start == state)


class Living(Protocol):
    """A row that has a life."""

    life: ClassVar[Life]
    state: Any


def set_state(row: Living, state: str) -> None:
    """Change the state of a locked row. Raises IllegalTransition, and changes nothing, if its life has no such
    transition."""
    if row.state != state and (row.state, state) not in row.life.legal:
        raise IllegalTransition(row.life.of, row.state, state)
    row.state = state


def go(*starts: str, to: str, by: str, when: str, observed: bool = False) -> tuple[Transition, ...]:
    """The transitions from each of `starts` to one state."""
    return tuple(Transition(start, to, by, when, observed) for start in starts)


BOOKED = "its money went to the bank: the entry of Stripe's ledger, with fee, net and payout"

_C = CaptureState
CAPTURE = Life(
    of="capture",
    states={
        _C.REQUESTED: "an application requested to capture an authorization",
        _C.CAPTURED: "the money was taken",
        _C.DECLINED: "the card's issuer declined it",
        _C.REFUSED: "the capture is impossible as asked",
        _C.EXPIRED: "the authorization lapsed before it was captured",
        _C.CANCELED: "the authorization was canceled",
    },
    transitions=(
        *go(_C.REQUESTED, to=_C.CAPTURED, by=WORKER, when="Stripe's answer or a look shows our capture"),
        *go(_C.REQUESTED, to=_C.DECLINED, by=WORKER, when="Stripe answered 402"),
        *go(_C.REQUESTED, to=_C.REFUSED, by=WORKER, when="nothing was captured, and cannot be: proven, or withdrawn"),
        *go(_C.REQUESTED, to=_C.EXPIRED, by=WORKER, when="Stripe says that the authorization lapsed"),
        *go(_C.REQUESTED, to=_C.CANCELED, by=WORKER, when="Stripe says that the authorization was canceled"),
        *go(_C.REQUESTED, to=_C.REFUSED, by=OPERATOR, when="`billing quarantine discard`: nothing was sent for it"),
        *go(
            *(_C.DECLINED, _C.REFUSED, _C.EXPIRED, _C.CANCELED),
            to=_C.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
    topics={
        "authorization_read": "the authorization was read from Stripe",
        "invoiced": "it is on an invoice, which the fact names",
        "deadline_near": "its authorization lapses soon, and it has not ended; the fact says what it waits for",
        "booked": BOOKED,
    },
)

FREES_THE_AUTHORIZATION = (CaptureState.DECLINED, CaptureState.REFUSED, CaptureState.CANCELED)
"""In every other state a capture occupies its authorization, an expired one too. A second one can only ask for it if
all of these captures keep the rest."""

_V = VoidState
VOID = Life(
    of="void",
    states={
        _V.REQUESTED: "an application requested to give an authorization back",
        _V.VOIDED: "the authorization was canceled, and holds no money any more",
        _V.REFUSED: "the void is impossible as asked: as a rule, the money was captured before",
        _V.EXPIRED: "the authorization lapsed before it was voided",
    },
    transitions=(
        *go(_V.REQUESTED, to=_V.VOIDED, by=WORKER, when="Stripe's answer or a look shows that it was canceled"),
        *go(_V.REQUESTED, to=_V.REFUSED, by=WORKER, when="it is proven that nothing was canceled, and cannot be"),
        *go(_V.REQUESTED, to=_V.EXPIRED, by=WORKER, when="Stripe says that the authorization lapsed"),
        *go(_V.REQUESTED, to=_V.REFUSED, by=OPERATOR, when="`billing quarantine discard`: nothing was sent for it"),
        *go(
            *(_V.REFUSED, _V.EXPIRED),
            to=_V.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
    topics={"hold_read": "what the authorization holds was read from Stripe"},
)

FREES_FROM_THE_VOID = (VoidState.REFUSED,)
"""In every other state a void occupies its authorization, and no capture and no second void can ask for it."""

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
    topics={"booked": BOOKED},
)

FREES_ITS_AMOUNT = (RefundState.FAILED, RefundState.CANCELED, RefundState.REFUSED)
"""In every other state a refund's amount counts as given back: no other refund can ask for the same money."""

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
        *go(_A.REQUESTED, to=_A.REFUSED, by=OPERATOR, when="`billing quarantine discard`: nothing was sent for it"),
        *go(
            *(_A.DECLINED, _A.REFUSED),
            to=_A.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at Stripe",
        ),
    ),
)

IS_OPEN = (InvoiceState.FINALIZED, InvoiceState.SENT, InvoiceState.UNPAID)
"""The states of an invoice that is payable at Stripe, and whose amount due a credit note may reduce."""

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
        *go(_N.ISSUED, to=_N.VOIDED, by=WORKER, when="observed at Stripe: somebody voided it", observed=True),
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

_E = EmailState
EMAIL = Life(
    of="email",
    states={
        _E.REQUESTED: "an application asked for an e-mail to be sent",
        _E.SENT: "a mail server has accepted it, and delivers it",
        _E.BOUNCED: "a mail server told later that it could not be delivered; its reason says how",
        _E.COMPLAINED: "its reader has reported it as unwanted",
        _E.REFUSED: "it is not sent any more; its reason says why",
    },
    transitions=(
        *go(_E.REQUESTED, to=_E.SENT, by=WORKER, when="the mail server has accepted it"),
        *go(_E.REQUESTED, to=_E.REFUSED, by=WORKER, when="it has no address, was refused, or not accepted for a day"),
        *go(_E.REQUESTED, to=_E.SENT, by=OPERATOR, when="`billing quarantine conclude`: a person saw that it happened"),
        *go(
            _E.REQUESTED,
            to=_E.REFUSED,
            by=OPERATOR,
            when="`billing quarantine discard` or `conclude`; or a restored database cannot know whether it was sent",
        ),
        *go(_E.SENT, to=_E.BOUNCED, by=WORKER, when="observed: a notice says that it bounced", observed=True),
        *go(_E.SENT, to=_E.COMPLAINED, by=WORKER, when="observed: a notice says so", observed=True),
        *go(_E.BOUNCED, to=_E.COMPLAINED, by=WORKER, when="observed: one reader got it after all", observed=True),
        *go(
            _E.REFUSED,
            to=_E.REQUESTED,
            by=OPERATOR,
            when="a late success contradicts it; after a replay a worker looks at its answers",
        ),
    ),
)

_DOC = DocumentState
DOCUMENT = Life(
    of="document",
    states={
        _DOC.REQUESTED: "its invoice is finalized, so its document is fetched and stored",
        _DOC.STORED: "it is in the bucket, under a lock, and was read back",
        _DOC.REFUSED: "it is not fetched any more; its reason says why, and a person decides",
    },
    transitions=(
        *go(_DOC.REQUESTED, to=_DOC.STORED, by=WORKER, when="it is stored and read back"),
        *go(_DOC.REQUESTED, to=_DOC.REFUSED, by=WORKER, when="what came is no document, or none came for a day"),
        *go(_DOC.REQUESTED, to=_DOC.REFUSED, by=OPERATOR, when="`billing quarantine discard`: nothing was stored"),
        *go(
            _DOC.REFUSED,
            to=_DOC.REQUESTED,
            by=OPERATOR,
            when="`billing document request`; or a replay, after a late success contradicts it",
        ),
    ),
    topics={"reopened": "an operator had a refused document fetched again"},
)

SWITCH = Life(
    of="switch",
    states={
        SwitchState.PULLED: "nothing new is sent in this scope",
        SwitchState.RELEASED: "sends in this scope continue",
    },
    transitions=(
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=OPERATOR, when="`billing switch release`"),
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=WORKER, when="Stripe accepts our credentials again"),
        *go(SwitchState.PULLED, to=SwitchState.RELEASED, by=RELAY, when="its time is over"),
    ),
)

RUN = Life(
    of="run",
    states={
        RunState.DUE: "a schedule's time has come, or an operator had it run",
        RunState.DONE: "its function has ended; the fact holds what it returned",
    },
    transitions=go(RunState.DUE, to=RunState.DONE, by=WORKER, when="its function has ended"),
    # Instead of one topic `due`, so that a relay leaves the facts of a schedule that it does not know to a newer one.
    topics={schedule.name: f"due, {schedule.when} {schedule.zone}: {schedule.purpose}" for schedule in SCHEDULES},
)

_R = RecordState
_OPEN = (_R.PLANNED, _R.SENT, _R.IN_DOUBT)
RECORD = Life(
    of="idempotency record",
    states={
        _R.PLANNED: "written; nothing that may have had an effect was sent with its key",
        _R.SENT: "prepared: committed before the request leaves; no report of it is stored yet",
        _R.IN_DOUBT: "it was sent, and what came back does not say what happened",
        _R.CONFLICT: "the provider holds something other than was asked: needs a decision",
        _R.UNSETTLED: "an answer came that could not be applied: it is kept, and needs a decision",
        _R.ANSWERED: "its outcome is known",
        _R.DISPROVED: "proven to have had no effect; the next generation takes over",
    },
    transitions=(
        *go(_R.PLANNED, _R.IN_DOUBT, to=_R.SENT, by=WORKER, when="the call is prepared, before it is made"),
        *go(_R.SENT, _R.IN_DOUBT, to=_R.PLANNED, by=WORKER, when="its report shows that nothing was done"),
        *go(_R.SENT, to=_R.IN_DOUBT, by=WORKER, when="no answer, one that says nothing, or no report in time"),
        *go(*_OPEN, to=_R.ANSWERED, by=WORKER, when="an answer or a look is definite"),
        *go(_R.PLANNED, _R.IN_DOUBT, to=_R.DISPROVED, by=WORKER, when="a look proves that it had no effect"),
        *go(*_OPEN, _R.UNSETTLED, to=_R.CONFLICT, by=WORKER, when="what came back is not what was asked for"),
        *go(*_OPEN, _R.CONFLICT, to=_R.UNSETTLED, by=WORKER, when="Postgres refuses to store what came back"),
        *go(_R.ANSWERED, _R.DISPROVED, to=_R.CONFLICT, by=WORKER, when="a late answer contradicts it"),
        *go(
            *(_R.CONFLICT, _R.UNSETTLED, _R.PLANNED, _R.SENT),
            to=_R.IN_DOUBT,
            by=OPERATOR,
            when="replayed: it is looked at, and never sent again",
        ),
        *go(_R.PLANNED, to=_R.DISPROVED, by=OPERATOR, when="its work is discarded: nothing was sent with its key"),
        *go(_R.IN_DOUBT, to=_R.DISPROVED, by=OPERATOR, when="`billing quarantine conclude`: no look can prove it"),
        *go(
            _R.IN_DOUBT,
            to=_R.ANSWERED,
            by=OPERATOR,
            when="`billing quarantine conclude`: a person saw that it happened",
        ),
        *go(
            _R.CONFLICT,
            to=_R.ANSWERED,
            by=OPERATOR,
            when="replayed: its earlier outcome counts again",
        ),
        *go(
            _R.CONFLICT,
            to=_R.DISPROVED,
            by=OPERATOR,
            when="replayed: its earlier outcome counts again",
        ),
    ),
)

_W = WorkState
_FREE = (_W.READY, _W.RUNNING, _W.WAITING)
_STOPPED = (_W.HELD, _W.PARKED, _W.QUARANTINED)
WORK = Life(
    of="work",
    states={
        _W.READY: "a worker may claim it",
        _W.RUNNING: "its call is prepared or in flight; the call's record has the lease",
        _W.WAITING: "due later; without a due time, its record will be looked at first (`look_at`)",
        _W.HELD: "a pulled switch stops it, until the switch is released",
        _W.PARKED: "no relay or worker here knows this version of its contract",
        _W.QUARANTINED: "needs a decision: `billing quarantine list`",
        _W.DONE: "its operation is concluded",
    },
    transitions=(
        *go(_W.READY, _W.WAITING, to=_W.RUNNING, by=WORKER, when="one of its calls is prepared"),
        *go(_W.WAITING, to=_W.READY, by=WORKER, when="after a look, its call may be made at once"),
        *go(_W.RUNNING, _W.READY, to=_W.WAITING, by=WORKER, when="it pauses, or a look must come first"),
        *go(*_FREE, to=_W.HELD, by=WORKER, when="a guard finds its switch pulled, or Stripe refuses our credentials"),
        *go(*_FREE, to=_W.PARKED, by=WORKER, when="it was looked at, and its contract is not known here"),
        *go(*_FREE, *_STOPPED[:2], to=_W.QUARANTINED, by=WORKER, when="it needs a decision, or failed too often"),
        *go(_W.DONE, to=_W.QUARANTINED, by=WORKER, when="a late answer contradicts its outcome"),
        *go(*_FREE, *_STOPPED, to=_W.DONE, by=WORKER, when="its operation is concluded, by an answer or by a look"),
        *go(_W.WAITING, to=_W.READY, by=RELAY, when="its pause is over"),
        *go(_W.RUNNING, to=_W.READY, by=RELAY, when="its worker died or hung: the lease ran out"),
        *go(_W.READY, _W.WAITING, to=_W.HELD, by=RELAY, when="its switch is pulled"),
        *go(_W.HELD, to=_W.READY, by=RELAY, when="no pulled switch stops it any more"),
        *go(_W.READY, to=_W.PARKED, by=RELAY, when="its contract is not known here"),
        *go(_W.PARKED, to=_W.READY, by=RELAY, when="its contract is known now"),
        *go(_W.QUARANTINED, to=_W.READY, by=OPERATOR, when="`billing quarantine replay`"),
        *go(_W.QUARANTINED, to=_W.DONE, by=OPERATOR, when="`billing quarantine discard`"),
        *go(_W.WAITING, to=_W.DONE, by=OPERATOR, when="`billing quarantine conclude`"),
        *go(_W.DONE, to=_W.READY, by=OPERATOR, when="`billing invoice reopen`"),
    ),
)

EVENT = Life(
    of="received event",
    states={
        EventState.RECEIVED: "it is in the inbox, once; which operation it is about is not known yet",
        EventState.MATCHED: "it is about an operation of ours, which was noticed if it could have changed",
        EventState.UNKNOWN: "it is about no operation of ours: somebody else's, or made in the dashboard",
        EventState.IGNORED: "it names no object of a kind that operations of ours have",
    },
    transitions=(
        *go(EventState.RECEIVED, to=EventState.MATCHED, by=RELAY, when="an operation of ours has its object"),
        *go(EventState.RECEIVED, to=EventState.UNKNOWN, by=RELAY, when="none had it for an hour"),
        *go(EventState.RECEIVED, to=EventState.IGNORED, by=RELAY, when="nothing of ours can have its object"),
    ),
)

BATCH = Life(
    of="archive batch",
    states={
        BatchState.CLAIMED: "its facts and numbers are fixed; any archiver writes it or finishes writing it",
        BatchState.ARCHIVED: "its object and manifest were read back from the bucket and are correct",
    },
    transitions=go(
        BatchState.CLAIMED, to=BatchState.ARCHIVED, by=ARCHIVER, when="what was written is read back and compared"
    ),
)

_D = DifferenceState
DIFFERENCE = Life(
    of="difference",
    states={
        _D.OPEN: "our rows and Stripe's records say different things; its owner looks at it",
        _D.GONE: "a later pass has not found it any more",
        _D.CLOSED: "a person has closed it, with a reason",
    },
    transitions=(
        *go(_D.OPEN, to=_D.GONE, by=WORKER, when="it is compared again, and both sides agree"),
        *go(_D.OPEN, to=_D.CLOSED, by=OPERATOR, when="`billing differences close`"),
        *go(_D.GONE, to=_D.OPEN, by=WORKER, when="it is compared again, and differs again"),
        *go(_D.CLOSED, to=_D.OPEN, by=WORKER, when="it is compared again, and the two sides are not what they were"),
    ),
)

LIVES = (
    *(CAPTURE, VOID, REFUND, INVOICE, INVOICE_ACTION, CREDIT_NOTE, EMAIL, DOCUMENT, SWITCH, RUN),
    *(RECORD, WORK, EVENT, BATCH, DIFFERENCE),
)
