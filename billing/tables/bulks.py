"""Files of requests, and how far each was asked for."""

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from billing.provider_ids import IdKind
from billing.tables.schema import Table, provider_id_shape


class Bulk(Table):
    """One file that an operator asked for, written with its first batch of rows. Its requests are rows of their own.

    Each batch of rows is committed together with the progress, so whoever continues a bulk knows where it stands.
    """

    __tablename__ = "bulks"
    __table_args__ = (
        # A file is asked for once: under another id the request ids that a bulk makes up would be others, too.
        UniqueConstraint("kind", "digest"),
        CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest_shape"),
        CheckConstraint(
            "asked >= 0 AND asked_before >= 0 AND refused >= 0 AND asked + asked_before + refused <= rows",
            name="rows_counted",
        ),
        CheckConstraint("done_upto >= 0", name="done_upto_positive"),
        provider_id_shape(IdKind.ACCOUNT),
    )

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    # SHA-256 of the bytes of the file, in hexadecimal.
    digest: Mapped[str] = mapped_column(String(64))
    # Of the rows that name none themselves. Null: our own.
    account: Mapped[str | None] = mapped_column(String(255))
    # How many rows there are to ask for, without the bad ones that were left out.
    rows: Mapped[int]
    actor: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The rows up to this line of the file are done.
    done_upto: Mapped[int] = mapped_column(server_default=text("0"))
    # Of these: newly requested; requested before, with the same parameters; refused.
    asked: Mapped[int] = mapped_column(server_default=text("0"))
    asked_before: Mapped[int] = mapped_column(server_default=text("0"))
    refused: Mapped[int] = mapped_column(server_default=text("0"))
    ended_at: Mapped[datetime | None]
