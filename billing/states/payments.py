"""The lives of captures and voids: what is done with an authorization."""

from enum import StrEnum

from billing.states.lives import BOOKED, NO_RECEIPT, OPERATOR, WORKER, Life, go


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
        "no_receipt": NO_RECEIPT,
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
