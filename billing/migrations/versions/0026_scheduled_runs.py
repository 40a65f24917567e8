"""Runs of schedules: when each schedule was due, and what became of it.

Why: work that is no provider's (snapshots, reports, clean-up) comes at fixed times, and a unique row for each time lets
any number of relays make it once. How long it may lock: a new table locks no other. Old rows are not concerned. A
running older version knows neither the table nor the topics of its facts: its relay leaves them to a newer one.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.scheduled_runs (
            id varchar(40) NOT NULL,
            account varchar(255),
            correlation_id varchar(255),
            state varchar(20) NOT NULL DEFAULT 'due',
            reason text,
            version bigint NOT NULL DEFAULT 0,
            state_since timestamptz NOT NULL DEFAULT now(),
            schedule varchar(60) NOT NULL,
            at timestamptz NOT NULL,
            missed bigint NOT NULL DEFAULT 0,
            asked_by varchar(255),
            CONSTRAINT scheduled_runs_pkey PRIMARY KEY (id),
            CONSTRAINT scheduled_runs_schedule_at_key UNIQUE (schedule, at),
            CONSTRAINT scheduled_runs_schedule_shape CHECK (schedule ~ '^[a-z_]+$'),
            CONSTRAINT scheduled_runs_id_shape CHECK (id ~ '^run_[0-9a-z]+$'),
            CONSTRAINT scheduled_runs_state_known CHECK (state IN ('due', 'done'))
        )
        """
    )
    op.execute(
        "GRANT SELECT ON billing.scheduled_runs TO billing_relay, billing_worker, billing_reader, billing_operator"
    )
    op.execute(
        "GRANT INSERT (id, schedule, at, missed, asked_by, version) ON billing.scheduled_runs"
        " TO billing_relay, billing_operator"
    )
    op.execute("GRANT UPDATE (state, state_since, reason, version) ON billing.scheduled_runs TO billing_worker")
    op.execute("GRANT UPDATE (version) ON billing.scheduled_runs TO billing_operator")
