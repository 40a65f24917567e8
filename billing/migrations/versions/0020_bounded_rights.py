"""A worker may add scopes to work and take none away; a relay may release a switch only when its time is over.

Why: 0017 and 0018 gave both a column to change, and a grant on a column does not say to what. A worker that was taken
over could have taken work out of a switch's scope, and a relay could have released any switch. Old rows need nothing. A
running older version does neither. How long it may lock: only the catalog changes, for a moment.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# The owner, and whoever acts for it, repairs rows by hand.
_NOT_THE_OWNER = "NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')"


def upgrade() -> None:
    op.execute(f"""
        CREATE FUNCTION billing.keep_scopes() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT NEW.scopes @> OLD.scopes AND {_NOT_THE_OWNER} THEN
                RAISE insufficient_privilege USING MESSAGE = 'work stays in all its scopes';
            END IF;
            RETURN NEW;
        END $$""")
    # Only for statements that set `scopes`: no other update of work pays for it.
    op.execute(
        "CREATE TRIGGER work_keeps_scopes BEFORE UPDATE OF scopes ON billing.work"
        " FOR EACH ROW EXECUTE FUNCTION billing.keep_scopes()"
    )
    op.execute(f"""
        CREATE FUNCTION billing.release_switches() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT coalesce(OLD.expires_at <= clock_timestamp(), false) AND {_NOT_THE_OWNER}
               AND NOT pg_has_role(current_user, 'billing_worker', 'USAGE')
               AND NOT pg_has_role(current_user, 'billing_operator', 'USAGE') THEN
                RAISE insufficient_privilege USING MESSAGE = 'a relay releases no switch before its time';
            END IF;
            RETURN NEW;
        END $$""")
    op.execute(
        "CREATE TRIGGER switches_released BEFORE UPDATE OF state ON billing.switches FOR EACH ROW"
        " WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION billing.release_switches()"
    )
