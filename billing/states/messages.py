"""The lives of what customers receive: e-mails and documents."""

from enum import StrEnum

from billing.states.lives import OPERATOR, WORKER, Life, go


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
