"""The facts of one class and month as one Parquet file, sorted so that an engine reads little of it.

The life of one capture or invoice lies together, and lives follow each other in time, because our ids do. So whoever
looks for an id, or for a day, reads few row groups. Bloom filters lead from a payment intent to its row group.

It is sorted on disk: each object is read once, and its facts go to files for ranges of ids; then one range after the
other is sorted in memory. How the facts come does not matter, and memory holds one range.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from archive.compacting.index import Source
from archive.copies.files import room
from archive.errors import EvidenceDiffers
from archive.format import records

COLUMNS = pa.schema([*records.SCHEMA, pa.field("event_date", pa.date32(), nullable=False)], records.SCHEMA.metadata)
"""Those of the archive, and the UTC day, which is part of the key there. Facts of older versions have all, too."""
ORDER = ("entity_id", "entity_version", "archive_seq")
FOUND_BY = ("payment_intent", "correlation_id")
"""Columns with a bloom filter. The first column of the order needs none."""
GROUP_ROWS = 128 * 1024
"""Measured: smaller groups need more requests, larger ones more bytes."""
RANGE_ROWS, MOST_RANGES = 25_000, 400
"""A range has about so many facts; or more, because a process may have 1,024 files open."""
_SAMPLED = 20_000


def write(files: Sequence[Path], facts: int, path: Path, scratch: Path) -> None:
    """Write the file, from objects with so many facts. One version of pyarrow writes the same bytes for the same ones.

    Needs about half a kilobyte on disk for each fact, in `scratch`. Raises TooLarge.
    """
    # An operation has two facts of its class or more.
    bloom = {"ndv": max(1, min(facts, GROUP_ROWS) // 2), "fpp": 0.01}
    order = pq.SortingColumn.from_ordering(COLUMNS, [(name, "ascending") for name in ORDER])
    with (
        room("a month cannot be sorted"),
        TemporaryDirectory(dir=scratch) as folder,
        pq.ParquetWriter(
            path,
            COLUMNS,
            **records.WRITING,
            bloom_filter_options=dict.fromkeys(FOUND_BY, bloom),
            sorting_columns=order,
        ) as writer,
    ):
        ranges = _split(files, _bounds(files, facts), Path(folder))
        for group in _groups(map(_sorted, ranges)):
            writer.write_table(group, row_group_size=GROUP_ROWS)
            # Else it stays in memory while the next one is put together.
            del group
            pa.default_memory_pool().release_unused()


def check(path: Path, source: Source, key: str) -> None:
    """Raises EvidenceDiffers unless the file holds as many facts, and as much captured money, as the manifests say."""
    facts, captured = 0, dict[str, int]()
    for batch in pq.ParquetFile(path).iter_batches(GROUP_ROWS, columns=["topic", "minor", "currency"]):
        facts += batch.num_rows
        for currency, minor in records.captured(pa.Table.from_batches([batch])).items():
            captured[currency] = captured.get(currency, 0) + minor
    if (facts, captured) != (source.facts, source.captured):
        raise EvidenceDiffers(
            key,
            f"the copy would hold {facts} facts and {captured} captured, and their manifests say {source.facts} and "
            f"{source.captured}; nothing was published",
        )


def _bounds(files: Sequence[Path], facts: int) -> list[str]:
    """Ids between which the ranges lie; from a sample, so ranges are about as large as they should be."""
    wanted = min(MOST_RANGES, facts // RANGE_ROWS + 1)
    if wanted == 1:
        return []
    step = facts // _SAMPLED + 1
    sample: list[str] = []
    for file in files:
        sample += sorted(pq.read_table(file, columns=["entity_id"], partitioning=None).column(0).to_pylist())[::step]
    sample.sort()
    return sorted({sample[len(sample) * number // wanted] for number in range(1, wanted)})


def _split(files: Sequence[Path], bounds: Sequence[str], folder: Path) -> list[Path]:
    """A file for each range, not compressed: a compressor would take half a megabyte for each."""
    ranges = [folder / str(number) for number in range(len(bounds) + 1)]
    with ExitStack() as till_the_end:
        writers = [till_the_end.enter_context(pa.ipc.new_stream(each, COLUMNS)) for each in ranges]
        for objects in _together(files):
            rows = _in_order(objects)
            ids = rows.column("entity_id").to_pylist()
            cuts = [0, *(bisect_left(ids, bound) for bound in bounds), len(ids)]
            for writer, begin, end in zip(writers, cuts, cuts[1:], strict=False):
                if begin < end:
                    writer.write_table(rows.slice(begin, end - begin))
    return ranges


def _together(files: Sequence[Path]) -> Iterator[pa.Table]:
    """The facts of some objects at a time: from many small pieces a range is put together slowly, in more memory."""
    waiting: list[pa.Table] = []
    for file in files:
        waiting.append(_rows(file))
        if file is files[-1] or sum(each.num_rows for each in waiting) >= RANGE_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []


def _rows(file: Path) -> pa.Table:
    rows = records.read(file.read_bytes())
    day = date.fromisoformat(file.parent.name.removeprefix("event_date="))
    return rows.append_column(COLUMNS.field("event_date"), pa.array([day] * rows.num_rows, pa.date32())).cast(COLUMNS)


def _sorted(path: Path) -> pa.Table:
    with pa.OSFile(os.fspath(path)) as file:
        rows = pa.ipc.open_stream(file).read_all()
    path.unlink()
    return _in_order(rows)


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in ORDER]).combine_chunks()


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same facts in tables of the size of a row group; the last may be smaller."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        rest = table
        while count + rest.num_rows >= GROUP_ROWS:
            taken = GROUP_ROWS - count
            yield pa.concat_tables([*waiting, rest.slice(0, taken)])
            rest, waiting, count = rest.slice(taken), [], 0
        if rest.num_rows:
            waiting.append(rest)
            count += rest.num_rows
    if waiting:
        yield pa.concat_tables(waiting)
