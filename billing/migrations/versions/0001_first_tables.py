"""The first tables. New ones only, so nothing of the application is locked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "captures",
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("payment_intent", sa.String(length=255), nullable=False),
        sa.Column("capture_no", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("authorised_minor", sa.BigInteger(), nullable=True),
        sa.Column("authorised_currency", sa.String(length=3), nullable=True),
        sa.Column("capture_before", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=20), server_default="requested", nullable=False),
        sa.Column("charge", sa.String(length=255), nullable=True),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("state_since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'captured', 'declined', 'refused', 'expired', 'canceled')",
            name=op.f("captures_state_known"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("captures_amount_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("captures_pkey")),
        sa.UniqueConstraint(
            "account", "request_id", name=op.f("captures_account_request_id_key"), postgresql_nulls_not_distinct=True
        ),
        schema="billing",
    )
    op.create_index(
        "captures_one_per_authorisation",
        "captures",
        ["account", "payment_intent", "capture_no"],
        unique=True,
        schema="billing",
        postgresql_where=sa.text("state NOT IN ('declined', 'refused', 'canceled')"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "facts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.String(length=60), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("entity_type", sa.String(length=20), nullable=False),
        sa.Column("entity_id", sa.String(length=40), nullable=False),
        sa.Column("entity_version", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "happened_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("menu", sa.BigInteger(), nullable=True),
        sa.Column("batch_no", sa.BigInteger(), nullable=True),
        sa.Column("archive_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("facts_pkey")),
        sa.UniqueConstraint(
            "entity_type", "entity_id", "entity_version", name=op.f("facts_entity_type_entity_id_entity_version_key")
        ),
        schema="billing",
        postgresql_with={"fillfactor": "85"},
    )
    op.create_index(
        "facts_unplanned", "facts", ["id"], unique=False, schema="billing", postgresql_where=sa.text("menu IS NULL")
    )
    op.create_table(
        "idempotency_records",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("operation_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.String(length=80), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("work_id", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("api_version", sa.String(length=40), nullable=False),
        sa.Column("provider_object", sa.String(length=255), nullable=True),
        sa.Column("deadline", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=20), server_default="planned", nullable=False),
        sa.Column("learned", sa.String(length=40), server_default="nothing", nullable=False),
        sa.Column("sends", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unanswered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unreported", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("server_errors", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("replayed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("look_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("margin_looked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("looks", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_prepared_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_reported_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("look_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("looked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("parked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_s", sa.Double(), nullable=True),
        sa.Column("answer_status", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("request_ids", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("conclusion", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("concluded_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("key <> '' AND length(key) <= 255", name=op.f("idempotency_records_key_usable")),
        sa.CheckConstraint(
            "state IN ('planned', 'sent', 'in_doubt', 'conflict', 'unsettled', 'answered', 'disproved')",
            name=op.f("idempotency_records_state_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("idempotency_records_pkey")),
        sa.UniqueConstraint("key", name=op.f("idempotency_records_key_key")),
        sa.UniqueConstraint("operation_id", "generation", name=op.f("idempotency_records_operation_id_generation_key")),
        schema="billing",
    )
    op.create_index(
        "idempotency_records_one_open_per_object",
        "idempotency_records",
        ["account", "provider_object"],
        unique=True,
        schema="billing",
        postgresql_where=sa.text("concluded_at IS NULL AND provider_object IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "idempotency_records_one_open_per_step",
        "idempotency_records",
        ["operation_id", "step"],
        unique=True,
        schema="billing",
        postgresql_where=sa.text("concluded_at IS NULL"),
    )
    op.create_index(
        "idempotency_records_to_look_at",
        "idempotency_records",
        ["queue", "look_at"],
        unique=False,
        schema="billing",
        postgresql_where=sa.text("concluded_at IS NULL AND look_at IS NOT NULL"),
    )
    op.create_index(
        op.f("idempotency_records_work_id"), "idempotency_records", ["work_id"], unique=False, schema="billing"
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("environment", sa.String(length=40), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("stripe_account", sa.String(length=255), nullable=True),
        sa.Column("identity", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("installation_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("installation_pkey")),
        schema="billing",
    )
    op.create_table(
        "invoices",
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("customer", sa.String(length=255), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("days_until_due", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="requested", nullable=False),
        sa.Column("stripe_invoice", sa.String(length=255), nullable=True),
        sa.Column("create_generation", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.String(length=64), nullable=True),
        sa.Column("requested_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("state_since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('requested', 'drafted', 'lines_added', 'lines_differ', 'finalized', 'sent', 'refused')",
            name=op.f("invoices_state_known"),
        ),
        sa.CheckConstraint("total_minor > 0", name=op.f("invoices_total_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("invoices_pkey")),
        sa.UniqueConstraint(
            "account", "request_id", name=op.f("invoices_account_request_id_key"), postgresql_nulls_not_distinct=True
        ),
        schema="billing",
    )
    op.create_table(
        "switches",
        sa.Column("scope", sa.String(length=300), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="pulled", nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("probes", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pulled_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("state_since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('pulled', 'released')", name=op.f("switches_state_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("switches_pkey")),
        schema="billing",
    )
    op.create_index(
        "switches_one_pulled_per_scope",
        "switches",
        ["scope"],
        unique=True,
        schema="billing",
        postgresql_where=sa.text("state = 'pulled'"),
    )
    op.create_table(
        "work",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("contract", sa.String(length=60), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("entity_id", sa.String(length=40), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("urgency", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("record_id", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.String(length=200), nullable=False),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state_since", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'ready', 'running', 'held', 'parked', 'quarantined', 'done', 'failed')",
            name=op.f("work_state_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("work_pkey")),
        sa.UniqueConstraint("dedupe_key", name=op.f("work_dedupe_key_key")),
        schema="billing",
    )
    op.create_index(
        "work_due",
        "work",
        ["due_at"],
        unique=False,
        schema="billing",
        postgresql_where=sa.text("state = 'waiting' AND due_at IS NOT NULL"),
    )
    op.create_index(op.f("work_entity_id"), "work", ["entity_id"], unique=False, schema="billing")
    op.create_index(
        "work_ready",
        "work",
        ["queue", "urgency", "id"],
        unique=False,
        schema="billing",
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "work_running", "work", ["id"], unique=False, schema="billing", postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "work_stopped",
        "work",
        ["state", "id"],
        unique=False,
        schema="billing",
        postgresql_where=sa.text("state IN ('held', 'parked', 'quarantined')"),
    )
    op.create_table(
        "invoice_lines",
        sa.Column("invoice_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("invoice_lines_amount_positive")),
        sa.ForeignKeyConstraint(["invoice_id"], ["billing.invoices.id"], name=op.f("invoice_lines_invoice_id_fkey")),
        sa.PrimaryKeyConstraint("invoice_id", "position", name=op.f("invoice_lines_pkey")),
        schema="billing",
    )
