"""The heads of each day, and where they were published."""

from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class ArchiveHead(Table):
    """One row per UTC day: the signed document with the newest manifest of each class (`archive.format.heads`)."""

    __tablename__ = "archive_heads"
    __table_args__ = (CheckConstraint("length(document) <= 16384", name="document_bounded"),)

    day: Mapped[date] = mapped_column("date", primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ArchiveHeadCopy(Table):
    """One row for each day and each place that must have its document; `published_at` is null until it has."""

    __tablename__ = "archive_head_copies"

    day: Mapped[date] = mapped_column("date", ForeignKey("billing.archive_heads.date"), primary_key=True)
    place: Mapped[str] = mapped_column(String(20), primary_key=True)
    published_at: Mapped[datetime | None]
    # The last attempt, and why it failed.
    tried_at: Mapped[datetime | None]
    problem: Mapped[str | None] = mapped_column(Text)
