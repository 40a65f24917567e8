"""A proof: three exports are compared, and every rule that is broken is named with what breaks it.

    every request has at most one effect at Stripe; every effect of ours has one request; the archive tells of each
    effect once; an invoice of captures asks nobody for money again; and amounts, currencies, accounts and totals agree

It reads three files and nothing else: no network, no Postgres, no settings. So somebody else can repeat it. The rules
are SQL, in proof.sql; DuckDB runs them in bounded memory.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from archive.errors import BadExport
from archive.proving.exports import ARCHIVE, EXPORTS, OURS, STRIPE, Header, read
from archive.proving.kinds import KINDS
from billing import statements

YOUNG = timedelta(seconds=5)
"""What is done here was done at Stripe before. But "before Stripe was read" is told by two clocks, which may differ."""
CLOCKS_S = 300
"""An id is made by the clock of the application, and the time of its request by that of Postgres."""
MEMORY_MB = 400
SHOWN = 1000
"""So many of what breaks one rule are kept; all are counted."""

PLACES, TOLD = "places", "told"
"""The tables with the places of captures on invoices: by ours, and by the archive."""
_COLUMNS = {
    OURS: "kind TEXT, id TEXT, account TEXT, object TEXT, part BIGINT, minor BIGINT, currency TEXT, state TEXT, "
    "says TEXT, ended TIMESTAMPTZ, batch BIGINT",
    STRIPE: "kind TEXT, account TEXT, object TEXT, of TEXT, minor BIGINT, currency TEXT, livemode BOOLEAN, state TEXT, "
    "operation TEXT, asked DOUBLE, asks BIGINT, off_stripe BIGINT",
    ARCHIVE: "kind TEXT, id TEXT, minor BIGINT, currency TEXT, asked DOUBLE",
    PLACES: "invoice TEXT, position BIGINT, capture TEXT, minor BIGINT, currency TEXT, account TEXT, state TEXT, "
    "taken BIGINT, taken_in TEXT, line_of TEXT, line_minor BIGINT, batch BIGINT",
    TOLD: "told_of TEXT, invoice TEXT, line BIGINT, minor BIGINT, currency TEXT, asked DOUBLE",
}
"""What the lines of each export have, by table. A line lacks the columns of other tables; the header and the end, and
exports of older versions, lack more."""
_MARKS = {OURS: "kind", STRIPE: "kind", ARCHIVE: "kind", PLACES: "position", TOLD: "told_of"}
"""The column by which a line belongs to a table."""
_READ_FROM = {OURS: OURS, PLACES: OURS, STRIPE: STRIPE, ARCHIVE: ARCHIVE, TOLD: ARCHIVE}
"""By table, its export."""
SQL = statements.as_written(__file__)
RULES = tuple(name for name in SQL if name != "views")
"""Every rule, in the order in which they are checked."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What breaks one rule: how many, and the first of them as (id, sentence)."""

    count: int
    shown: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Total:
    """One kind and currency. `minor`: of the requests that are done. Of these `compared` are old enough to be compared
    with Stripe, which shows `stripe`; and `archived` must be in the archive, which tells of `archive`."""

    kind: str
    currency: str
    requests: int
    minor: int
    compared: int
    stripe: int
    archived: int
    archive: int


@dataclass(frozen=True, slots=True)
class Proof:
    """`broken`: by rule; empty if everything holds. `open`: requests whose effect is not known yet, by kind and state.
    `young`: done requests that are too young for Stripe's export, and for the archive's. `others`: effects at Stripe
    that are not of this service. `invoiced`: captures that are on an invoice that is done."""

    headers: Mapping[str, Header]
    broken: Mapping[str, Broken]
    totals: Sequence[Total]
    open: Mapping[str, int]
    young: tuple[int, int]
    others: int
    invoiced: int

    @property
    def holds(self) -> bool:
        return not self.broken


def prove(files: Sequence[Path]) -> Proof:
    """Compare three exports, given in any order. Raises BadExport if they are not whole, not three, or not of the same
    environment, mode and time, or if ours was not written last."""
    headers = _checked({path: read(path) for path in files})
    by_name = {header.export: (path, header) for path, header in headers.items()}
    with tempfile.TemporaryDirectory(prefix="billing-proof-") as scratch, _engine(scratch) as engine:
        for table, export in _READ_FROM.items():
            _load(engine, table, by_name[export][0])
        engine.execute("SET enable_external_access = false")
        engine.execute("SET lock_configuration = true")
        _heads(engine, by_name[ARCHIVE][1])
        values = {
            "since": by_name[OURS][1].since.timestamp() + CLOCKS_S,
            "livemode": by_name[OURS][1].livemode,
        }
        young = by_name[STRIPE][1].begun - YOUNG
        # A view has no parameters. This one is a time of ours, and not of the files.
        engine.execute(SQL["views"].replace("$young", f"TIMESTAMPTZ '{young.isoformat()}'"))
        broken = {name: found for name in RULES if (found := _broken(engine, SQL[name], values)) is not None}
        return Proof(
            {name: header for name, (_, header) in by_name.items()},
            broken,
            [Total(*row) for row in engine.execute("FROM totals").fetchall()],
            dict(
                engine.execute(
                    "SELECT kind || ' ' || state, count(*) FROM ours WHERE says = 'open' GROUP BY ALL ORDER BY ALL"
                ).fetchall()
            ),
            (_count(engine, _YOUNG_FOR_STRIPE), _count(engine, _YOUNG_FOR_ARCHIVE)),
            _count(engine, _OTHERS),
            _count(engine, _INVOICED),
        )


_YOUNG_FOR_STRIPE = "SELECT count(*) FROM ours WHERE says = 'done' AND id NOT IN (SELECT id FROM compared)"
_YOUNG_FOR_ARCHIVE = "SELECT count(*) FROM ours WHERE says = 'done' AND id NOT IN (SELECT id FROM archived)"
_INVOICED = "SELECT count(DISTINCT p.capture) FROM places AS p JOIN ours AS o ON o.id = p.invoice WHERE o.says = 'done'"
_OTHERS = """
SELECT count(*) FROM stripe AS s WHERE s.asked IS NULL
   AND NOT EXISTS (SELECT 1 FROM ours AS o WHERE (o.kind, o.object) = (s.kind, s.object))
"""


def _checked(headers: Mapping[Path, Header]) -> Mapping[Path, Header]:
    first = next(iter(headers.values()))
    named = {header.export: path for path, header in headers.items()}
    for name in EXPORTS:
        if name not in named:
            path = next(iter(headers))
            raise BadExport(path, f"and the others: there is no export of {name} among them")
    for path, header in headers.items():
        for what in ("environment", "livemode", "since"):
            if getattr(header, what) != getattr(first, what):
                given = f"{getattr(header, what)}, and another export of {getattr(first, what)}"
                raise BadExport(path, f"is of {what} {given}; write all three of the same")
    ours = headers[named[OURS]]
    for name in (STRIPE, ARCHIVE):
        if headers[named[name]].ended > ours.begun:
            raise BadExport(
                named[OURS],
                f"was begun before the export of {name} was ended, so an effect may be there whose request is not "
                "here; write `billing export ours` last",
            )
    return headers


def _engine(scratch: str) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": scratch,
        "memory_limit": f"{MEMORY_MB}MB",
        "threads": 2,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    return duckdb.connect(f"{scratch}/proof.duckdb", config=config)


def _load(engine: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """The lines of this table. Raises BadExport for one that does not fit."""
    engine.execute(f"CREATE TABLE {name} ({_COLUMNS[name]})")
    columns = ", ".join("{}: '{}'".format(*column.split()) for column in _COLUMNS[name].split(", "))
    account = "* REPLACE (coalesce(account, '') AS account)" if "account" in _COLUMNS[name] else "*"
    try:
        engine.execute(
            f"INSERT INTO {name} SELECT {account} FROM "  # noqa: S608 - names of ours
            f"read_json($path, format = 'newline_delimited', columns = {{{columns}}}) WHERE {_MARKS[name]} IS NOT NULL",
            {"path": str(path)},
        )
    except duckdb.Error as error:
        raise BadExport(path, f"has a line that does not fit: {' '.join(str(error).split())[:200]}") from None


def _heads(engine: duckdb.DuckDBPyConnection, header: Header) -> None:
    engine.execute("CREATE TABLE heads (kind VARCHAR, last BIGINT)")
    for kind in KINDS:
        engine.execute("INSERT INTO heads VALUES (?, ?)", [kind.name, header.heads.get(kind.retention_class, -1)])


def _broken(engine: duckdb.DuckDBPyConnection, rule: str, values: Mapping[str, Any]) -> Broken | None:
    used = {name: value for name, value in values.items() if f"${name}" in rule}
    engine.execute(f"CREATE OR REPLACE TEMP TABLE broken AS {rule}", used)
    count = _count(engine, "SELECT count(*) FROM broken")
    if not count:
        return None
    shown = engine.execute(f"SELECT id, what FROM broken ORDER BY id, what LIMIT {SHOWN}").fetchall()  # noqa: S608 - a number
    return Broken(count, shown)


def _count(engine: duckdb.DuckDBPyConnection, sql: str) -> int:
    (count,) = engine.execute(sql).fetchone() or (0,)
    return int(count)
