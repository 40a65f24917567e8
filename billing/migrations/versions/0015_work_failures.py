"""A table of its own for failures of work: errors, calls and code as they were at that moment.

Why: a replay changes the states of calls, and logs are kept elsewhere, or not at all. How long it may lock: a new table
locks no other. Work that was quarantined before has no row in it. An older worker that still runs writes none either;
what it quarantines is listed as before, without errors and version.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.work_failures (
            id bigint GENERATED ALWAYS AS IDENTITY,
            work_id varchar(40) NOT NULL,
            happened_at timestamptz NOT NULL DEFAULT now(),
            quarantined boolean NOT NULL,
            reason text,
            attempts bigint NOT NULL,
            tries bigint NOT NULL,
            errors jsonb NOT NULL DEFAULT '[]',
            calls jsonb NOT NULL DEFAULT '[]',
            code_version varchar(80) NOT NULL,
            contracts_version bigint NOT NULL,
            CONSTRAINT work_failures_pkey PRIMARY KEY (id)
        )
        """
    )
    op.execute("CREATE INDEX work_failures_by_work ON billing.work_failures (work_id, id)")
    op.execute(
        "GRANT INSERT (work_id, quarantined, reason, attempts, tries, errors, calls, code_version, contracts_version)"
        " ON billing.work_failures TO billing_worker"
    )
    op.execute("GRANT SELECT ON billing.work_failures TO billing_reader, billing_operator")
