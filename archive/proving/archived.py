"""The export of the archive: every fact that tells of an effect, from copies that were checked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa

from archive.copies.cache import Cache
from archive.proving.exports import Line
from archive.proving.kinds import KINDS, asked_at
from archive.queries.asking import facts_chosen
from archive.queries.views import quoted

_COLUMNS = ("entity_type", "entity_id", "minor", "currency")


@contextmanager
def opened(cache: Cache, since: datetime) -> Iterator[tuple[dict[str, int], Iterator[Line]]]:
    """The newest manifest of each class that was checked, and a line for each fact that tells of an effect since then.

    Raises what `Cache.reading` raises, BadQuery and TooLarge, also while the lines are read.
    """
    topics = ", ".join(quoted(kind.topic) for kind in KINDS)
    sql = f"SELECT retention_class, archive_seq FROM facts WHERE topic IN ({topics})"  # noqa: S608 - names of ours
    classes = sorted({kind.retention_class for kind in KINDS})
    with facts_chosen(cache, sql, {"since": since.isoformat()}, classes=classes) as facts:
        yield {read.retention_class: read.last for read in facts.evidence}, _lines(facts.rows)


def _lines(batches: Iterator[pa.RecordBatch]) -> Iterator[Line]:
    for batch in batches:
        columns: Sequence[list[object]] = [batch.column(name).to_pylist() for name in _COLUMNS]
        for kind, entity, minor, currency in zip(*columns, strict=True):
            yield {"kind": kind, "id": entity, "minor": minor, "currency": currency, "asked": asked_at(entity)}
