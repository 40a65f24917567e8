"""Everything that the system writes, by the place where it lies: read by other means than its own code."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import redis
from outside import Outside

Written = dict[str, bytes]
"""What is written, by a name that says where."""


def postgres(url: str) -> Written:
    """Every row of every table by column, detoasted, as text; bytes as they are. All schemas but Postgres' own."""
    found: Written = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            rows = connection.execute(f'SELECT * FROM "{schema}"."{table}"')  # type: ignore[arg-type]
            names = [column.name for column in rows.description or ()]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    told = value if isinstance(value, bytes) else repr(value).encode()
                    found[f"{table}.{name}"] = found.get(f"{table}.{name}", b"") + told + b"\n"
    return found


def in_redis(url: str) -> Written:
    """Every key of every database, whatever its kind, as it lies there and unpacked."""
    found: Written = {}
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            told = client.dump(key) or b""
            match client.type(key):
                case b"string":
                    told += client.get(key) or b""
                case b"list":
                    told += b"\n".join(client.lrange(key, 0, -1))
                case b"set":
                    told += b"\n".join(client.smembers(key))
                case b"zset":
                    told += b"\n".join(client.zrange(key, 0, -1))
                case b"hash":
                    told += b"\n".join(name + b"=" + value for name, value in client.hgetall(key).items())
                case b"stream":
                    told += repr(client.xrange(key)).encode()
            found[f"redis {key.decode(errors='replace')}"] = key + b"\n" + told
    return found


def in_s3(outside: Outside) -> Written:
    """Every object's key and bytes, and a Parquet file's rows and metadata, which are compressed in it."""
    found: Written = {}
    for key, body in outside.bodies().items():
        found[f"s3 {key}"] = key.encode() + b"\n" + body + _parquet(body)
    return found


def files(directory: Path) -> Written:
    """Every file below, its name too; Parquet decoded. Postgres and the processes go on, and remove some of theirs."""
    found: Written = {}
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if not path.is_file() or path.is_symlink():
                continue
            body = path.read_bytes()
            found[f"file {path.relative_to(directory)}"] = str(path).encode() + b"\n" + body + _parquet(body)
    return found


def processes(pids: Iterator[int] | list[int]) -> Written:
    """Their arguments, which every user of the machine can read."""
    return {f"arguments {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}


def texts(written: Written) -> Iterator[tuple[str, str]]:
    """What of it is text, for a search that would find anything in bytes that are none."""
    for place, body in written.items():
        if not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", body):
            yield place, body.decode(errors="replace")


def _parquet(body: bytes) -> bytes:
    if not body.startswith(b"PAR1"):
        return b""
    table: Any = pq.read_table(io.BytesIO(body))
    return repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
