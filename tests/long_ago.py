"""Operations that ended long ago and are archived, made in a moment: no test waits for 90 days."""

from service import Service

from billing.operations import OPERATIONS
from billing.tables.entities import Requested
from billing.tables.facts import RETENTION_CLASS

_AGED = {
    "billing.work": ("created_at", "state_since"),
    "billing.idempotency_records": ("created_at", "concluded_at"),
}


def make_older(service: Service, days: int = 91) -> None:
    """Let all work, and all that is concluded, be so much older."""
    for table, columns in _AGED.items():
        earlier = ", ".join(f"{column} = {column} - make_interval(days => :days)" for column in columns)
        service.execute(f"UPDATE {table} SET {earlier}", days=days)


def happened_long_ago(service: Service, days: int = 120) -> None:
    """Let everything that was told and asked be so much older; before it is archived, for what is archived stays."""
    service.execute("UPDATE billing.facts SET happened_at = happened_at - make_interval(days => :days)", days=days)
    for table in (operation.table for operation in OPERATIONS.values()):
        columns = ("state_since", "requested_at") if issubclass(table, Requested) else ("state_since",)
        earlier = ", ".join(f"{column} = {column} - make_interval(days => :days)" for column in columns)
        service.execute(f"UPDATE billing.{table.__tablename__} SET {earlier}", days=days)
    make_older(service, days)


def archived_without_a_bucket(service: Service) -> None:
    """Mark all facts as an archiver does once it has read them back; nothing may be archived yet."""
    service.relay.round()
    service.execute("UPDATE billing.facts SET planned_version = 1 WHERE planned_version IS NULL")
    service.execute(
        f"UPDATE billing.facts AS f SET batch_no = 1, archive_seq = n.place FROM (SELECT id, row_number() OVER"
        f" (PARTITION BY {RETENTION_CLASS} ORDER BY id) AS place FROM billing.facts) AS n WHERE n.id = f.id"
    )
    service.execute(
        "INSERT INTO billing.archive_batches (class, number, event_date, rows, first_seq, last_seq, first_fact,"
        " last_fact, lock_mode, locked_until, manifest_lock_mode, manifest_locked_until, state, object_sha256,"
        " object_version, manifest_sha256, archived_at)"
        f" SELECT {RETENTION_CLASS}, 1, current_date, count(*), 1, count(*), min(id), max(id), 'GOVERNANCE', now(),"
        " 'GOVERNANCE', now(), 'archived', 'a', 'b', 'c', now() FROM billing.facts GROUP BY 1"
    )
