"""The registration of an operation: everything that is special about its kind, said once.

An operation is a row in a table of its own that is carried out at the provider, step by step: a capture, an invoice, a
probe. The run of a schedule is one, too; a function of ours carries it out. `billing.operations` is the list of them;
all other code asks the registration. A new kind is a life (billing/states), a table, its steps, and one `Operation`
in a file of its own, added to that list. What it needs besides: a migration, in which `billing.erase_texts` learns
of it if it is a customer's (`Operation.belongs_to`), grants (jobs/access/grants.py), a retention class if not `admin`'s
(billing/tables/facts.py), and its commands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute, Session

from billing.call_settings import CallSettings
from billing.facts import NOTICED
from billing.steps import LoadedOperation, Step
from billing.tables.entities import Entity
from billing.tables.facts import Fact
from billing.timing import PRODUCTION


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


PAYLOAD_TYPES: Mapping[str, Callable[[object], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "time": _is_time,
    "true or false": lambda value: isinstance(value, bool),
}
"""What a field of a payload may be. `text or null` may be null, too; an `optional text` may also be absent."""


def payload_fits(payload: Mapping[str, Any], types: Mapping[str, str]) -> bool:
    """Whether these are the fields, and each has its type."""
    needed = {name for name, kind in types.items() if not kind.startswith("optional ")}
    return needed <= payload.keys() <= types.keys() and all(
        (value is None and types[name].endswith(" or null"))
        or PAYLOAD_TYPES[types[name].removeprefix("optional ").removesuffix(" or null")](value)
        for name, value in payload.items()
    )


class Retry(StrEnum):
    """How a call that got no answer is tried again: the name of its policy, which `jobs.road.verdicts` defines."""

    PROMPT = "network timeout"
    PATIENT = "network timeout, patient"
    """For what nobody waits for, and nothing lapses: it leaves what the provider can still do to the others."""


@dataclass(frozen=True, slots=True)
class Contract:
    """One kind of work that an operation's facts start: a promise between the process that plans it and the one that
    carries it out, which may be of another version. `jobs.road.contracts` plans it."""

    name: str
    topic: str
    """Of the fact that starts it, without the operation's own name: `requested`."""
    queue: str
    max_attempts: int
    """Crashes of a worker and unknown errors in one step; outages are bounded by the key's horizon, not by number."""
    call_budget_s: float
    """The longest time of one call or look, from connecting to the last byte. The gateway gets it with each call."""
    retry: Retry
    owner: str
    purpose: str
    payload: Mapping[str, str]
    """The fields of that fact's payload, each with its `PAYLOAD_TYPES`. Every writer writes them all, except one that
    is `optional`. `billing contracts check` compares them with every version that was released."""
    sheddable: bool = False
    """While a queue whose work may not wait is behind its SLO, this work is held back, for as long as it is not urgent:
    until its deadline margin, or for an hour. All contracts of a queue agree, because a claim takes the most urgent
    work of a queue and would have to read past what it leaves."""
    version: int = 1
    fact_versions: tuple[int, ...] = (1,)
    """The versions of the fact that it accepts. No relay touches a fact of a version that it does not know."""
    since: int = 1
    """The first `CONTRACTS_VERSION` that has it."""
    wanted: Callable[[Mapping[str, Any]], bool] = lambda _payload: True
    """By the fact's payload: whether this fact really starts it."""
    comes_first: Callable[[Mapping[str, Any]], bool] = lambda _payload: False
    """By the fact's payload: whether its deadline is not known yet, so that it is read before all others."""

    @property
    def observes(self) -> bool:
        """Its work only looks at Stripe: see `billing.observing`."""
        return self.topic == NOTICED

    def __post_init__(self) -> None:
        # Workers of every version wait that long before they take a call that was not reported for over.
        if not 0 < self.call_budget_s <= PRODUCTION.call_budget_s:
            raise ValueError(
                f"{self.name}: a call may take up to {PRODUCTION.call_budget_s:g} s (billing/timing.py), "
                f"not {self.call_budget_s:g} s"
            )


@dataclass(frozen=True, slots=True)
class BusinessMetric:
    """A number about the business, by currency: it grows each time that an operation comes to `state`. `jobs.metrics`
    exports it as `billing_NAME_total`."""

    name: str
    state: str
    """A final one."""
    meaning: str
    money: bool = False
    """It grows by the operation's amount in minor units, instead of by one."""
    size: bool = False
    """It grows by the operation's size in bytes."""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What a person does once an operation stands in a state from which nothing more happens by itself, for
    `billing explain`. `do`: one sentence, which begins with `nothing` if nothing is to be done here. `command`: the
    command, with `{id}` or `{scope}` in it."""

    do: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Compensation:
    """What is done about the effect of an operation that nobody wants any more. `what`: in words. `by`: the kind of the
    operation that undoes it, a request with a record of its own that waits until the effect is proven
    (`billing.compensations`). None: nothing here undoes it, and `what` says why."""

    what: str
    by: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A kind of thing that this service carries out at the provider."""

    table: type[Entity]
    prefix: str
    """What its ids begin with: `cap`."""
    contracts: tuple[Contract, ...]
    """What its facts start."""
    next_step: Callable[[LoadedOperation], Step | None]
    """By the row's own state, which is the recovery point. None: concluded."""
    steps: Callable[[str], Step]
    """The step of this name; a record from before a restart is resolved through it. Raises KeyError."""
    belongs_to: tuple[tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any] | None], ...]
    """Whose it is, so that nothing is forgotten when a customer is erased (`billing.erasure`): each of its columns that
    names another operation, with the column there that has the same value; or, with None, the customer's id at Stripe.
    A column of the first kind has an index. Empty: it is about nobody."""
    observe: Callable[[LoadedOperation], Step | None] = lambda _loaded: None
    """The step that reads how an operation stands at Stripe by now, while no call of it is open. It only looks, and its
    `apply` moves the row forward or leaves it. None: nothing is read, because nothing of this row can change by itself.
    A kind with such changes has a contract `billing.observing.contract`."""
    scope: str | None = None
    """The switch that stops all of its kind, beside those of its account and of everything. None: no switch stops it,
    and a refusal of our credentials pulls none."""
    deadline: str | None = None
    """The name of its column, and of its field in the fact that requests it, with the time until which the provider
    accepts the call. None: there is no such time."""
    amount: str | None = None
    """The attribute of its amount in minor units, beside one called `currency`. None: it is not about money."""
    size: str | None = None
    """The attribute of its size in bytes, once it has ended. None: it has none."""
    told_at_its_end: tuple[str, ...] = ()
    """Attributes that a fact about its end by an operator names, beside its amount."""
    business: tuple[BusinessMetric, ...] = ()
    """The numbers that its ends add to."""
    local: bool = False
    """Nothing of it is changed at the provider, so it has no account there: functions of ours carry it out, or steps
    that only look."""
    parts: Callable[[Session, Sequence[Any]], Iterable[tuple[str, Any]]] = lambda _session, _rows: ()
    """(session, locked rows) -> (operation id, part) for what is loaded beside each row, in its order. A kind that
    needs nothing for these rows asks Postgres nothing."""
    found_by: Mapping[str, InstrumentedAttribute[Any]] = field(default_factory=dict)
    """How it is found by the provider's ids: what such an id begins with -> the column that holds it."""
    of_any_account: bool = False
    """Events about it do not say of which account it is."""
    sought_in: tuple[str, ...] = ()
    """The states that the partial index on its object at the provider holds; the others have an index of their own.
    Empty: one index holds all."""
    shown: Callable[[Session, Any], Mapping[str, Any]] = lambda _session, _row: {}
    """(session, row) -> what was asked for, beside what all requests have. No text that may name a person."""
    begins: Callable[[LoadedOperation, Sequence[Fact], CallSettings], list[Entity]] = lambda *_: []
    """(operation, its new facts, settings) -> rows of other operations that begin with what they tell, in the same
    transaction. It adds their first facts to `LoadedOperation.facts`."""
    comes_after: Callable[[LoadedOperation], str | None] = lambda _loaded: None
    """Before each new step: the id of another operation that must be over first; None if there is none. Its work waits,
    and is claimed now and then to ask again."""
    rule_out: Callable[[LoadedOperation], list[Fact]] = lambda _loaded: []
    """Called before each new step. If no call can carry the operation's rows, it changes the row's state and returns
    the facts that record it."""
    unfit: Callable[[LoadedOperation], str | None] = lambda _loaded: None
    """Before any call: why no valid request can be built from this row, in words that do not repeat its values; None if
    one can. The row is not changed then, because its constraints would not allow it; its work is quarantined."""
    reconsider: Callable[[Session, Any], bool] = lambda _session, _row: False
    """(session, row) -> True if the row was set back to its first state, so that Stripe is looked at again: a late
    success contradicts how it ended. False: the row stays as it is. Raises InvalidRequest if it cannot be set back."""
    afterwards: Mapping[str, Afterwards] = field(default_factory=dict)
    """By state, what a person does after it. Of other final states it is said that they are final."""
    compensation: Compensation = Compensation("nothing: it moves no money")
    """What undoes its effect; all of its contracts promise it."""
    when_ended: Callable[[Session, LoadedOperation], None] | None = None
    """Called once it has ended, before that is written, in the same transaction: what else is true then. A capture that
    lost to another operation of ours names that one in its reason and its new fact; an invoice moves with what was
    done with it. None: nothing else is."""
    reopen: Callable[..., list[Fact]] | None = None
    """(row, actor=, reason=) -> facts: an operator has it tried again after it was refused. None: not possible for this
    kind. Raises InvalidRequest when it is not refused."""

    @property
    def kind(self) -> str:
        """What it is called, and the entity type of its facts."""
        return self.table.life.of

    def deadline_of(self, row: Entity) -> datetime | None:
        """The time until which the provider accepts this one's call; None if there is none, or it is not known yet."""
        return getattr(row, self.deadline) if self.deadline else None
