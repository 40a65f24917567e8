"""Reads the rows from before, and has Postgres know that the constraints of 0007 hold for them, too.

Why: what is not valid says nothing about old rows. How long it may lock: VALIDATE reads the whole table, and nobody who
reads or writes rows waits for it. A constraint that some old row does not hold stays NOT VALID with a warning, and the
migration goes on: the row is a person's to put right, and is set aside with its reason when a worker meets it.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

VALIDATE = """
    DO $$ DECLARE new record; BEGIN
        FOR new IN SELECT conrelid::regclass AS table_name, conname AS name FROM pg_constraint
                    WHERE connamespace = 'billing'::regnamespace AND contype = 'c' AND NOT convalidated
                      AND conname LIKE ANY (ARRAY['%\\_shape', '%\\_range', '%\\_real'])
        LOOP
            BEGIN
                EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', new.table_name, new.name);
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'rows of % from before do not hold %', new.table_name, new.name;
            END;
        END LOOP;
    END $$
    """


def upgrade() -> None:
    # In a transaction of its own: the locks end with it.
    with op.get_context().autocommit_block():
        op.execute(VALIDATE)
