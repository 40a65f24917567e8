"""The export of the archive: every fact that tells of an effect, or on which invoice a capture is, from copies that
were checked.

One object after the other is read, because a busy month has tens of thousands, and the engine remembers something of
each that it has open.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from archive.copies.cache import Cache, Evidence
from archive.format import records
from archive.proving import invoiced
from archive.proving.exports import Line
from archive.proving.kinds import KINDS, asked_at

_COLUMNS = ("entity_type", "entity_id", "minor", "currency")
_OF_A_PLACE = ("entity_id", "minor", "currency", "payload")
_TOPICS = pa.array([kind.topic for kind in KINDS])


@contextmanager
def opened(cache: Cache, since: datetime) -> Iterator[tuple[dict[str, int], Iterator[Line]]]:
    """The newest manifest of each class that was checked, and a line for each of those facts since then.

    Raises what `Cache.reading` raises, also while the lines are read.
    """
    classes = sorted({kind.retention_class for kind in KINDS})
    with cache.reading(classes, since=since.astimezone(UTC).date()) as copies:
        yield {read.retention_class: read.last for read in copies.evidence}, _lines(copies.evidence, since)


def _lines(evidence: Sequence[Evidence], since: datetime) -> Iterator[Line]:
    for part in evidence:
        for _manifest, path in part.copies():
            rows = records.read(path.read_bytes())
            rows = rows.filter(pc.greater_equal(rows["happened_at"], since))
            columns = rows.filter(pc.is_in(rows["topic"], value_set=_TOPICS)).select(_COLUMNS).to_pydict()
            for kind, entity, minor, currency in zip(*columns.values(), strict=True):
                yield {"kind": kind, "id": entity, "minor": minor, "currency": currency, "asked": asked_at(entity)}
            yield from invoiced.told(_invoiced(rows))


def _invoiced(rows: pa.Table) -> Iterator[tuple[str, int | None, str | None, Mapping[str, Any]]]:
    columns = rows.filter(pc.equal(rows["topic"], invoiced.TOPIC)).select(_OF_A_PLACE).to_pydict()
    for capture, minor, currency, payload in zip(*columns.values(), strict=True):
        yield capture, minor, currency, json.loads(payload)
