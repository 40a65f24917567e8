"""What waits for the archive is found by class, and what is set aside is found at all.

Why: the archiver looked for the oldest facts of all classes together. Where one class stood still, it read past all
that waited there, again and again. A fact that cannot be archived is marked with batch 0, and has to be named. How long
it may lock: both indexes are built CONCURRENTLY, so facts are written meanwhile; each waits for transactions that began
before it, and gives up after 2 s of that. Run it again then: what was left half built is dropped first. The old index
goes last. An archiver of the version before loses nothing without it, but finds facts slowly: replace it soon.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CLASS = (
    "(CASE WHEN split_part(topic, '.', 2) IN ('attempted', 'attempt_lapsed', 'looked', 'late_answer') THEN 'attempt'"
    " WHEN entity_type IN ('capture', 'invoice') THEN entity_type ELSE 'admin' END)"
)
INDEXES: dict[str, tuple[list[str | sa.TextClause], str]] = {
    "facts_unarchived_by_class": ([sa.text(CLASS), "id"], "batch_no IS NULL AND menu IS NOT NULL"),
    "facts_unarchivable": (["id"], "batch_no = 0"),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (columns, where) in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS billing.{name}")
            op.create_index(
                name,
                "facts",
                columns,
                schema="billing",
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS billing.facts_unarchived")
