"""The states of an operation as an application is shown them: those of its row, and those that its calls add.

docs/application.md shows them, and says what may follow what.
"""

from enum import StrEnum

from billing.states import OPERATOR, WORKER, Life, go


class Doubt(StrEnum):
    """States that an application is shown and that no row stores: they follow from the records of the calls."""

    IN_PROGRESS = "in_progress"
    IN_DOUBT = "in_doubt"
    CONFLICT = "conflict"


_D = Doubt
_KNOWN = "an answer or a look shows what the call did"
_ADDED = {
    _D.IN_PROGRESS: "its calls have begun, and nothing is known to be done at Stripe yet",
    _D.IN_DOUBT: "a call may have had an effect, and no answer came; Stripe is asked",
    _D.CONFLICT: "Stripe holds something other than was asked: needs a decision",
}


def as_shown(life: Life) -> Life:
    """The life of an operation as `billing.status` shows it: the states of its row, and those that its calls add.

    While the row is in its first state, the operation is in progress from its first call on, also between two calls.
    No transition leads back, except an operator's decision and an answer that contradicts an end. An application that
    polls may miss states.
    """
    finals = [state for state in life.states if life.is_final(state)]
    underway = [_D.IN_PROGRESS, *(state for state in life.states if state not in (life.first, *finals))]
    own = [each for each in life.transitions if each.who != OPERATOR]
    decided = [each for each in life.transitions if each.who == OPERATOR]
    shown = (
        *own,
        *go(life.first, to=_D.IN_PROGRESS, by=WORKER, when="its first call is prepared"),
        *(each._replace(start=_D.IN_PROGRESS) for each in own if each.start == life.first),
        *go(*underway, to=_D.IN_DOUBT, by=WORKER, when="a call may have had an effect, and no answer came"),
        *(each._replace(start=_D.IN_DOUBT) for each in own),
        *(transition for state in underway for transition in go(_D.IN_DOUBT, to=state, by=WORKER, when=_KNOWN)),
        *go(*underway, _D.IN_DOUBT, to=_D.CONFLICT, by=WORKER, when="Stripe holds something other than was asked"),
        *go(*finals, to=_D.CONFLICT, by=WORKER, when="a late answer contradicts how it ended"),
        *go(_D.CONFLICT, to=_D.IN_DOUBT, by=WORKER, when="a further answer came, and cannot be stored"),
        *go(_D.CONFLICT, to=_D.IN_DOUBT, by=OPERATOR, when="replayed: Stripe is looked at again"),
        *(
            transition
            for state in (*underway, *finals)
            for transition in go(_D.CONFLICT, to=state, by=OPERATOR, when="replayed: what was known before stands")
        ),
        *decided,
        *(each._replace(end=_D.IN_PROGRESS) for each in decided if each.end == life.first),
    )
    first, *others = life.states.items()
    states = dict([first, *_ADDED.items(), *others])
    # Two ways to the same state, such as two reasons to refuse, are one here.
    return Life(life.of, states, tuple({(each.start, each.end, each.who): each for each in shown}.values()))
