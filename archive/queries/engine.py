"""DuckDB, locked up: it reads the verified files it is given and nothing else, and it has little memory and time.

The order matters. First the views are made; then every access but to those files is switched off, and the settings are
locked; only then SQL is run that somebody else wrote. One SELECT is run, and nothing that is another statement.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from archive.copies.cache import Evidence
from archive.errors import BadQuery, TooLarge
from archive.queries import columns, views
from archive.queries.columns import Column, Table
from archive.queries.views import EVERYTHING, Range, quoted

MEMORY_MB = 160
"""Of the engine. With Python, Arrow and the answer the process stays below 300 MB (docs/benchmarks.md)."""
SPILLED_MB = 4_000
"""What does not fit into its memory is written into a private directory, up to this."""
MOST_ROWS = 200_000
MOST_BYTES = 64_000_000
"""Of an answer, which is held in memory."""
_BATCH_ROWS = 10_000
_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds`: after so long a query is stopped."""

    seconds: float = 60.0


USUAL = Limits()


def run(
    sql: str,
    values: Mapping[str, Any],
    evidence: Sequence[Evidence],
    *,
    scratch: Path,
    zone: str,
    limits: Limits,
    declared: Sequence[Column] | None = None,
    within: Range = EVERYTHING,
) -> tuple[tuple[Column, ...], Table]:
    """Run one SELECT over these facts. `declared`: the columns that it must return; None takes what it returns.

    Raises BadQuery if the SQL is wrong, and TooLarge if it needs more time, memory or rows than it may have.
    """
    template, files = views.template(scratch), [str(path) for part in evidence for path in part.files]
    with _reworded(limits):
        try:
            with _opened([template, *files], evidence, scratch, zone, views.facts(template, files, within)) as engine:
                return _answer(engine, sql, values, zone, limits, declared)
        except duckdb.InvalidInputException as error:
            if "schema mismatch" not in str(error):
                raise
        # A column is asked for that an object lacks, because an older version wrote it. To look which objects these are
        # takes a while, so that is done only now.
        newer, older = views.by_version(files)
        view = views.facts(template, newer, within, older=older)
        with _opened([template, *files], evidence, scratch, zone, view) as engine:
            return _answer(engine, sql, values, zone, limits, declared)


def facts_chosen(
    sql: str, evidence: Sequence[Evidence], *, scratch: Path, zone: str, within: Range = EVERYTHING
) -> Iterator[pa.RecordBatch]:
    """The rows of the view `facts` that one SELECT chooses: it returns the columns `retention_class` and `archive_seq`.

    No limit of an answer holds: what is chosen is a byte for each fact of the archive, and then one object after the
    other is read. Raises BadQuery and TooLarge, also while they are read.
    """
    template, files = views.template(scratch), [str(path) for part in evidence for path in part.files]
    # A SELECT may ask for every column, so it is known before which objects lack one.
    newer, older = views.by_version(files)
    view = views.facts(template, newer, within, older=older)
    with _reworded(USUAL), _opened([template, *files], evidence, scratch, zone, view) as engine:
        marks = _marked(engine, sql, evidence)
        for part in evidence:
            chosen = marks[part.retention_class]
            for manifest, path in part.copies():
                if any(chosen[manifest.first_seq : manifest.last_seq + 1]):
                    rows = engine.sql(views.of_object(template, str(path))).to_arrow_reader(_BATCH_ROWS)
                    for batch in _as_they_come(rows):
                        of_batch = batch.column("archive_seq").to_pylist()
                        yield batch.filter(pa.array([bool(chosen[seq]) for seq in of_batch], pa.bool_()))


def _marked(engine: duckdb.DuckDBPyConnection, sql: str, evidence: Sequence[Evidence]) -> dict[str, bytearray]:
    """By class, 1 at the number of each fact that the SELECT chooses. A number that no fact has is none."""
    statement = _only_select(engine, sql)
    if unknown := sorted(statement.named_parameters):
        raise BadQuery(f"${unknown[0]} is no parameter here; there are none")
    chosen = engine.sql(statement.query)
    if missing := [name for name in ("retention_class", "archive_seq") if name not in chosen.columns]:
        raise BadQuery(f"it returns no column {missing[0]}; a fact is chosen by retention_class and archive_seq")
    marks = {
        part.retention_class: bytearray(1 + max((each.last_seq for each in part.manifests), default=0))
        for part in evidence
    }
    pairs = chosen.project("CAST(retention_class AS VARCHAR) AS of_class, CAST(archive_seq AS BIGINT) AS seq")
    for batch in _as_they_come(pairs.to_arrow_reader(_BATCH_ROWS)):
        for of_class, seq in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            its = marks.get(of_class)
            if its is not None and seq is not None and 0 < seq < len(its):
                its[seq] = 1
    return marks


def _as_they_come(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches. What the engine raises while they are read comes through Arrow as an error of Arrow's."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            if "Out of Memory" in str(error):
                raise duckdb.OutOfMemoryException(str(error)) from None
            raise duckdb.InvalidInputException(str(error)) from None
        yield batch


def _answer(
    engine: duckdb.DuckDBPyConnection,
    sql: str,
    values: Mapping[str, Any],
    zone: str,
    limits: Limits,
    declared: Sequence[Column] | None,
) -> tuple[tuple[Column, ...], Table]:
    statement = _only_select(engine, sql)
    if unknown := sorted(statement.named_parameters - values.keys()):
        raise BadQuery(f"${unknown[0]} is no parameter here; there are: {', '.join(sorted(values)) or 'none'}")
    used = {name: values[name] for name in statement.named_parameters}
    with _stopped_after(limits.seconds, engine):
        reader = engine.sql(statement.query, params=used).to_arrow_reader(_BATCH_ROWS)
        wanted = tuple(declared) if declared is not None else columns.found(reader.schema)
        table = pa.Table.from_batches(_few(reader), schema=reader.schema)
        return wanted, columns.held_to(wanted, zone, table)


@contextmanager
def _stopped_after(seconds: float, engine: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Whatever the engine does in here longer than that is interrupted. Again and again: it forgets an interruption
    that comes before it has begun, while it still reads what the files hold."""
    over = threading.Event()

    def stop() -> None:
        pause_s = seconds
        while not over.wait(pause_s):
            engine.interrupt()
            pause_s = _AGAIN_S

    stopping = threading.Thread(target=stop, name="time-limit", daemon=True)
    stopping.start()
    try:
        yield
    finally:
        over.set()
        stopping.join()


@contextmanager
def _opened(
    files: Sequence[str], evidence: Sequence[Evidence], scratch: Path, zone: str, view: str
) -> Iterator[duckdb.DuckDBPyConnection]:
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(scratch),
        "max_temp_directory_size": f"{SPILLED_MB}MB",
        "memory_limit": f"{MEMORY_MB}MB",
        "threads": 2,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_persistent_secrets": "false",
    }
    with duckdb.connect(":memory:", config=config) as engine:
        try:
            engine.execute(f"SET TimeZone = {quoted(zone)}")
        except duckdb.Error:
            raise BadQuery(f"--tz {zone!r} is a time zone that the engine does not know") from None
        engine.register("batches", views.batches(evidence))
        engine.execute(view)
        # These may be read, also from now on.
        engine.execute(f"SET allowed_paths = [{', '.join(map(quoted, files))}]")
        engine.execute("SET enable_external_access = false")
        engine.execute("SET lock_configuration = true")
        yield engine


def _only_select(engine: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    statements = engine.extract_statements(sql)
    if len(statements) != 1:
        raise BadQuery(f"it holds {len(statements)} statements; write one SELECT")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise BadQuery(f"{statements[0].type.name} is not allowed; write one SELECT")
    return statements[0]


def _few(reader: pa.RecordBatchReader) -> list[pa.RecordBatch]:
    """Raises TooLarge as soon as there are too many: the rest is not computed."""
    taken, rows, size = [], 0, 0
    for batch in _as_they_come(reader):
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows > MOST_ROWS or size > MOST_BYTES:
            raise TooLarge(
                f"the answer has more than {MOST_ROWS} rows or {MOST_BYTES // 1_000_000} MB; sum up in SQL, or ask for "
                "less time with --since and --until"
            )
        taken.append(batch)
    return taken


@contextmanager
def _reworded(limits: Limits) -> Iterator[None]:
    """The engine's errors as ours, in one line. Its advice names settings that are locked."""
    try:
        yield
    except duckdb.InterruptException:
        raise TooLarge(
            f"it took longer than {limits.seconds:g} s and was stopped; ask for less time with --since and --until, or "
            "raise --time-limit"
        ) from None
    except duckdb.OutOfMemoryException:
        raise TooLarge(
            f"it needs more than {MEMORY_MB} MB of memory and {SPILLED_MB} MB of disk; ask for less time with --since "
            "and --until, or sum up earlier in the SQL"
        ) from None
    except duckdb.PermissionException:
        raise BadQuery("it may read the views facts and batches, and no file, address or setting") from None
    except duckdb.Error as error:
        raise BadQuery(_first_line(str(error))) from None


def _first_line(message: str) -> str:
    """Without the picture of the SQL that follows."""
    return " ".join(message.partition("\n\nLINE ")[0].split())
