"""How far each file of requests was asked for.

Why: a command that asks for a hundred thousand rows may die at any of them, and must be continued without asking twice.
An older version does not know the table and has no command for files. Old rows: there are none. How long it may lock: a
new table locks no other, and the grants only the catalog.
"""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        r"""
        CREATE TABLE billing.bulks (
            id varchar(80) NOT NULL,
            kind varchar(20) NOT NULL,
            digest varchar(64) NOT NULL,
            account varchar(255),
            rows bigint NOT NULL,
            actor varchar(255) NOT NULL,
            reason text NOT NULL,
            begun_at timestamptz NOT NULL DEFAULT now(),
            done_upto bigint NOT NULL DEFAULT 0,
            asked bigint NOT NULL DEFAULT 0,
            asked_before bigint NOT NULL DEFAULT 0,
            refused bigint NOT NULL DEFAULT 0,
            ended_at timestamptz,
            CONSTRAINT bulks_pkey PRIMARY KEY (id),
            CONSTRAINT bulks_kind_digest_key UNIQUE (kind, digest),
            CONSTRAINT bulks_digest_shape CHECK (digest ~ '^[0-9a-f]{64}$'),
            CONSTRAINT bulks_rows_counted CHECK (
                asked >= 0 AND asked_before >= 0 AND refused >= 0 AND asked + asked_before + refused <= rows),
            CONSTRAINT bulks_done_upto_positive CHECK (done_upto >= 0),
            CONSTRAINT bulks_account_shape CHECK (
                account ~ '^(?=.{1,255}$)(?!.*_secret)acct_[A-Za-z0-9_]+$')
        )
        """
    )
    op.execute("GRANT SELECT ON billing.bulks TO billing_reader, billing_operator")
    op.execute(
        "GRANT INSERT (id, kind, digest, account, rows, actor, reason),"
        " UPDATE (rows, done_upto, asked, asked_before, refused, ended_at) ON billing.bulks TO billing_operator"
    )
