"""What an answer looks like as a file: exact, safe to open, and never without its source."""

import csv
import io
import json
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archive import files
from archive.errors import NotWritten
from archive.queries import formats
from archive.queries.asking import Answer, Read
from archive.queries.columns import Column, Type, arrow

COLUMNS = (
    Column("day", Type.DATE, False),
    Column("at", Type.TIME, True),
    Column("account", Type.TEXT, True),
    Column("currency", Type.TEXT, False),
    Column("captures", Type.INT, False),
    Column("minor", Type.MONEY, True),
    Column("fee_minor", Type.MONEY, True),
    Column("share", Type.NUMBER, True),
    Column("final", Type.BOOL, True),
)
AT = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
ROWS: list[tuple[Any, ...]] = [
    (AT.date(), AT, "acct_1", "USD", 2, 1999, -5, 0.5, True),
    (AT.date(), None, None, "JPY", 1, 500, None, None, False),
    (AT.date(), AT, "own", "KWD", 1, 1230, 9_223_372_036_854_775_807, float("nan"), None),
    (AT.date(), AT, "=cmd|' /C calc'!A0", "XXX", 1, 7, 7, 1.0, None),
]


def answer(columns: tuple[Column, ...] = COLUMNS, rows: list[tuple[Any, ...]] = ROWS) -> Answer:
    zone = "Europe/Berlin"
    schema = pa.schema([arrow(column, zone) for column in columns])
    named = [dict(zip(schema.names, row, strict=True)) for row in rows]
    return Answer(
        query="a_query",
        title="A query",
        sql="SELECT 1",
        parameters={"tz": zone, "since": "2026-10-25"},
        time_zone=zone,
        since=datetime(2026, 10, 24, 22, tzinfo=UTC),
        until=None,
        asked_at=datetime(2026, 11, 29, 12, tzinfo=UTC),
        took_ms=12,
        evidence=[Read("capture", 1, 12, "ab" * 32, 4711, 3, 1)],
        schema=columns,
        table=pa.Table.from_pylist(named, schema=schema),
    )


def as_csv(given: Answer) -> list[list[str]]:
    file = io.StringIO(newline="")
    formats.write_csv(given, file)
    return list(csv.reader(io.StringIO(file.getvalue(), newline="")))


def test_csv_has_minor_units_and_beside_them_the_amount_with_the_decimals_of_its_currency() -> None:
    header, dollars, yen, dinars, unknown = as_csv(answer())
    names = ["day", "at", "account", "currency", "captures", "minor", "amount", "fee_minor", "fee", "share", "final"]
    assert header == names
    when = "2026-10-25T02:30:00+02:00"
    assert dollars == ["2026-10-25", when, "acct_1", "USD", "2", "1999", "19.99", "-5", "-0.05", "0.5", "true"]
    assert yen == ["2026-10-25", "", "", "JPY", "1", "500", "500", "", "", "", "false"]
    assert dinars[4:9] == ["1", "1230", "1.230", "9223372036854775807", "9223372036854775.807"]
    assert unknown[5:9] == ["7", "", "7", ""]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("x")'])
def test_no_text_is_a_formula_or_holds_a_control_character(text: str) -> None:
    column = Column(text, Type.TEXT, False)
    for row in as_csv(answer((column,), [(text,)])):
        assert row[0].startswith("'")
        assert row[0].isprintable()


def test_csv_is_as_its_standard_says() -> None:
    column = Column("text", Type.TEXT, False)
    file = io.StringIO(newline="")
    formats.write_csv(answer((column,), [('a "b", c',)]), file)
    assert file.getvalue() == 'text\r\n"a ""b"", c"\r\n'


def test_an_amount_whose_name_is_taken_has_another() -> None:
    money = (Column("currency", Type.TEXT, False), Column("minor", Type.MONEY, False))
    columns = (*money, Column("amount", Type.INT, True))
    assert as_csv(answer(columns, [("USD", 5, 1)]))[0] == ["currency", "minor", "minor_decimal", "amount"]


def test_json_says_the_source_the_schema_and_each_row_by_name() -> None:
    told = json.loads(json.dumps(formats.as_json(answer()), allow_nan=False))
    assert list(told) == [
        "format", "query", "title", "query_sha256", "parameters", "time_zone", "since", "until", "asked_at", "took_ms",
        "evidence", "columns", "rows",
    ]  # fmt: skip
    assert told["evidence"] == [
        {
            "retention_class": "capture",
            "first": 1,
            "last": 12,
            "head": "ab" * 32,
            "facts": 4711,
            "objects": 3,
            "hashed": 1,
            "passed_over": 0,
        }
    ]
    assert told["columns"][5] == {"name": "minor", "type": "money", "nullable": True}
    assert told["rows"][0]["at"] == "2026-10-25T02:30:00+02:00"
    assert told["rows"][2]["share"] is None


def test_parquet_has_exactly_the_columns_and_carries_its_source(tmp_path: Path) -> None:
    path = tmp_path / "answer.parquet"
    formats.write_parquet(answer(), path)
    back = pq.read_table(path)
    assert back.column_names == [column.name for column in COLUMNS]
    assert back.column("minor").to_pylist() == [1999, 500, 1230, 7]
    assert back.schema.field("minor").metadata[b"billing.type"] == b"money"
    assert not back.schema.field("captures").nullable
    assert json.loads(back.schema.metadata[formats.SOURCE_KEY.encode()]) == formats.source(answer())


SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def cells(path: Path, sheet: int) -> list[list[str]]:
    """The texts of the cells of a sheet. XlsxWriter writes strings inline here."""
    with zipfile.ZipFile(path) as book:
        assert not any("calcChain" in name or "externalLink" in name for name in book.namelist())
        tree = ElementTree.fromstring(book.read(f"xl/worksheets/sheet{sheet}.xml"))  # noqa: S314 - our own file
    assert not list(tree.iter(f"{SHEET}f"))
    assert not list(tree.iter(f"{SHEET}hyperlink"))
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter(f"{SHEET}row")]


def test_a_workbook_has_numbers_that_are_exact_no_formula_and_its_source(tmp_path: Path) -> None:
    path = tmp_path / "answer.xlsx"
    formats.write_xlsx(answer(), path)
    rows = cells(path, 1)
    assert rows[0][:7] == ["day", "at", "account", "currency", "captures", "minor", "amount"]
    assert rows[1][3:9] == ["USD", "2", "1999", "19.99", "-5", "-0.05"]
    assert "=cmd|' /C calc'!A0" in rows[4]
    # A spreadsheet would round it, so it is a text.
    assert "9223372036854775807" in rows[3]
    about = {row[0]: row[1] for row in cells(path, 2)}
    assert about["query_sha256"] == answer().query_sha256
    told = f"retention_class capture, first 1, last 12, head {'ab' * 32}, facts 4711, objects 3, hashed 1"
    assert about["capture"] == f"{told}, passed_over 0"
    assert about["time_zone"] == "Europe/Berlin"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "answer.parquet"
    path.write_text("of yesterday")

    def fails(there: Path) -> None:
        there.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(NotWritten, match=r"--parquet .*answer\.parquet: No space left on device"):
        files.write_file("--parquet", path, fails)
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_the_amount_of_every_currency_has_its_decimals() -> None:
    columns = (Column("currency", Type.TEXT, False), Column("minor", Type.MONEY, False))
    for currency, decimals in (("USD", 2), ("JPY", 0), ("KWD", 3)):
        _, rows = formats.with_decimals(answer(columns, [(currency, 12345)]))
        assert next(rows)[2] == Decimal(12345) / 10**decimals
