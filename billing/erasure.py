"""Erases what a customer's operations say in words: descriptions of lines, memos, texts in requests and facts, and what
operators wrote about them and about what hangs on them: refunds, voids, credit notes, e-mails, documents.

Amounts, ids, states and times stay: they are the evidence, and none of them names a person. What is erased was never
archived, so the archive and its verification do not change. What hangs on what, each kind of operation says
(`Operation.belongs_to`). The function `billing.erase_texts` decides which operations are over, and refuses the others;
an invoice whose lines are erased fits into no call any more (`billing.invoices`).

An erasure is several short transactions. It may die between them and be run again: what is erased stays erased.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from billing import statements
from billing.database import Transact
from billing.errors import InvalidRequest, UnknownEntity
from billing.operations import OPERATIONS, by_id
from billing.provider_ids import provider_id
from billing.tables.entities import Entity
from billing.tables.holds import ArchiveHold
from billing.tables.invoiced_captures import InvoicedCapture

PAGE = 500
"""Operations that one transaction erases."""
SEARCHED = 20_000
"""Rows that one statement looks at: there is no index on customers, because only this would use it."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was erased, or would be, of so many operations: descriptions of lines, bodies of calls that repeat them,
    facts with a reason or a name in words, and notes: why their work failed or was ended, and why a difference was
    closed. `not_over`: operations that cannot be erased yet; then nothing was erased of their page."""

    operations: int = 0
    descriptions: int = 0
    bodies: int = 0
    facts: int = 0
    notes: int = 0
    not_over: tuple[str, ...] = ()

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(
            self.operations + other.operations,
            self.descriptions + other.descriptions,
            self.bodies + other.bodies,
            self.facts + other.facts,
            self.notes + other.notes,
            self.not_over + other.not_over,
        )

    @property
    def anything(self) -> bool:
        return bool(self.descriptions or self.bodies or self.facts or self.notes)


def operations_of(ask: Transact, customer: str, also: Iterable[str] = ()) -> list[str]:
    """The ids of all that belongs to the customer: what names him, what was named besides, and what hangs on any of
    these, such as their refunds. A capture that took money names the customer, if Stripe's answer did and it came after
    migration 0069; one that is invoiced, or is to be, has whose invoice it is. All other captures name no customer.

    Raises InvalidRequest for what is no customer's id, or while a legal hold is about the customer; UnknownEntity for
    what does not exist, or is nobody's by its kind.
    """
    provider_id("customer", customer)
    if hold := ask(partial(_held_by, customer=customer)):
        raise InvalidRequest(f"customer {customer}", f"is under the legal hold {hold}; nothing is erased until it ends")
    named = list(also)
    for entity_id in named:
        ask(partial(_must_exist, entity_id=entity_id))
    found = [
        each
        for operation in OPERATIONS.values()
        for mine, theirs in operation.belongs_to
        if theirs is None
        for each in _of_customer(ask, operation.table, mine, customer)
    ]
    found += ask(partial(_invoiced, customer=customer))
    return _with_what_hangs_on(ask, [*found, *named])


def _of_customer(
    ask: Transact, table: type[Entity], column: InstrumentedAttribute[Any], customer: str
) -> Iterator[str]:
    after = ""
    while True:
        page = ask(partial(_search, table=table, column=column, customer=customer, after=after))
        yield from page.found
        if page.upto is None:
            return
        after = page.upto


def _with_what_hangs_on(ask: Transact, ids: Iterable[str]) -> list[str]:
    """These, what belongs to them, what belongs to that, and so on; each once."""
    found = dict.fromkeys(ids)
    new = list(found)
    while new:
        hanging = [each for page in _pages(new) for each in ask(partial(_hanging_on, ids=page))]
        new = [each for each in dict.fromkeys(hanging) if each not in found]
        found |= dict.fromkeys(new)
    return list(found)


def count(ask: Transact, ids: Sequence[str], customer: str) -> Erased:
    """What would be erased, and which of these operations are not over. Nothing is changed."""
    counted = (ask(partial(_page, ids=page, customer=customer, only_count=True)) for page in _pages(ids))
    return sum(counted, Erased())


def erase(ask: Transact, ids: Sequence[str], customer: str) -> Erased:
    """Erase it. Raises InvalidRequest at a page in which an operation is not over."""
    erased = Erased()
    for page in _pages(ids):
        erased += ask(partial(_page, ids=page, customer=customer, only_count=False))
        if erased.not_over:
            raise not_over(customer, erased.not_over)
    return erased


def not_over(customer: str, ids: Sequence[str]) -> InvalidRequest:
    """The refusal, with what to do."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return InvalidRequest(
        f"customer {customer}",
        f"has operations that are not over for a day: {', '.join(ids[:_NAMED])}{more}; `billing explain` says what "
        "they wait for",
    )


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield list(ids[start : start + PAGE])


def _page(session: Session, ids: list[str], customer: str, only_count: bool) -> Erased:
    row = statements.run(session, _ERASE, ids=ids, customer=customer, only_count=only_count).one()
    return Erased(len(ids), row.descriptions, row.bodies, row.facts, row.notes, tuple(row.not_over))


_ERASE = (
    "SELECT descriptions, bodies, facts, notes, not_over"
    " FROM billing.erase_texts(CAST(%(ids)s AS text[]), %(customer)s, %(only_count)s)"
)


@dataclass(frozen=True, slots=True)
class _Searched:
    found: list[str]
    upto: str | None


def _search(
    session: Session, table: type[Entity], column: InstrumentedAttribute[Any], customer: str, after: str
) -> _Searched:
    page = select(table.id, column.label("of")).where(table.id > after).order_by(table.id).limit(SEARCHED).subquery()
    its = func.array_agg(page.c.id).filter(page.c.of == customer)
    found, upto = session.execute(select(its, func.max(page.c.id))).one()
    return _Searched(sorted(found or ()), upto)


def _invoiced(session: Session, customer: str) -> list[str]:
    """The captures that are, or were to be, on invoices of this customer."""
    of_it = select(InvoicedCapture.capture_id).where(InvoicedCapture.customer == customer)
    return list(session.scalars(of_it.order_by(InvoicedCapture.capture_id)))


def _hanging_on(session: Session, ids: Sequence[str]) -> list[str]:
    """What belongs to one of these, of whatever kind."""
    found: list[str] = []
    for operation in OPERATIONS.values():
        for mine, theirs in operation.belongs_to:
            if theirs is not None and (of := _of_table(theirs.class_, ids)):
                there = select(theirs).where(theirs.class_.id.in_(of))
                its = select(operation.table.id).where(mine.in_(of if theirs.key == "id" else there))
                found += session.scalars(its.order_by(operation.table.id))
    return found


def _of_table(table: Any, ids: Sequence[str]) -> list[str]:
    return [each for each in ids if (kind := by_id(each)) is not None and kind.table is table]


def _held_by(session: Session, customer: str) -> str | None:
    """The name of a hold in force that is about this customer."""
    # As `archive.keeping.search` writes what a hold is for: canonical JSON. Customers' ids need no escape there.
    its = ArchiveHold.criteria.contains(f'"customer":"{customer}"', autoescape=True)
    return session.scalars(select(ArchiveHold.name).where(ArchiveHold.released_at.is_(None), its).limit(1)).first()


def _must_exist(session: Session, entity_id: str) -> None:
    operation = by_id(entity_id)
    if operation is None or not operation.belongs_to or session.get(operation.table, entity_id) is None:
        raise UnknownEntity(entity_id)
