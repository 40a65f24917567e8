"""The filters that lie in the objects: a lookup passes over what does not hold an id, and never over what does."""

import io
import random

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive.copies import filters
from archive.copies.filters import BLOCK, Place, xxh64
from archive.format import records


@pytest.mark.parametrize(
    ("text", "hashed"), [("", 0xEF46DB3751D8E999), ("a", 0xD24EC4F1A98C6E5B), ("abc", 0x44BC2CF5AD770999)]
)
def test_the_hash_is_that_of_its_specification(text: str, hashed: int) -> None:
    """Source: the examples of xxhash.com."""
    assert xxh64(text.encode()) == hashed


@pytest.mark.parametrize("count", [1, 40, 3_000])
def test_a_filter_says_what_the_engine_reads_from_it(count: int, tmp_path) -> None:
    chance = random.Random(count)
    ids = [f"pi_{'é' * (n % 2)}{'x' * chance.randrange(80)}{n}" for n in range(2 * count)]
    path = tmp_path / "object.parquet"
    options = {"payment_intent": {"ndv": count, "fpp": 0.01}}
    pq.write_table(pa.table({"payment_intent": ids[:count]}), path, bloom_filter_options=options)
    with path.open("rb") as file:
        blocks = filters.of(file)["payment_intent"]

    def may_hold(value: str) -> bool:
        place = Place.of(value)
        at = BLOCK * (place.block * (len(blocks) // BLOCK) >> 32)
        return place.may_be_in(blocks[at : at + BLOCK])

    assert all(map(may_hold, ids[:count]))
    with duckdb.connect() as engine:
        probe = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{path}', 'payment_intent', $value)"
        for value in chance.sample(ids[count:], min(count, 50)):
            ((excluded,),) = engine.execute(probe, {"value": value}).fetchall()
            assert excluded is not may_hold(value)


def test_an_object_without_filters_has_none() -> None:
    sink = io.BytesIO()
    pq.write_table(records.SCHEMA.empty_table(), sink)
    assert filters.of(sink) == filters.of(io.BytesIO(b"no Parquet")) == {}


def test_an_object_of_several_groups_of_rows_is_always_read() -> None:
    """A filter is of one group."""
    sink = io.BytesIO()
    rows = pa.table({"entity_id": ["cap_1", "cap_2"]})
    pq.write_table(rows, sink, row_group_size=1, bloom_filter_options={"entity_id": {"ndv": 1, "fpp": 0.01}})
    assert filters.of(sink) == {}
