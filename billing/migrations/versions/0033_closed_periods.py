"""A month can be closed: from then on no new fact can be dated into it.

Why: a report of a month says nothing if the month can still change. The function runs with the owner's rights, because
only the owner may put a constraint on a table, and looks by itself at what must be true. Old rows: a fact that is
archived may keep its date, so the constraint is not validated and holds for what is written from then on. An older
version knows neither table nor function; its facts are dated by the database's clock, like ours. How long it may lock:
the migration only the catalog. A close needs the lock of the table of facts for a moment, waits for it for half a
second at most, and is then tried again.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE billing.closed_periods (
            period varchar(7) NOT NULL,
            until timestamptz NOT NULL,
            closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            actor varchar(255) NOT NULL,
            heads jsonb NOT NULL,
            observed jsonb NOT NULL,
            CONSTRAINT closed_periods_pkey PRIMARY KEY (period),
            CONSTRAINT closed_periods_period_shape CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$')
        )
        """
    )
    op.execute("""
        CREATE FUNCTION billing.close_period(closing text, by_actor text, at_heads jsonb, at_that_time jsonb)
        RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
        DECLARE
            beginning timestamptz := (closing || '-01')::date::timestamp AT TIME ZONE 'UTC';
            ending timestamptz := ((closing || '-01')::date + interval '1 month') AT TIME ZONE 'UTC';
        BEGIN
            IF clock_timestamp() < ending THEN
                RAISE EXCEPTION '% is not over', closing USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            -- Whoever writes facts holds this table, so from here on there is nobody whose fact is not seen below.
            LOCK TABLE billing.facts IN ACCESS EXCLUSIVE MODE;
            IF EXISTS (SELECT FROM billing.closed_periods WHERE until >= ending) THEN
                RAISE EXCEPTION '% or a later month is closed', closing
                      USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            IF EXISTS (SELECT FROM billing.facts WHERE planned_version IS NULL AND happened_at < ending)
               OR EXISTS (SELECT FROM billing.facts WHERE batch_no IS NULL AND planned_version IS NOT NULL
                             AND happened_at < ending)
               OR EXISTS (SELECT FROM billing.facts WHERE batch_no = 0 AND happened_at < ending)
               OR EXISTS (SELECT FROM billing.archive_batches WHERE state = 'claimed'
                             AND event_date < (ending AT TIME ZONE 'UTC')::date) THEN
                RAISE EXCEPTION 'facts of % are not archived', closing
                      USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
            INSERT INTO billing.closed_periods (period, until, actor, heads, observed)
                 VALUES (closing, ending, by_actor, at_heads, at_that_time);
            ALTER TABLE billing.facts DROP CONSTRAINT IF EXISTS facts_period_open;
            EXECUTE format('ALTER TABLE billing.facts ADD CONSTRAINT facts_period_open'
                           ' CHECK (batch_no IS NOT NULL OR happened_at >= %L) NOT VALID', ending);
        END $$""")
    op.execute("REVOKE ALL ON FUNCTION billing.close_period FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION billing.close_period TO billing_operator")
    op.execute("GRANT SELECT ON billing.closed_periods TO billing_reader, billing_operator")
