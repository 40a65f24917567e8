"""Legal holds on the archive: who forbids the end of what, and until when nobody has lifted it."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.schema import Table


class ArchiveHold(Table):
    """One hold, such as a case at court. It is kept after its release: that it existed is evidence, too."""

    __tablename__ = "archive_holds"
    __table_args__ = (CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'", name="name_shape"),)

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    # What it was placed for, as canonical JSON: a hold that is placed again must ask for the same.
    criteria: Mapped[str] = mapped_column(Text)
    placed_by: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(Text)
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]


class HeldBatch(Table):
    """A batch whose object a hold needs. The object stays locked as long as one unreleased hold needs it."""

    __tablename__ = "archive_held_batches"
    __table_args__ = (
        ForeignKeyConstraint(["hold"], ["billing.archive_holds.name"]),
        ForeignKeyConstraint(
            ["class", "number"],
            ["billing.archive_batches.class", "billing.archive_batches.number"],
            name="archive_held_batches_batch_fkey",
        ),
        Index("archive_held_batches_by_batch", "class", "number"),
    )

    hold: Mapped[str] = mapped_column(String(60), primary_key=True)
    retention_class: Mapped[str] = mapped_column("class", String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class HeldDocument(Table):
    """A document whose object a hold needs, as the object of a batch."""

    __tablename__ = "archive_held_documents"
    __table_args__ = (Index("archive_held_documents_by_document", "document_id"),)

    hold: Mapped[str] = mapped_column(String(60), ForeignKey("billing.archive_holds.name"), primary_key=True)
    document_id: Mapped[str] = mapped_column(String(40), ForeignKey("billing.documents.id"), primary_key=True)
