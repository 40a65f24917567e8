"""What all tables share: the schema, the types of columns, the constraints that recur; and whose database this is."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import TIMESTAMP, BigInteger, CheckConstraint, LargeBinary, MetaData, String, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from billing.currencies import MOST_MINOR
from billing.provider_ids import SHAPES, IdKind
from billing.states import Life

SCHEMA = "billing"


class Table(DeclarativeBase):
    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "ix": "%(table_name)s_%(column_0_N_name)s",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        },
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        # An Integer of cents overflows at 21 million dollars.
        int: BigInteger,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }


def known_state(life: Life) -> CheckConstraint:
    """The column `state` holds one of the states of this life."""
    return CheckConstraint(f"state IN ({quoted(life.states)})", name="state_known")


def quoted(names: Iterable[str]) -> str:
    """The names as a list of SQL literals."""
    return ", ".join(f"'{name}'" for name in names)


def provider_id_shape(kind: IdKind, *, unless: str = "") -> CheckConstraint:
    """The column that is named like this kind holds an id of it, or null. `unless`: SQL that exempts some rows."""
    return CheckConstraint(f"{unless}{kind} ~ '{SHAPES[kind]}'", name=f"{kind}_shape")


def own_id_shape(prefix: str) -> CheckConstraint:
    """`id` is as `billing.ids` makes it. It is a part of every idempotency key, and a key is sent in a header."""
    return CheckConstraint(f"id ~ '^{prefix}_[0-9a-z]+$'", name="id_shape")


def amount_range(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} <= {MOST_MINOR}", name=f"{column}_range")


def currency_shape(column: str) -> CheckConstraint:
    """Three capitals. `billing.currencies` knows which currencies exist, and is asked before the first call."""
    return CheckConstraint(f"{column} ~ '^[A-Z]{{3}}$'", name=f"{column}_shape")


class Installation(Table):
    """One row: which environment and Stripe account this database belongs to. Each process compares it at its start."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    environment: Mapped[str] = mapped_column(String(40))
    livemode: Mapped[bool]
    # Written by the first worker whose key Stripe accepts; a key of another account is refused from then on.
    stripe_account: Mapped[str | None] = mapped_column(String(255))
    identity: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # The newest fact that was ever purged: a feed whose cursor is older has missed some. 0: none was. Not loaded with
    # the stamp, which is also checked before an older database is migrated.
    purged_upto: Mapped[int] = mapped_column(server_default=text("0"), deferred=True)
