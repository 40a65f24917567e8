"""Which objects certainly do not hold an id, by the bloom filters that lie in the objects.

A filter is taken out of a copy when that is hashed, and kept on the shelf. So a lookup of one id opens the few objects
that may hold it, and not each of a hundred thousand. An object of an older version has no filter, and is always read.

They have Parquet's form: blocks of 32 bytes, and XXH64 with seed 0. Eight bits of one block stand for a value.
Source: github.com/apache/parquet-format, BloomFilter.md; xxhash.com, doc/xxhash_spec.md.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from archive.format import records

BLOCK = 32
_32, _64 = (1 << 32) - 1, (1 << 64) - 1
_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


@dataclass(frozen=True, slots=True)
class Sought:
    """Only objects are wanted that may hold one of these values in this column, one of `records.LOOKED_UP`."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bits of one value are. Of a filter with N blocks, block number `block * N >> 32` has them."""

    block: int
    bits: int

    @classmethod
    def of(cls, value: str) -> "Place":
        hashed = xxh64(value.encode())
        bits = sum(1 << (32 * n + ((hashed * salt & _32) >> 27)) for n, salt in enumerate(_SALTS))
        return cls(hashed >> 32, bits)

    def may_be_in(self, block: bytes) -> bool:
        return int.from_bytes(block, "little") & self.bits == self.bits


def of(file: BinaryIO) -> dict[str, bytes]:
    """The filters of this object, by column: their blocks. None of an object with more than one group of rows."""
    found = {}
    try:
        parts = pq.read_metadata(file)
        if parts.num_row_groups == 1:
            part = parts.row_group(0)
            for column in map(part.column, range(part.num_columns)):
                name, length = column.path_in_schema, column.bloom_filter_length
                if name in records.LOOKED_UP and length:
                    file.seek(column.bloom_filter_offset)
                    # A header of less than 32 bytes stands before the blocks.
                    found[name] = file.read(length)[length % BLOCK :]
    except (pa.ArrowException, OSError):
        return {}
    return found


def xxh64(data: bytes) -> int:
    """The hash of Parquet's filters."""
    end = len(data) & ~31
    if end:
        lanes = [(_P1 + _P2) & _64, _P2, 0, -_P1 & _64]
        for words in struct.iter_unpack("<4Q", data[:end]):
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
        hashed = sum(_turned(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _64
        for lane in lanes:
            hashed = ((hashed ^ _round(0, lane)) * _P1 + _P4) & _64
    else:
        hashed = _P5
    hashed = (hashed + len(data)) & _64
    rest = data[end:]
    eights = len(rest) & ~7
    for (word,) in struct.iter_unpack("<Q", rest[:eights]):
        hashed = (_turned(hashed ^ _round(0, word), 27) * _P1 + _P4) & _64
    rest = rest[eights:]
    if len(rest) >= 4:
        hashed = (_turned(hashed ^ int.from_bytes(rest[:4], "little") * _P1 & _64, 23) * _P2 + _P3) & _64
        rest = rest[4:]
    for byte in rest:
        hashed = _turned(hashed ^ byte * _P5 & _64, 11) * _P1 & _64
    hashed = (hashed ^ hashed >> 33) * _P2 & _64
    hashed = (hashed ^ hashed >> 29) * _P3 & _64
    return hashed ^ hashed >> 32


def _round(lane: int, word: int) -> int:
    return _turned((lane + word * _P2) & _64, 31) * _P1 & _64


def _turned(word: int, by: int) -> int:
    return (word << by | word >> 64 - by) & _64
