"""How a pass of reconciliation reads the archive: its verified copies, asked like any other question.

Not in `reconciling`, so that a process without an archive does not load what S3 and Parquet need.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from archive.copies.cache import Cache
from archive.errors import ArchiveError, TooLarge
from archive.queries import ask_sql
from archive.s3.store import Store
from jobs.config.secrets import SecretError
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError
from jobs.process import archiving, buckets
from jobs.reconciliation.archived import ArchiveNotRead, Told

CLASS = "capture"
"""The retention class of the facts about captures and refunds."""


@contextmanager
def opened(settings: Settings) -> Iterator["ReadArchive"]:
    """The archive of these settings; no request is sent yet. Raises SettingsError and SecretError."""
    with buckets.opened(settings) as store:
        yield ReadArchive(store, archiving.cache(settings, store), settings.environment)


class ReadArchive:
    """An `Archive` (`jobs.reconciliation.archived`)."""

    def __init__(self, store: Store, cache: Cache, environment: str) -> None:
        self._store, self._cache, self._environment = store, cache, environment
        self._checked = False

    def within(self, topics: Sequence[str], since: datetime, until: datetime) -> list[Told]:
        return self._told(topics, {"since": since.isoformat(), "until": until.isoformat()})

    def of(self, topics: Sequence[str], operations: Sequence[str], since: datetime) -> list[Told]:
        return self._told(topics, {"since": since.isoformat()}, f" AND entity_id IN ({_listed(operations)})")

    def _told(self, topics: Sequence[str], given: dict[str, str], further: str = "") -> list[Told]:
        sql = (
            "SELECT entity_id, topic, minor, currency, happened_at FROM facts"  # noqa: S608 - of ids of ours
            f" WHERE topic IN ({_listed(topics)}){further}"
        )
        try:
            if not self._checked:
                self._store.check(self._environment)
                self._checked = True
            answer = ask_sql(self._cache, sql, given, classes=(CLASS,))
        except TooLarge as error:
            raise ArchiveNotRead(str(error), too_much=True) from None
        except (ArchiveError, SecretError, SettingsError) as error:
            raise ArchiveNotRead(str(error)) from None
        rows = answer.table.to_pylist()
        return [
            Told(row["entity_id"], row["topic"], row["minor"], row["currency"], row["happened_at"].astimezone(UTC))
            for row in rows
        ]


def _listed(names: Sequence[str]) -> str:
    """As literals of SQL. Topics and ids of ours are letters, digits, dots and `_`; nothing else is asked for."""
    return ", ".join(f"'{name}'" for name in names if name.replace("_", "").replace(".", "").isalnum())
