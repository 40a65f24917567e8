"""What waits in the database for a version of a contract. Nothing is written.

Two questions during a rollout: can this version take everything that waits now, and is an old version of a contract
drained, so that its support may be removed?
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from billing.facts import PAYLOAD_TEXT, UnreadablePayload, read_payload
from billing.states import WorkState
from billing.tables.facts import Fact
from billing.tables.work import Work
from billing.timing import PRODUCTION
from jobs.road import golden
from jobs.road.contracts import Unplannable, accepted, contracts, known, named, started_by, starters, work_for
from jobs.road.golden import Finding
from jobs.road.planning import only_stamped

FACTS_READ = 10_000
"""As many facts as are planned on trial, the oldest first; more than a few wait only while no relay runs."""

# As in planning.sql.
_NAME = Fact.topic.concat(":").concat(Fact.version)
_CONTRACT = Work.contract.concat(":").concat(Work.version)
_NOT_DONE = Work.state != WorkState.DONE


@dataclass(frozen=True, slots=True)
class Drained:
    """What is left of one version of a contract."""

    contract: str
    work: Mapping[str, int]
    """How many pieces, by state; those that are done are not counted."""
    unplanned: int
    """Facts that would start it, and that no relay has planned."""
    set_aside: int
    """Facts that would start it and cannot be planned (`billing doctor`)."""

    @property
    def drained(self) -> bool:
        return not (self.work or self.unplanned or self.set_aside)


def drained(session: Session, called: str) -> Drained | None:
    """What is left of this contract (`name:version`); None if this version's code and corpus have never heard of it,
    and no work of it waits.

    Reads through the whole table of work: about a second for each million rows.
    """
    its_work = _CONTRACT.in_([called])
    rows = session.execute(
        select(Work.state, func.count()).where(its_work, _NOT_DONE).group_by(Work.state).order_by(Work.state)
    )
    work = {state: count for state, count in rows}  # noqa: C416 - rows are no pairs to the type checker
    starting = _starters(called)
    if starting is None and not work:
        return None
    starts = _NAME.in_(starting or ())
    return Drained(
        called,
        work,
        unplanned=_count(session, Fact.planned_version.is_(None), starts),
        set_aside=_count(session, Fact.planned_version < 0, starts),
    )


def _starters(called: str) -> set[str] | None:
    now = [starters(operation, contract) for operation, contract in contracts() if named(contract) == called]
    before = [set(released.starters) for released in golden.released() if released.called == called]
    return set().union(*now, *before) if now or before else None


def _count(session: Session, *where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Fact).where(*where)) or 0


def check_waiting(session: Session) -> list[Finding]:
    """What waits in this database and could not be taken by this version: facts and work."""
    return [*_unplannable(session), *_unknown_facts(session), *_unknown_work(session)]


def _unplannable(session: Session) -> Iterator[Finding]:
    """Facts that wait to be planned, planned on trial."""
    waiting = session.execute(
        select(Fact.id, Fact.topic, Fact.version, Fact.entity_id, Fact.correlation_id, Fact.happened_at, PAYLOAD_TEXT)
        .where(Fact.planned_version.is_(None), _NAME.in_(accepted()))
        .order_by(Fact.id)
        .limit(FACTS_READ)
    )
    for row in waiting:
        values = dict(row._mapping)
        try:
            fact = Fact(payload=read_payload(values.pop("payload_text")), **values)
            for what in started_by(fact):
                work_for(fact, *what, PRODUCTION)
        except (Unplannable, UnreadablePayload) as error:
            yield Finding(
                f"{row.topic}:{row.version}",
                f"fact {row.id} cannot be planned: {error}",
                "a relay of this version sets it aside (`billing doctor`); correct its writer, or keep the older relay",
            )


def _unknown_facts(session: Session) -> Iterator[Finding]:
    understood = [*accepted(), *(f"{topic}:1" for topic in only_stamped())]
    rows = session.execute(
        select(Fact.topic, Fact.version, func.count())
        .where(Fact.planned_version.is_(None), _NAME.not_in(understood))
        .group_by(Fact.topic, Fact.version)
        .order_by(Fact.topic, Fact.version)
    )
    for topic, version, count in rows:
        yield Finding(
            f"{topic}:{version}",
            f"{count} unplanned, and this version does not know such facts",
            "they stay until a relay of the version that knows them runs: start one",
        )


def _unknown_work(session: Session) -> Iterator[Finding]:
    rows = session.execute(
        select(_CONTRACT.label("called"), Work.state, func.count())
        .where(_NOT_DONE, _CONTRACT.not_in(known()))
        .group_by("called", Work.state)
        .order_by("called", Work.state)
    )
    for called, state, count in rows:
        yield Finding(
            called,
            f"{count} {state}, and this version does not know this contract",
            "they are parked and use up no attempts; start workers of a version that knows it, or bring its support "
            "back",
        )
