"""Steps: what an operation says about each of its provider calls. The protocol around them is the same for all.

An operation (a capture, an invoice, a probe) is a table row and a list of steps; `billing.registration` says the rest.
A step says how its request is made, what counts as its success, how a look finds out whether it happened, and what it
changes in the row. It never decides about keys: `billing.idempotency` does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from billing.differences import Difference, differences, listed
from billing.gateway import Answer, Response, encode
from billing.idempotency import Rules
from billing.learned import Learned
from billing.states import RecordState
from billing.tables.entities import Entity
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.received_events import ReceivedEvent

Json = Mapping[str, Any]

METADATA_KEY = "billing_operation"
"""Every object that we change at Stripe carries our operation's id under this metadata key, so that what
Stripe holds can always be led back to what was asked."""

CAPTURE_KEY = "billing_capture"
"""The same of the capture that an object is about: of a refund, and of the line of an invoice that it paid."""
INVOICE_KEY = "billing_invoice"
"""The same of the invoice: of a credit note, and of a refund of what was paid for it."""


@dataclass(slots=True)
class LoadedOperation:
    """One operation, loaded and locked: its row, every record of its calls in order, and the work that asks for it."""

    row: Entity
    records: list[Record]
    work_id: str
    queue: str
    parts: list[Any] = field(default_factory=list)
    """Rows that its operation keeps beside its own, in their order: an invoice's lines."""
    facts: list[Fact] = field(default_factory=list)
    """The new facts of this transaction; `billing.store` writes them."""
    begun: list[Entity] = field(default_factory=list)
    """Rows of other operations that begin with this transaction (`Operation.begins`); their first facts are among
    `facts`. `billing.store` inserts them."""
    shown: Json | None = None
    """What its last call or look has shown of the object, where that is needed once it has ended
    (`Operation.when_ended`)."""
    events: list[ReceivedEvent] = field(default_factory=list)
    """Stripe's events that it has read; `billing.store` puts those into the inbox that are not there."""

    @property
    def open_record(self) -> Record | None:
        """The record that is not concluded, if there is one. It may have been written by an older worker."""
        return next((record for record in reversed(self.records) if record.concluded_at is None), None)

    @property
    def in_conflict(self) -> bool:
        return any(record.state == RecordState.CONFLICT for record in self.records)

    @property
    def keys(self) -> frozenset[str]:
        """Every key of every generation: we caused an event that carries one of them."""
        return frozenset(record.key for record in self.records)

    def generations(self, step: str) -> list[Record]:
        return [record for record in self.records if record.step == step]

    def rotations(self, step: str) -> int:
        """How many generations of this step were disproved."""
        return sum(record.step == step and record.state == RecordState.DISPROVED for record in self.records)

    @property
    def created(self) -> Json:
        """The filter of a list for what the open record's sends can have made: from five minutes before the first,
        because clocks differ, to a quarter of an hour after the last was prepared. By then it is over and settled
        (`billing.timing`: 15 + 30 + 15 + 60 s), with five minutes for the clocks and as much again to spare. A longer
        window has more pages than a look can read in its time, if an account makes some invoices every second."""
        return self.created_since(0)

    def created_since(self, earliest: int) -> Json:
        """As `created`, and not before this second, by Stripe's own clock."""
        record = self.open_record
        if record is None or record.first_sent_at is None:
            return {}
        since = max(earliest, int(record.first_sent_at.timestamp()) - 300)
        last = record.last_prepared_at or record.first_sent_at
        return {"created": {"gte": since, "lte": int(last.timestamp()) + 900}}


class Ask(NamedTuple):
    """The request of a step. `provider_object` is the id of the object that it changes, if that exists already. After
    `deadline` the provider does not accept it any more."""

    method: str
    path: str
    parameters: Json = {}
    provider_object: str | None = None
    deadline: datetime | None = None

    @property
    def body(self) -> str:
        return encode(self.parameters)


@dataclass(frozen=True, slots=True)
class LookResult:
    """What a look saw, with the object that shows it."""

    learned: Learned
    data: Json = field(default_factory=dict)
    why: str = ""
    answer: Answer | None = None
    """The answer that ended the look, when it ended without seeing anything."""
    found_objects: Sequence[str] | None = None
    """If the step lists objects: the ids of those that it is about. The record keeps them."""


class Reader:
    """Reads at the provider on behalf of one look, within one budget.

    `get` reads in the account of the operation, and `get_in` in the one that is named.
    """

    def __init__(
        self,
        get: Callable[[str], Answer],
        account: str | None = None,
        get_in: Callable[[str | None, str], Answer] | None = None,
    ) -> None:
        self._get, self._get_in = get, get_in or (lambda _account, path: get(path))
        self.account = account
        """The account that the objects belong to, if we know it. The key of another account gets 404 for each of
        them."""
        self.requests = 0
        """How many requests it has made."""

    def get(self, path: str, parameters: Json | None = None) -> Answer:
        self.requests += 1
        return self._get(_with(path, parameters))

    def get_in(self, account: str | None, path: str, parameters: Json) -> Answer:
        """As `get`, in this account: a connected one, or None for that of our own key."""
        self.requests += 1
        return self._get_in(account, _with(path, parameters))

    def pages(self, path: str, parameters: Json) -> Iterator[Json]:
        """Every object of a list, all pages. Raises Unread when a page cannot be read."""
        after: dict[str, str] = {}
        while True:
            data = body_of(self.get(path, {**parameters, "limit": 100, **after}))
            items, more = data.get("data"), data.get("has_more")
            # An object is only proven absent from a list that was read to its end.
            if not isinstance(items, list) or not isinstance(more, bool):
                raise Unread(None, "a list without data, or without has_more")
            yield from items
            if not more:
                return
            if not items or "id" not in items[-1]:
                raise Unread(None, "a list that does not say how to go on")
            after = {"starting_after": str(items[-1]["id"])}


def _with(path: str, parameters: Json | None) -> str:
    return f"{path}?{encode(parameters)}" if parameters else path


class Unread(Exception):
    """A look could not be finished; it is repeated later. Raised inside one look, and caught by `Step.look`."""

    def __init__(self, answer: Answer | None, why: str) -> None:
        super().__init__(why)
        self.answer = answer
        self.why = why


class Gone(Exception):
    """The object of a look does not exist, and Stripe answers for the account. Raised and caught inside one look.

    `sure`: the account is known to be the right one.
    """

    def __init__(self, *, sure: bool) -> None:
        super().__init__()
        self.sure = sure


def body_of(answer: Answer) -> Json:
    """The body of a readable 2xx. Raises Unread for anything else."""
    if isinstance(answer, Response) and 200 <= answer.status < 300 and answer.data is not None:
        return answer.data
    why = f"status {answer.status}" if isinstance(answer, Response) else answer.why
    raise Unread(answer, why)


def read_object(read: Reader, path: str, expected: tuple[str, str], *, livemode: bool | None) -> Json:
    """One object by its path, checked to be the one that was asked for: `expected` is (object, id). `livemode` is None
    for a kind of object that does not say it.

    Raises Unread, and Gone for a 404 that is not our own misconfiguration, for which the account itself is asked.
    """
    answer = read.get(path)
    if is_missing(answer):
        raise Gone(sure=is_right_account(read))
    data = body_of(answer)
    wrong = differences(data, object=expected[0], id=expected[1])
    wrong += differences(data, livemode=livemode) if livemode is not None else []
    if wrong:
        raise Unread(answer, f"the provider answered about something else: {listed(wrong)}")
    return data


def is_missing(answer: Answer | None, param: str | None = None) -> bool:
    """Whether Stripe says that there is no such object: the one of the path (404), or the one that `param` names."""
    if not isinstance(answer, Response) or answer.error_code != "resource_missing":
        return False
    return answer.status == 404 if param is None else answer.status in (400, 404) and answer.error_param == param


def is_right_account(read: Reader) -> bool:
    """Whether our key is known to belong to the right account. Raises Unread if Stripe does not answer for the account,
    or if it is another one: a key of another account or mode gets "no such object" for all our objects.
    """
    answer = read.get("/v1/account")
    who = body_of(answer)
    if who.get("object") != "account" or read.account not in (None, who.get("id")):
        raise Unread(answer, "another account answered")
    return read.account is not None


class Judgment(NamedTuple):
    """What a 2xx about the right mode says of its step: SUCCEEDED, ASK (not in the end state), MISMATCH or REFUSED."""

    learned: Learned
    why: str = ""
    """For MISMATCH and REFUSED, the fields that differ."""


def judgment(differing: Sequence[Difference], otherwise: Learned = Learned.SUCCEEDED) -> Judgment:
    """MISMATCH that names the fields, where there are any."""
    return Judgment(Learned.MISMATCH, listed(differing)) if differing else Judgment(otherwise)


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of provider call. All functions are pure but `find`, which only reads at the provider."""

    name: str
    ask: Callable[[LoadedOperation], Ask]
    apply: Callable[[LoadedOperation, Learned, Json, str], list[Fact]]
    """(operation, definite outcome, the object that shows it, why) -> the row is changed, and the facts say so."""
    find: Callable[[LoadedOperation, Reader, bool], LookResult]
    """(operation, reader, livemode) -> what the provider's state says about this step's effect. Raises Unread."""
    judge: Callable[[LoadedOperation, Json], Judgment] | None = None
    """None: a step that only looks."""
    refusal: Callable[[LoadedOperation, Json], Learned] = lambda _loaded, _error: Learned.ASK
    """A 400 about state, by the object attached to the error -> a definite outcome when it excludes our effect."""
    creates: bool = False
    """It makes a new object: a refusal of its first send can hide no effect, because no object was there before."""
    trust_replay: bool = True
    """A replayed success shows what matters; False where it is an old snapshot that must be read again."""
    names_mode: bool = True
    """The object of its success has `livemode`. False for a refund, which has no such field at Stripe."""
    rules: Rules = Rules()
    ruled_out: Callable[[LoadedOperation, str], list[Fact]] | None = None
    """As `apply`, where an operator has ruled out that it did anything (`Rules.needs_a_person`). None: its operation is
    refused."""

    @property
    def only_looks(self) -> bool:
        return self.judge is None

    @property
    def leaves_doubt(self) -> bool:
        """Whether a call of it whose report is missing may have had an effect at the provider."""
        return not self.only_looks and not self.rules.local

    def look(self, loaded: LoadedOperation, read: Reader, livemode: bool) -> LookResult:
        """What `find` finds; LOOK_UNANSWERED where the provider's state could not be read."""
        try:
            return self.find(loaded, read, livemode)
        except Unread as unread:
            return LookResult(Learned.LOOK_UNANSWERED, why=unread.why, answer=unread.answer)
