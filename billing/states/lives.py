"""What the life of a row is, and the one way in which code changes a state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

from billing.errors import IllegalTransition

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


NO_RECEIPT = "this service would send a receipt, and the payment has no customer"
BOOKED = "its money went to the bank: the entry of Stripe's ledger, with fee, net and payout"
