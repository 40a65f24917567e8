"""An application that follows the changes and books each paid order once, wherever it is killed.

    python examples/paid_orders.py        # in a terminal with the lines that `billing up` printed; Ctrl-C ends it

The cursor is a row of the application's own, and is moved in the transaction that applies the changes: both are
written, or neither. A follower locks that row first, so two of these programs do the same as one.

    DATABASE_URL       postgresql://..., migrated by `billing migrate`
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import billing


class Table(DeclarativeBase):
    pass


class Payment(Table):
    """One line of the shop's own books. Only the feed prevents a second line about an order; no constraint does."""

    __tablename__ = "payments"

    number: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str]
    state: Mapped[str]


class Place(Table):
    """How far this application has come in the feed."""

    __tablename__ = "place_in_the_feed"

    name: Mapped[str] = mapped_column(primary_key=True)
    cursor: Mapped[int] = mapped_column(default=0)


@dataclass(frozen=True)
class Follower:
    engine: Engine

    def open(self) -> None:
        """Make the application's own tables."""
        with Session(self.engine) as session, session.begin():
            # Without this lock, two programs that start at once would both create the tables.
            session.execute(select(func.pg_advisory_xact_lock(func.hashtext(Place.__tablename__))))
            Table.metadata.create_all(session.connection())
            session.execute(insert(Place).values(name="payments", cursor=0).on_conflict_do_nothing())

    def follow(self) -> bool:
        """Apply one page of changes. Returns whether there is more already."""
        with Session(self.engine) as session, session.begin():
            place = session.get_one(Place, "payments", with_for_update=True)
            page = billing.changes(session, place.cursor)
            for change in page.changes:
                self.apply(session, change)
            place.cursor = page.cursor
            return page.more

    def apply(self, session: Session, change: billing.Change) -> None:
        """What a change means here. `conflict` may follow an end; the operator of the service is informed as well."""
        if change.kind == "capture" and change.state in ("captured", "conflict"):
            session.add(Payment(request_id=change.request_id, state=change.state))
            session.flush()

    def paid(self) -> int:
        with Session(self.engine) as session:
            return session.scalars(select(func.count()).where(Payment.state == "captured")).one()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="how often to ask")
    every_s = arguments.parse_args().every
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("DATABASE_URL is not set; `billing up` starts a database and prints it")
    follower = Follower(create_engine(url))
    follower.open()
    while True:
        if not follower.follow():
            print(f"paid orders: {follower.paid()}", flush=True)
            time.sleep(every_s)


if __name__ == "__main__":
    main()
