"""Which database this is: what is compared to find that it was restored, or is a copy."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class Lineage(Table):
    """One row, written by `billing migrate`: this database's own identity, and whether it was found to be restored.

    A dump carries the row along, so the identity in it is that of the database which was dumped.
    """

    __tablename__ = "lineage"
    __table_args__ = (
        CheckConstraint("id = 1", name="single"),
        CheckConstraint("(restored_at IS NULL) = (why IS NULL)", name="restored_with_reason"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # Postgres' own number of the cluster, and the number of this database in it. Null: not known.
    cluster: Mapped[str | None] = mapped_column(String(20))
    database_oid: Mapped[int | None]
    # When a process found that it was restored, and by what. Null: it was not, or `billing recover` has ended it.
    restored_at: Mapped[datetime | None]
    why: Mapped[str | None] = mapped_column(Text)
    # The time of the newest fact that was here then: what came later may be missing.
    restored_to: Mapped[datetime | None]
    # When `billing recover --release` last found that nothing differs. What was seen before that counts no more.
    recovered_at: Mapped[datetime | None]
