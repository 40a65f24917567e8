"""The lives of work and of idempotency records: the calls that an operation makes."""

from enum import StrEnum

from billing.states.lives import OPERATOR, RELAY, WORKER, Life, go


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
