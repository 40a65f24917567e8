"""Facts about voids and refunds are archived in the class of captures, for as long as the capture they belong to.

Why: a refund without its capture, or a capture without its refund, is no evidence, and a lock cannot be made for a part
of an object. No fact of the two exists yet: no released version writes one. So old rows stay where they are. The index
that finds what waits by class is built anew, CONCURRENTLY, so facts are written meanwhile; it waits for transactions
that began before it, and gives up after 2 s of that. Run it again then: what was left half built is dropped first.
Functions that repeat the class change in the catalog, for a moment. An archiver of an older version loses nothing
without the old index, but finds facts slowly, and it would archive facts of the two as `admin`: replace all archivers
before the first application that asks for a void or a refund.
"""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

CLASS = (
    "(CASE WHEN split_part(topic, '.', 2) IN ('attempted', 'attempt_lapsed', 'looked', 'late_answer') THEN 'attempt'"
    " WHEN entity_type IN ('capture', 'void', 'refund') THEN 'capture'"
    " WHEN entity_type = 'invoice' THEN 'invoice' ELSE 'admin' END)"
)
CHANGES = {
    "remove_concluded": (
        (
            "WHEN entity_type = ANY (ARRAY['capture', 'invoice']) THEN entity_type\n",
            "WHEN entity_type = ANY (ARRAY['capture', 'void', 'refund']) THEN 'capture'\n"
            "    WHEN entity_type = 'invoice' THEN 'invoice'\n",
        ),
    ),
    "purge_facts": tuple(
        (
            f"WHEN {name}.entity_type = ANY (ARRAY['capture', 'invoice'])\n    THEN {name}.entity_type\n",
            f"WHEN {name}.entity_type = ANY (ARRAY['capture', 'void', 'refund'])\n    THEN 'capture'\n"
            f"    WHEN {name}.entity_type = 'invoice'\n    THEN 'invoice'\n",
        )
        for name in "fo"
    ),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived_by_new_class")
        op.create_index(
            "facts_unarchived_by_new_class",
            "facts",
            [sa.text(CLASS), "id"],
            schema="billing",
            postgresql_where=sa.text("batch_no IS NULL AND planned_version IS NOT NULL"),
            postgresql_concurrently=True,
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived_by_class")
        op.execute("ALTER INDEX billing.facts_unarchived_by_new_class RENAME TO facts_unarchived_by_class")
    # Last, because what comes before is committed at once, and is done again if a later part fails.
    for name, changes in CHANGES.items():
        _change(name, changes)


def _change(function: str, changes: tuple[tuple[str, str], ...]) -> None:
    """Replace parts of a function, whatever other migrations changed in it. Its rights and its owner stay."""
    found = sa.text("SELECT pg_get_functiondef(to_regproc(:name))")
    source = op.get_bind().execute(found, {"name": f"billing.{function}"}).scalar_one()
    for before, after in changes:
        if source.count(before) != 1:
            raise ValueError(f"billing.{function} is not as the migrations before this one have made it")
        source = source.replace(before, after)
    op.execute(source)
