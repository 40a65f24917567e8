"""Whether the contracts of this version fit those that were released: the golden corpus, and what differs from it.

While a new version is rolled out, old and new processes share one database. A fact may be written by one and planned
by the other, and work may be planned by one and carried out by the other. So the folder `golden` keeps one file for
each version of a contract that was ever released: the fields of the fact that starts it, examples of such facts in
every form that was ever written, and the rows of work that came of them. A file is changed in two ways only: an
example of a new form is added, and `retired` becomes true when no work of that version is left anywhere.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from billing.registration import Contract, Operation
from billing.tables.facts import Fact
from billing.timing import PRODUCTION
from jobs.config import queues
from jobs.road.contracts import Unplannable, contracts, named, started_by, starters, work_for

FOLDER = Path(__file__).parent / "golden"

Json = dict[str, Any]
Registered = Sequence[tuple[Operation, Contract]]


@dataclass(frozen=True, slots=True)
class Golden:
    """One released version of a contract, as its file has it."""

    name: str
    version: int
    since: int
    retired: bool
    """No work of it is left anywhere, so this version of the code need not know it."""
    starters: list[str]
    """The facts that start it, as `topic:version`."""
    payload: Mapping[str, str]
    longest_call_s: float
    """Workers of this release take a call that nobody reported for over after that long, and some seconds more."""
    facts: list[Json]
    """Each with its `form`, the `fact`, and the rows of `work` that came of it."""

    @property
    def called(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an older or a newer process could not consume."""

    contract: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.contract}: {self.problem}; {self.fix}"


def released(folder: Path = FOLDER) -> list[Golden]:
    """The corpus, without files that `make golden` has not completed yet."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [Golden(**content) for content in contents if "name" in content]


def check(corpus: Iterable[Golden], now: Registered | None = None) -> list[Finding]:
    """Every difference that matters between the contracts of this version (or those given) and the corpus."""
    now = contracts() if now is None else now
    corpus = list(corpus)
    alive = [golden for golden in corpus if not golden.retired]
    findings = [finding for golden in alive for finding in _compare(golden, now)]
    return findings + list(_unrecorded(corpus, now))


_NEW_VERSION = "keep this version as it was released, and write a new one beside it (docs/operate/deploy.md)"


def _compare(golden: Golden, now: Registered) -> Iterator[Finding]:
    def finding(problem: str, fix: str = _NEW_VERSION) -> Finding:
        return Finding(golden.called, problem, fix)

    mine = next(((op, each) for op, each in now if named(each) == golden.called), None)
    if mine is None:
        yield finding(
            "is not known any more, and work of it may wait",
            f"keep it until `billing contracts drained {golden.called}` succeeds, then set `retired` in its file",
        )
        return
    operation, contract = mine
    for lost in sorted(set(golden.starters) - starters(operation, contract)):
        yield finding(f"is not started by {lost} any more, and older applications write it", "accept it again")
    if contract.since > golden.since:
        yield finding(
            f"says since={contract.since}, and was released with {golden.since}", "a released contract keeps its number"
        )
    if contract.call_budget_s > golden.longest_call_s:
        yield finding(
            f"a call may take {contract.call_budget_s:g} s, and older workers take it for over after "
            f"{golden.longest_call_s:g} s",
            "keep to that time",
        )
    if golden.longest_call_s > PRODUCTION.call_budget_s:
        yield finding(
            f"a call of an older worker may take {golden.longest_call_s:g} s, and this version takes it for over after "
            f"{PRODUCTION.call_budget_s:g} s",
            "do not shorten `call_budget_s` in billing/timing.py",
        )
    for problem in _changed_fields(golden.payload, contract.payload):
        yield finding(problem)
    for example in golden.facts:
        for problem in _changed_work(example, golden, now):
            yield finding(f"{example['form']}: {problem}")


def _changed_fields(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Older relays read facts that this version's applications write, and the other way round."""
    for name, kind in before.items():
        if name not in now:
            if not kind.startswith("optional "):
                yield f"the field {name} is not written any more, and older relays expect it"
        elif now[name] != kind:
            yield f"the field {name} was {kind}, and is {now[name]}"
    for name in now.keys() - before.keys():
        if not now[name].startswith("optional "):
            yield f"the field {name} is required, and older applications do not write it (make it optional)"


def _changed_work(example: Json, golden: Golden, now: Registered) -> Iterator[str]:
    """What an older relay makes of this fact, against what this version makes of it."""
    try:
        planned = plan(example["fact"], now)
    except Unplannable as error:
        yield f"its fact cannot be planned: {error}"
        return
    before = {f"{row['contract']}:{row['version']}": row for row in example["work"]}
    after = {f"{row['contract']}:{row['version']}": row for row in planned if row["contract"] == golden.name}
    for called in sorted(before.keys() - after.keys()):
        yield f"its fact does not start {called} any more"
    for called in sorted(after.keys() - before.keys()):
        yield f"its fact now starts {called}" + (f" as well as {', '.join(before)}" if before else "")
    for called in sorted(before.keys() & after.keys()):
        for name, value in before[called].items():
            if not _fits(name, value, after[called].get(name)):
                yield f"{name} of its work was {value}, and is {after[called].get(name)}"
        if after[called]["queue"] not in queues.NAMES:
            yield f"no worker takes the queue {after[called]['queue']}"


def _fits(name: str, before: Any, now: Any) -> bool:
    """Whether older workers can carry out work whose field was so, and is so now."""
    # They obey every scope that a row names, so only one that is lost does harm.
    return set(before) <= set(now or ()) if name == "scopes" else bool(before == now)


def _unrecorded(corpus: Sequence[Golden], now: Registered) -> Iterator[Finding]:
    recorded = {golden.called for golden in corpus}
    for operation, contract in now:
        if named(contract) in recorded:
            continue
        yield Finding(
            named(contract),
            "has no file in the golden corpus",
            f"write examples of its facts into jobs/road/golden/{contract.name}-{contract.version}.json, "
            "and run `make golden`",
        )
        yield from comes_too_late(corpus, operation, contract)


def comes_too_late(corpus: Sequence[Golden], operation: Operation, contract: Contract) -> Iterator[Finding]:
    """Whether older relays stamp the facts that start this new contract, so that no relay would plan them for it."""
    newest = max((golden.since for golden in corpus), default=0)
    heard = {starter for golden in corpus for starter in golden.starters} & starters(operation, contract)
    if heard and contract.since <= newest:
        yield Finding(
            named(contract),
            f"is started by {', '.join(sorted(heard))}, and older relays stamp such facts without it",
            f"raise CONTRACTS_VERSION to {newest + 1} and write since={newest + 1}",
        )


def plan(fact: Json, now: Registered | None = None) -> list[Json]:
    """The rows of work that this version makes of a recorded fact, as JSON. Raises Unplannable."""
    row = Fact(**{**fact, "happened_at": datetime.fromisoformat(fact["happened_at"])})
    rows = [work_for(row, *what, PRODUCTION) for what in started_by(row, among=now)]
    return [{**planned, "urgency": planned["urgency"].isoformat()} for planned in rows]


def recorded(operation: Operation, contract: Contract, facts: Iterable[tuple[str, Json]]) -> Golden:
    """What is to be kept of a contract that is about to be released. `facts`: each with the name of its form."""
    return Golden(
        name=contract.name,
        version=contract.version,
        since=contract.since,
        retired=False,
        starters=sorted(starters(operation, contract)),
        payload=dict(contract.payload),
        longest_call_s=PRODUCTION.call_budget_s,
        facts=[{"form": form, "fact": fact, "work": plan(fact, [(operation, contract)])} for form, fact in facts],
    )
