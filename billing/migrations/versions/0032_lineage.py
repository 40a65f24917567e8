"""A database knows its own identity, and whether it was found to be restored.

Why: a restored database has forgotten what Stripe did. Processes compare the identity when they start, and then send
nothing until `billing recover` has found that nothing differs. Whoever finds a restore may only say so, by a function
of the owner's: no process can take it back. A relay may pull a switch now, because it is the one that notices while
all workers run. Old rows: a database without an identity gets its own from `billing migrate`. An older version does
not know the table, and starts on a restored database as before. How long it may lock: a new table locks no other, and
the grants only the catalog.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.lineage (
            id bigint NOT NULL,
            cluster varchar(20),
            database_oid bigint,
            restored_at timestamptz,
            why text,
            restored_to timestamptz,
            recovered_at timestamptz,
            CONSTRAINT lineage_pkey PRIMARY KEY (id),
            CONSTRAINT lineage_single CHECK (id = 1),
            CONSTRAINT lineage_restored_with_reason CHECK ((restored_at IS NULL) = (why IS NULL))
        )
        """
    )
    op.execute(
        """
        CREATE FUNCTION billing.note_restore(sign text, back_to timestamptz) RETURNS boolean
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO billing.lineage AS l (id, restored_at, why, restored_to)
            VALUES (1, clock_timestamp(), left(sign, 500), back_to)
                ON CONFLICT (id) DO UPDATE SET restored_at = excluded.restored_at, why = excluded.why,
                                               restored_to = excluded.restored_to
             WHERE l.restored_at IS NULL;
            RETURN FOUND;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION billing.note_restore FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.note_restore TO billing_relay, billing_worker, billing_archiver")
    op.execute(
        "GRANT SELECT ON billing.lineage"
        " TO billing_relay, billing_worker, billing_archiver, billing_reader, billing_operator"
    )
    op.execute("GRANT SELECT (id, entity_type, entity_id, happened_at) ON billing.facts TO billing_worker")
    op.execute(
        "GRANT SELECT (class, number, state, first_fact, last_fact) ON billing.archive_batches"
        " TO billing_relay, billing_worker"
    )
    written, changed = (
        "id, scope, account, actor, reason, probes, expires_at, version",
        "actor, reason, probes, expires_at",
    )
    op.execute(f"GRANT INSERT ({written}), UPDATE ({changed}) ON billing.switches TO billing_relay")
