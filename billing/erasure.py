"""Erases what a customer's operations say in words: descriptions of lines, memos, and texts in requests and facts.

Amounts, ids, states and times stay: they are the evidence, and none of them names a person. What is erased was never
archived, so the archive and its verification do not change. The function `billing.erase_texts` decides which operations
are over, and refuses the others; an invoice whose lines are erased fits into no call any more (`billing.invoices`).

An erasure is several short transactions. It may die between them and be run again: what is erased stays erased.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from billing import statements
from billing.database import Transact
from billing.errors import InvalidRequest, UnknownEntity
from billing.operations import by_id
from billing.provider_ids import provider_id
from billing.tables.entities import Capture, Invoice, Void
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
    facts with a reason or a name in words. `not_over`: operations that cannot be erased yet; then nothing was erased of
    their page."""

    operations: int = 0
    descriptions: int = 0
    bodies: int = 0
    facts: int = 0
    not_over: tuple[str, ...] = ()

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(
            self.operations + other.operations,
            self.descriptions + other.descriptions,
            self.bodies + other.bodies,
            self.facts + other.facts,
            self.not_over + other.not_over,
        )

    @property
    def anything(self) -> bool:
        return bool(self.descriptions or self.bodies or self.facts)


def operations_of(ask: Transact, customer: str, also: Iterable[str] = ()) -> list[str]:
    """The ids of the customer's invoices and captures, and those that were named besides. A capture that took money
    names the customer, if Stripe's answer did and it came after migration 0069; one that is invoiced, or is to be, has
    whose invoice it is. All other captures, and voids, name no customer.

    Raises InvalidRequest for what is no customer's id, or while a legal hold is about the customer; UnknownEntity.
    """
    provider_id("customer", customer)
    if hold := ask(partial(_held_by, customer=customer)):
        raise InvalidRequest(f"customer {customer}", f"is under the legal hold {hold}; nothing is erased until it ends")
    named = list(also)
    for entity_id in named:
        ask(partial(_must_exist, entity_id=entity_id))
    found = [each for table in (Invoice, Capture) for each in _of_customer(ask, table, customer)]
    found += ask(partial(_invoiced, customer=customer))
    return list(dict.fromkeys([*found, *named]))


def _of_customer(ask: Transact, table: type[Invoice | Capture], customer: str) -> Iterator[str]:
    after = ""
    while True:
        page = ask(partial(_search, table=table, customer=customer, after=after))
        yield from page.found
        if page.upto is None:
            return
        after = page.upto


def count(ask: Transact, ids: Sequence[str], customer: str) -> Erased:
    """What would be erased, and which of these operations are not over. Nothing is changed."""
    return sum(
        _pages(ask, ids, customer, only_count=True), ask(partial(_of_captures, customer=customer, only_count=True))
    )


def erase(ask: Transact, ids: Sequence[str], customer: str) -> Erased:
    """Erase it. Raises InvalidRequest at a page in which an operation is not over."""
    erased = ask(partial(_of_captures, customer=customer, only_count=False))
    if erased.not_over:
        raise not_over(customer, erased.not_over)
    for page in _pages(ask, ids, customer, only_count=False):
        erased += page
        if page.not_over:
            raise not_over(customer, page.not_over)
    return erased


def not_over(customer: str, ids: Sequence[str]) -> InvalidRequest:
    """The refusal, with what to do."""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return InvalidRequest(
        f"customer {customer}",
        f"has operations that are not over for a day: {', '.join(ids[:_NAMED])}{more}; `billing explain` says what "
        "they wait for",
    )


def _pages(ask: Transact, ids: Sequence[str], customer: str, *, only_count: bool) -> Iterator[Erased]:
    for start in range(0, len(ids), PAGE):
        page = list(ids[start : start + PAGE])
        yield ask(partial(_page, ids=page, customer=customer, only_count=only_count))


def _page(session: Session, ids: list[str], customer: str, only_count: bool) -> Erased:
    memos = _memos(session, ids, only_count=True)
    # If one of the two is refused, nothing of the page is erased.
    counted = only_count or bool(memos.not_over)
    row = statements.run(session, _ERASE, ids=ids, customer=customer, only_count=counted).one()
    if not counted and not row.not_over:
        memos = _memos(session, ids, only_count=False)
    return memos + Erased(len(ids), row.descriptions, row.bodies, row.facts, tuple(row.not_over))


def _memos(session: Session, ids: list[str], *, only_count: bool) -> Erased:
    """What is written on credit notes of these invoices."""
    row = statements.run(session, _ERASE_MEMOS, ids=ids, only_count=only_count).one()
    return Erased(0, row.descriptions, row.bodies, 0, tuple(row.not_over))


def _of_captures(session: Session, customer: str, only_count: bool) -> Erased:
    """What is written of captures that are invoiced to this customer. One that waits for its invoice is not over."""
    row = statements.run(session, _ERASE_OF_CAPTURES, customer=customer, only_count=only_count).one()
    return Erased(descriptions=row.descriptions, not_over=tuple(row.not_over))


_ERASE_OF_CAPTURES = "SELECT * FROM billing.erase_invoiced_captures(%(customer)s, %(only_count)s)"
_ERASE_MEMOS = "SELECT descriptions, bodies, not_over FROM billing.erase_memos(CAST(%(ids)s AS text[]), %(only_count)s)"
_ERASE = (
    "SELECT descriptions, bodies, facts, not_over"
    " FROM billing.erase_texts(CAST(%(ids)s AS text[]), %(customer)s, %(only_count)s)"
)


@dataclass(frozen=True, slots=True)
class _Searched:
    found: list[str]
    upto: str | None


def _search(session: Session, table: type[Invoice | Capture], customer: str, after: str) -> _Searched:
    page = select(table.id, table.customer).where(table.id > after).order_by(table.id).limit(SEARCHED).subquery()
    its = func.array_agg(page.c.id).filter(page.c.customer == customer)
    found, upto = session.execute(select(its, func.max(page.c.id))).one()
    return _Searched(sorted(found or ()), upto)


def _invoiced(session: Session, customer: str) -> list[str]:
    """The captures that are, or were to be, on invoices of this customer."""
    of_it = select(InvoicedCapture.capture_id).where(InvoicedCapture.customer == customer)
    return list(session.scalars(of_it.order_by(InvoicedCapture.capture_id)))


def _held_by(session: Session, customer: str) -> str | None:
    """The name of a hold in force that is about this customer."""
    # As `archive.keeping.search` writes what a hold is for: canonical JSON. Customers' ids need no escape there.
    its = ArchiveHold.criteria.contains(f'"customer":"{customer}"', autoescape=True)
    return session.scalars(select(ArchiveHold.name).where(ArchiveHold.released_at.is_(None), its).limit(1)).first()


def _must_exist(session: Session, entity_id: str) -> None:
    operation = by_id(entity_id)
    if (
        operation is None
        or operation.table not in (Capture, Invoice, Void)
        or session.get(operation.table, entity_id) is None
    ):
        raise UnknownEntity(entity_id)
