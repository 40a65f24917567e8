"""Several captures of one authorization, and what a capture may ask for beside its amount.

Why: the rest of a capture may be kept for another one; a fee, a transfer, texts and metadata are sent with it. Old rows
have none of it: no column has a value that must be computed, so no row is rewritten, and a constraint of a column that
is null everywhere is not valid until the next migration has read the table. An older application makes plain requests,
as before, and gets AuthorizationTaken for a second capture. An older worker would carry such a request out wrongly
(release the rest, leave out the fee), so the fact of each is of version 2, which an older relay leaves unplanned, and
its work of version 2, which an older worker does not claim. The erasure of a customer's texts includes these texts.
How long it may lock: `captures` for a moment, and the catalog; after 2 s of waiting for the lock it gives up: run it
again then.
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

CONSTRAINTS = {
    "application_fee_minor_range": "application_fee_minor BETWEEN 1 AND amount_minor",
    "transfer_minor_range": "transfer_minor BETWEEN 1 AND amount_minor",
    "fee_or_transfer": "num_nonnulls(application_fee_minor, transfer_minor) <= 1",
    "callers_metadata_bounded": (
        "jsonb_typeof(callers_metadata) = 'object' AND length(callers_metadata::text) <= 16384"
    ),
}
NEW = (
    "capture_no, keeps_remainder, application_fee_minor, transfer_minor, statement_descriptor,"
    " statement_descriptor_suffix, callers_metadata"
)


def upgrade() -> None:
    constraints = ", ".join(
        f"ADD CONSTRAINT captures_{name} CHECK ({condition}) NOT VALID" for name, condition in CONSTRAINTS.items()
    )
    op.execute(
        f"""
        ALTER TABLE billing.captures
            ADD COLUMN keeps_remainder boolean NOT NULL DEFAULT false,
            ADD COLUMN application_fee_minor bigint,
            ADD COLUMN transfer_minor bigint,
            ADD COLUMN statement_descriptor varchar(22),
            ADD COLUMN statement_descriptor_suffix varchar(22),
            ADD COLUMN callers_metadata jsonb,
            ADD COLUMN warned_at timestamptz,
            {constraints}
        """
    )
    op.execute(f"GRANT INSERT ({NEW}) ON billing.captures TO billing_application, billing_operator")
    op.execute("GRANT UPDATE (warned_at) ON billing.captures TO billing_worker")
    shown = NEW.removeprefix("capture_no, ") + ", warned_at"
    for role in ("application", "worker", "reader", "operator"):
        op.execute(f"GRANT SELECT ({shown}) ON billing.captures TO billing_{role}")
    op.execute("GRANT INSERT (version) ON billing.facts TO billing_application, billing_operator")
    _change(
        "erase_texts",
        ("mine bigint[];", "with_texts text[]; mine bigint[];"),
        (
            "mine := ARRAY(",
            "with_texts := ARRAY(SELECT c.id FROM billing.captures AS c WHERE c.id = ANY (ids)"
            " AND num_nonnulls(c.statement_descriptor, c.statement_descriptor_suffix, c.callers_metadata) > 0);"
            " mine := ARRAY(",
        ),
        (
            "SELECT count(*) INTO bodies",
            "descriptions := descriptions + cardinality(with_texts); SELECT count(*) INTO bodies",
        ),
        (
            "GET DIAGNOSTICS descriptions = ROW_COUNT;",
            "GET DIAGNOSTICS descriptions = ROW_COUNT; descriptions := descriptions + cardinality(with_texts);"
            " UPDATE billing.captures AS c SET statement_descriptor = NULL, statement_descriptor_suffix = NULL,"
            " callers_metadata = NULL WHERE c.id = ANY (with_texts);",
        ),
        (
            "r.operation_id = ANY (ids) AND r.step = 'add_lines' AND r.body <> ''",
            "(r.operation_id = ANY (ids) AND r.step = 'add_lines'"
            " OR r.operation_id = ANY (with_texts) AND r.step = 'capture') AND r.body <> ''",
        ),
    )


def _change(function: str, *changes: tuple[str, str]) -> None:
    """Change parts of a function's text, wherever they stand in it; the rest stays as earlier migrations made it.
    CREATE OR REPLACE keeps who may call it."""
    connection = op.get_bind()
    found = "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p WHERE p.oid = CAST(CAST(%s AS regproc) AS oid)"
    text = connection.exec_driver_sql(found, (f"billing.{function}",)).scalar_one()
    for before, after in changes:
        if before not in text:
            raise RuntimeError(f"billing.{function} is not as earlier migrations made it: {before!r} is missing")
        text = text.replace(before, after)
    # Doubled, because the driver takes a single % for the begin of a parameter.
    connection.exec_driver_sql(text.replace("%", "%%"))
