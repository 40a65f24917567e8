"""The whole schema on one page; the constraints are the promises.

All of it lives in the Postgres schema `billing`, always qualified, because the service shares the
application's database. Times are judged by the database's clock. Minimum server: Postgres 16.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from billing import states
from billing.currencies import MOST_MINOR
from billing.provider_ids import SHAPES, IdKind
from billing.states import Life
from billing.timing import EARLIEST, LATEST

SCHEMA = "billing"

MAX_LINES = 100
"""All lines go in one call, so that they are added once or not at all; more are refused until they can be batched."""
MAX_DESCRIPTION = 500
"""Characters of a line's description."""

MAX_DAYS = 365


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
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
    }


def _state_of(life: Life) -> CheckConstraint:
    return CheckConstraint(f"state IN ({_listed(life.states)})", name="state_known")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


_A_DAY = timedelta(days=1)  # the border judges by the year that the caller's time zone has


def _id_of(kind: IdKind, *, unless: str = "") -> CheckConstraint:
    """The column that is called as the kind holds such an id, or nothing."""
    return CheckConstraint(f"{unless}{kind} ~ '{SHAPES[kind]}'", name=f"{kind}_shape")


def _own_id(kind: str) -> CheckConstraint:
    """As `billing.ids` makes them: it is a part of every idempotency key, which is a header."""
    return CheckConstraint(f"id ~ '^{kind}_[0-9a-z]+$'", name="id_shape")


def _amount(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} <= {MOST_MINOR}", name=f"{column}_range")


def _currency(column: str) -> CheckConstraint:
    """Only its form: which currencies there are is for `billing.currencies`, and is asked before the first call."""
    return CheckConstraint(f"{column} ~ '^[A-Z]{{3}}$'", name=f"{column}_shape")


class Entity(Table):
    """What operations have in common: a row with a life, told in facts."""

    __abstract__ = True
    life: ClassVar[Life]

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account: Mapped[str | None] = mapped_column(String(255))
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    # Each names its own with the life's first state as its default.
    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(Text)
    # Raised under the row's lock with every fact about it, so that a missing fact shows.
    version: Mapped[int] = mapped_column(server_default=text("0"))
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())


class Requested(Entity):
    """An operation that an application asked for, under a request id of its own."""

    __abstract__ = True

    request_id: Mapped[str] = mapped_column(String(255))
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Capture(Requested):
    """One request to take money that a customer has authorized."""

    life = states.CAPTURE
    __tablename__ = "captures"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        # One capture per authorization: the last wall against a double charge. Every state
        # but these occupies it, whatever is known of its calls.
        Index(
            "captures_one_per_authorization",
            "account",
            "payment_intent",
            "capture_no",
            unique=True,
            postgresql_where=text(f"state NOT IN ({_listed(states.FREES_THE_AUTHORIZATION)})"),
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("amount_minor > 0", name="amount_positive"),
        _own_id("cap"),
        _id_of(IdKind.PAYMENT_INTENT),
        _id_of(IdKind.ACCOUNT),
        _id_of(IdKind.CHARGE),
        _amount("amount_minor"),
        _currency("currency"),
        _amount("authorized_minor"),
        _currency("authorized_currency"),
        CheckConstraint(
            f"capture_before BETWEEN '{EARLIEST - _A_DAY}' AND '{LATEST + _A_DAY}'", name="capture_before_real"
        ),
        _state_of(states.CAPTURE),
    )

    payment_intent: Mapped[str] = mapped_column(String(255))
    capture_no: Mapped[int] = mapped_column(server_default=text("1"))
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(String(3))
    # The authorization, as the caller knew it or as it was read from Stripe once.
    authorized_minor: Mapped[int | None]
    authorized_currency: Mapped[str | None] = mapped_column(String(3))
    capture_before: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(20), server_default=states.CAPTURE.first)
    charge: Mapped[str | None] = mapped_column(String(255))


class Invoice(Requested):
    """One invoice: drafted, filled, compared, finalized and sent by Stripe under our keys."""

    life = states.INVOICE
    __tablename__ = "invoices"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("total_minor > 0", name="total_positive"),
        _own_id("inv"),
        _id_of(IdKind.CUSTOMER),
        _id_of(IdKind.ACCOUNT),
        _id_of(IdKind.INVOICE),
        _amount("total_minor"),
        _currency("currency"),
        CheckConstraint(f"days_until_due BETWEEN 1 AND {MAX_DAYS}", name="days_until_due_range"),
        _state_of(states.INVOICE),
    )

    customer: Mapped[str] = mapped_column(String(255))
    currency: Mapped[str] = mapped_column(String(3))
    total_minor: Mapped[int]
    days_until_due: Mapped[int]
    state: Mapped[str] = mapped_column(String(20), server_default=states.INVOICE.first)
    stripe_invoice: Mapped[str | None] = mapped_column(String(255))
    # Which generation of the create step made `stripe_invoice`; later steps belong to it.
    create_generation: Mapped[int | None]
    number: Mapped[str | None] = mapped_column(String(64))


class InvoiceLine(Table):
    """One line of an invoice. The description may name a person, so it never leaves Postgres as a fact."""

    __tablename__ = "invoice_lines"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount_positive"),
        _amount("amount_minor"),
        CheckConstraint(f"position BETWEEN 0 AND {MAX_LINES - 1}", name="position_bounded"),
        CheckConstraint(f"length(description) BETWEEN 1 AND {MAX_DESCRIPTION}", name="description_bounded"),
    )

    invoice_id: Mapped[str] = mapped_column(ForeignKey(Invoice.id), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    amount_minor: Mapped[int]


class Switch(Entity):
    """A switch: while it is pulled, nothing new is prepared in its scope."""

    life = states.SWITCH
    __tablename__ = "switches"
    __table_args__ = (
        Index("switches_one_pulled_per_scope", "scope", unique=True, postgresql_where=text("state = 'pulled'")),
        # What was pulled for another name before there was this constraint can be released.
        _id_of(IdKind.ACCOUNT, unless="state = 'released' OR "),
        _state_of(states.SWITCH),
    )

    state: Mapped[str] = mapped_column(String(20), server_default=states.SWITCH.first)
    scope: Mapped[str] = mapped_column(String(300))
    actor: Mapped[str] = mapped_column(String(255))
    # Pulled by the system itself for this account; released by itself when a probe succeeds.
    probes: Mapped[bool] = mapped_column(server_default=text("false"))
    pulled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Record(Table):
    """One provider call and one generation of its key: what was asked, and everything learned since."""

    life: ClassVar[Life] = states.RECORD
    __tablename__ = "idempotency_records"
    __table_args__ = (
        # One open call per step, and per object at Stripe. In doubt, undecided, in conflict and unsettled are open.
        Index(
            "idempotency_records_one_open_per_step",
            "operation_id",
            "step",
            unique=True,
            postgresql_where=text("concluded_at IS NULL"),
        ),
        Index(
            "idempotency_records_one_open_per_object",
            "account",
            "provider_object",
            unique=True,
            postgresql_where=text("concluded_at IS NULL AND provider_object IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        UniqueConstraint("operation_id", "generation"),
        Index(
            "idempotency_records_to_look_at",
            "queue",
            "look_at",
            postgresql_where=text("concluded_at IS NULL AND look_at IS NOT NULL"),
        ),
        CheckConstraint("key <> '' AND length(key) <= 255", name="key_usable"),
        _state_of(states.RECORD),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    operation_id: Mapped[str] = mapped_column(String(40))
    step: Mapped[str] = mapped_column(String(80))
    generation: Mapped[int]
    work_id: Mapped[str] = mapped_column(String(40), index=True)
    queue: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(300), unique=True)
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(Text)
    # The encoded parameters exactly as they are sent, every time this generation is sent.
    body: Mapped[str] = mapped_column(Text)
    # Written by versions before migration 0011, and by none since; to be dropped when none of them runs any more.
    fingerprint: Mapped[str | None] = mapped_column(String(64), deferred=True)
    account: Mapped[str | None] = mapped_column(String(255))
    livemode: Mapped[bool]
    api_version: Mapped[str] = mapped_column(String(40))
    provider_object: Mapped[str | None] = mapped_column(String(255))
    deadline: Mapped[datetime | None]

    state: Mapped[str] = mapped_column(String(20), server_default=states.RECORD.first)
    learned: Mapped[str] = mapped_column(String(40), server_default="nothing")
    sends: Mapped[int] = mapped_column(server_default=text("0"))
    # Sends that may have had an effect which no answer has told us of.
    unanswered: Mapped[int] = mapped_column(server_default=text("0"))
    # Sends whose own crew has not reported: it may be dead, or asleep and about to wake up.
    unreported: Mapped[int] = mapped_column(server_default=text("0"))
    server_errors: Mapped[int] = mapped_column(server_default=text("0"))
    replayed: Mapped[bool] = mapped_column(server_default=text("false"))
    look_only: Mapped[bool] = mapped_column(server_default=text("false"))
    margin_looked: Mapped[bool] = mapped_column(server_default=text("false"))
    looks: Mapped[int] = mapped_column(server_default=text("0"))
    first_sent_at: Mapped[datetime | None]
    last_prepared_at: Mapped[datetime | None]
    last_reported_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    # When the last look that was reported began: what it read is no younger.
    looked_at: Mapped[datetime | None]
    parked_at: Mapped[datetime | None]

    fence: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    lease_s: Mapped[float | None]

    answer_status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(deferred=True)
    request_ids: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    # The ids that a step which lists objects has found; null for every other step.
    found_objects: Mapped[list[str] | None]
    conclusion: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    concluded_at: Mapped[datetime | None]


# What is kept for another time lies in another batch of the archive. Laid out as Postgres prints it, because the index
# below is compared with the migrations' by its text.
RETENTION_CLASS = """
CASE
    WHEN split_part(topic, '.', 2) = ANY (ARRAY['attempted', 'attempt_lapsed', 'looked', 'late_answer']) THEN 'attempt'
    WHEN entity_type = ANY (ARRAY['capture', 'invoice']) THEN entity_type
    ELSE 'admin'
END"""
SET_ASIDE = 0
"""As the batch of a fact: the archiver could not take it, and it is in none."""


class Fact(Table):
    """Something that happened. Append-only; no personal data."""

    __tablename__ = "facts"
    __table_args__ = (
        UniqueConstraint("entity_type", "entity_id", "entity_version"),
        Index("facts_unplanned", "id", postgresql_where=text("planned_version IS NULL")),
        # By class, because a class may stand still while the others go on.
        Index(
            "facts_unarchived_by_class",
            text(f"({RETENTION_CLASS})"),
            "id",
            postgresql_where=text("batch_no IS NULL AND planned_version IS NOT NULL"),
        ),
        Index("facts_unarchivable", "id", postgresql_where=text(f"batch_no = {SET_ASIDE}")),
        Index("facts_set_aside", "id", postgresql_where=text("planned_version < 0")),
        # Of what is still to be planned: a row from before these rules can be stamped and archived like any other.
        CheckConstraint(
            "planned_version IS NOT NULL OR (jsonb_typeof(payload) = 'object' AND length(payload::text) <= 16384)",
            name="payload_bounded",
        ),
        CheckConstraint(
            "planned_version IS NOT NULL OR (topic ~ '^[a-z_]+[.][a-z_]+$' AND entity_type ~ '^[a-z_]+$'"
            " AND entity_id ~ '^[a-z]+_[A-Za-z0-9_]+$')",
            name="names_shaped",
        ),
        # Two marks are two updates of every row: leave room for them in the page.
        {"postgresql_with": {"fillfactor": "85"}},
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    topic: Mapped[str] = mapped_column(String(60))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    entity_type: Mapped[str] = mapped_column(String(20))
    entity_id: Mapped[str] = mapped_column(String(40))
    entity_version: Mapped[int]
    actor: Mapped[str] = mapped_column(String(255))
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    payload: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    # The version of the contracts of the relay that planned it; negative when planning it failed, and it was set aside.
    planned_version: Mapped[int | None]
    # Which batch of its retention class it is archived in (0: none, it is set aside), and its number in that class.
    batch_no: Mapped[int | None]
    archive_seq: Mapped[int | None]


class ArchiveBatch(Table):
    """One batch of facts: of one retention class and one UTC day, numbered without gaps, and so are its facts."""

    life: ClassVar[Life] = states.BATCH
    __tablename__ = "archive_batches"
    __table_args__ = (
        UniqueConstraint("class", "number", "last_seq"),
        # A batch stands on the one before it: neither batches nor facts are left out in between.
        ForeignKeyConstraint(
            ["class", "previous_number", "previous_seq"],
            ["billing.archive_batches.class", "billing.archive_batches.number", "billing.archive_batches.last_seq"],
            name="archive_batches_follows",
        ),
        CheckConstraint("number > 1 OR (number = 1 AND first_seq = 1)", name="begins_with_one"),
        CheckConstraint("rows = last_seq - first_seq + 1 AND rows > 0", name="rows_counted"),
        # Manifest n names the digest of manifest n - 1, so one after the other.
        Index("archive_batches_one_open", "class", unique=True, postgresql_where=text("state = 'claimed'")),
        CheckConstraint(
            "state = 'claimed' OR (object_sha256 IS NOT NULL AND object_version IS NOT NULL"
            " AND manifest_sha256 IS NOT NULL AND archived_at IS NOT NULL)",
            name="archived_with_digests",
        ),
        _state_of(states.BATCH),
    )

    retention_class: Mapped[str] = mapped_column("class", String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    previous_number: Mapped[int | None] = mapped_column(Computed("NULLIF(number - 1, 0)", persisted=True))
    previous_seq: Mapped[int] = mapped_column(Computed("first_seq - 1", persisted=True))
    event_date: Mapped[date]
    rows: Mapped[int]
    first_seq: Mapped[int]
    last_seq: Mapped[int]
    # Its facts lie between these two, so that reading them needs no index of its own.
    first_fact: Mapped[int]
    last_fact: Mapped[int]
    # Decided at the claim, so that whoever finishes it locks it in the same way.
    lock_mode: Mapped[str] = mapped_column(String(10))
    locked_until: Mapped[datetime]
    manifest_lock_mode: Mapped[str] = mapped_column(String(10))
    manifest_locked_until: Mapped[datetime]

    state: Mapped[str] = mapped_column(String(20), server_default=states.BATCH.first)
    claimed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    object_sha256: Mapped[str | None] = mapped_column(String(64))
    object_version: Mapped[str | None] = mapped_column(Text)
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    archived_at: Mapped[datetime | None]


class Work(Table):
    """One piece of work: a contract to be carried out once, when due, by whoever is free."""

    life: ClassVar[Life] = states.WORK
    __tablename__ = "work"
    __table_args__ = (
        Index("work_ready", "queue", "urgency", "id", postgresql_where=text("state = 'ready'")),
        Index("work_due", "due_at", postgresql_where=text("state = 'waiting' AND due_at IS NOT NULL")),
        Index("work_running", "id", postgresql_where=text("state = 'running'")),
        Index("work_stopped", "state", "id", postgresql_where=text("state IN ('held', 'parked', 'quarantined')")),
        _state_of(states.WORK),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    contract: Mapped[str] = mapped_column(String(60))
    version: Mapped[int]
    # Written by versions before migration 0013, which also select it; read by none. A later migration drops it.
    arguments: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), deferred=True)
    queue: Mapped[str] = mapped_column(String(40))
    entity_id: Mapped[str] = mapped_column(String(40), index=True)
    scopes: Mapped[list[str]]
    state: Mapped[str] = mapped_column(String(20))
    due_at: Mapped[datetime | None]
    urgency: Mapped[datetime]
    # Crashes and unknown errors only; outages are bounded by time, not by number.
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    # The lease lives on the record of the call in hand.
    record_id: Mapped[str | None] = mapped_column(String(40))
    reason: Mapped[str | None] = mapped_column(Text)
    dedupe_key: Mapped[str] = mapped_column(String(200), unique=True)
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state_since: Mapped[datetime] = mapped_column(server_default=func.now())


class Installation(Table):
    """One row: whose database this is. Every process compares it before it does anything."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    environment: Mapped[str] = mapped_column(String(40))
    livemode: Mapped[bool]
    # Written by the first worker whose key Stripe accepts; a key of another account is refused from then on.
    stripe_account: Mapped[str | None] = mapped_column(String(255))
    identity: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
