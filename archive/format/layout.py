"""Where the objects of the archive lie in the bucket. Whoever only names them loads nothing that reads them."""

from datetime import date
from typing import Protocol

DOCUMENTS = "documents/"
"""Where the documents of invoices lie, each an object of its own (`archive.documents`)."""
VERSION = 1
"""Of the rows of an object (`archive.format.records`)."""


class Numbered(Protocol):
    """A batch, as Postgres or its manifest knows it."""

    @property
    def retention_class(self) -> str: ...
    @property
    def event_date(self) -> date | str: ...
    @property
    def number(self) -> int: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...


def object_key(batch: Numbered) -> str:
    """Hive's layout, so that Athena, Trino, Spark and DuckDB see class and day without opening a file."""
    return (
        f"v{VERSION}/class={batch.retention_class}/event_date={batch.event_date}/"
        f"b{batch.number:012d}-{batch.first_seq:012d}-{batch.last_seq:012d}.parquet"
    )
