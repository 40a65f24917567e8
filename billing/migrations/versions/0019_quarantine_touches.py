"""When somebody first touched work in quarantine, and who looks at it.

Why: the time from detection to the first touch says whether a quarantine is watched. It is a table of operators, beside
`work`, which every claim reads. How long it may lock: a new table locks no other. Old rows and older versions are not
concerned: what was touched before has no row, and counts as untouched until it is touched again.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.quarantine_touches (
            work_id varchar(40) NOT NULL,
            since timestamptz NOT NULL,
            touched_at timestamptz NOT NULL DEFAULT now(),
            touched_by varchar(255) NOT NULL,
            assignee varchar(255),
            CONSTRAINT quarantine_touches_pkey PRIMARY KEY (work_id, since)
        )
        """
    )
    op.execute("GRANT SELECT ON billing.quarantine_touches TO billing_reader, billing_operator")
    op.execute("GRANT SELECT (work_id, since) ON billing.quarantine_touches TO billing_relay")
    op.execute("GRANT INSERT (work_id, since, touched_by, assignee) ON billing.quarantine_touches TO billing_operator")
    op.execute("GRANT UPDATE (assignee) ON billing.quarantine_touches TO billing_operator")
