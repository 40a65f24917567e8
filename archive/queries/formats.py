"""An answer as JSON, as CSV that is safe to open in a spreadsheet, as Parquet, and as XLSX. Each says where the numbers
come from: the query and its digest, its parameters, the manifests that were read, and when.

Money stays in minor units. For people, a column with decimals stands beside it: `minor` has `amount`, and `fee_minor`
has `fee`. It is empty if the currency is none that Stripe knows.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from archive.files import write_file
from archive.queries.asking import Answer
from archive.queries.columns import Column, Type, schema_of
from billing.currencies import CURRENCIES

FORMAT = "billing-archive-answer/1"
SOURCE_KEY = "billing.source"
_EXACT_DIGITS = 15
"""A spreadsheet keeps so many digits of a number."""
_BEGINS_A_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def source(answer: Answer) -> dict[str, Any]:
    """Where the numbers come from. The form is stable; `sql` is there for free SQL only."""
    return {
        "format": FORMAT,
        "query": answer.query,
        "title": answer.title,
        "query_sha256": answer.query_sha256,
        **({"sql": answer.sql} if answer.query is None else {}),
        "parameters": dict(answer.parameters),
        "time_zone": answer.time_zone,
        "since": answer.since.isoformat() if answer.since else None,
        "until": answer.until.isoformat() if answer.until else None,
        "asked_at": answer.asked_at.isoformat(),
        "took_ms": answer.took_ms,
        "evidence": [asdict(read) for read in answer.evidence],
    }


def as_json(answer: Answer) -> dict[str, Any]:
    """The source, the schema, and each row as an object."""
    return source(answer) | {"columns": list(map(schema_of, answer.schema)), "rows": answer.named_rows}


def source_lines(answer: Answer) -> list[str]:
    """The source, for people: the lines that stand below a table or a picture."""
    given = "".join(f", {name}={text}" for name, text in sorted(answer.parameters.items()) if name != "tz")
    return [
        f"query {answer.query or 'of your own'}, sha256 {answer.query_sha256}",
        f"asked at {answer.asked_at:%Y-%m-%d %H:%M:%S} UTC{given}; days and times are in {answer.time_zone}",
        *(
            f"{read.retention_class}: {read.facts} facts in {read.objects} objects ({read.hashed} hashed now"
            f"{f', {read.passed_over} passed over' if read.passed_over else ''}), "
            f"manifests {read.first} to {read.last}, head {read.head}"
            for read in answer.evidence
        ),
    ]


def with_decimals(answer: Answer) -> tuple[list[Column], Iterator[list[Any]]]:
    """Columns and rows for people: beside money stands the amount with its decimals."""
    currency = next((n for n, column in enumerate(answer.schema) if column.name == "currency"), None)
    taken = {column.name for column in answer.schema}
    columns: list[Column] = []
    for column in answer.schema:
        columns.append(column)
        if column.type is Type.MONEY:
            columns.append(Column(_decimal_name(column.name, taken), Type.NUMBER, True))

    def rows() -> Iterator[list[Any]]:
        for row in answer.rows:
            cells: list[Any] = []
            for column, cell in zip(answer.schema, row, strict=True):
                cells.append(cell)
                if column.type is Type.MONEY:
                    cells.append(amount(cell, row[currency] if currency is not None else None))
            yield cells

    return columns, rows()


def _decimal_name(money: str, taken: set[str]) -> str:
    short = "amount" if money == "minor" else money.removesuffix("_minor")
    return f"{money}_decimal" if short in taken else short


def amount(minor: int | None, currency: str | None) -> Decimal | None:
    """The amount with its decimals; None if there is none, or the currency is none that Stripe knows."""
    known = CURRENCIES.get(currency or "")
    return None if minor is None or known is None else Decimal(minor).scaleb(-known.decimals)


def write_csv(answer: Answer, file: IO[str]) -> None:
    """RFC 4180. A text that a spreadsheet would run as a formula begins with an apostrophe; a control character is
    written as its code."""
    columns, rows = with_decimals(answer)
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([_harmless(column.name) for column in columns])
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])


def _cell(value: Any) -> Any:
    match value:
        case str():
            return _harmless(value)
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case _:
            return value


def _harmless(text: str) -> str:
    begins = text.startswith(_BEGINS_A_FORMULA)
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return f"'{text}" if begins else text


def write_parquet(answer: Answer, path: Path) -> None:
    """Exactly the answer's columns. The source is in the file's metadata, as JSON, and the type of each column in the
    metadata of its field. Raises NotWritten."""
    fields = [
        field.with_metadata({"billing.type": column.type.value})
        for field, column in zip(answer.table.schema, answer.schema, strict=True)
    ]
    table = answer.table.cast(pa.schema(fields, metadata={SOURCE_KEY: json.dumps(source(answer))}))
    write_file("--parquet", path, lambda there: pq.write_table(table, there, compression="zstd"))


def write_xlsx(answer: Answer, path: Path) -> None:
    """One sheet with the answer and one with its source; no cell is a formula or a link. Times are local, without their
    offset, because a spreadsheet knows none. Raises NotWritten."""
    write_file("--xlsx", path, lambda there: _workbook(answer, there))


def _workbook(answer: Answer, path: Path) -> None:
    import xlsxwriter  # noqa: PLC0415 - of the extra `finance`

    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "in_memory": False}
    with xlsxwriter.Workbook(str(path), options) as book:
        bold = book.add_format({"bold": True})
        formats = {
            Type.DATE: book.add_format({"num_format": "yyyy-mm-dd"}),
            Type.TIME: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        columns, rows = with_decimals(answer)
        sheet = book.add_worksheet((answer.query or "sql")[:31])
        sheet.freeze_panes(1, 0)
        for at, column in enumerate(columns):
            sheet.set_column(at, at, max(12, len(column.name) + 2))
            sheet.write_string(0, at, column.name, bold)
        for number, row in enumerate(rows, start=1):
            for at, (column, cell) in enumerate(zip(columns, row, strict=True)):
                _write(sheet, number, at, column.type, cell, formats)
        about = book.add_worksheet("source")
        about.set_column(0, 0, 24)
        about.set_column(1, 1, 90)
        for number, (name, value) in enumerate(_flat(source(answer))):
            about.write_string(number, 0, name, bold)
            about.write_string(number, 1, value)


def _write(sheet: Any, row: int, at: int, kind: Type, cell: Any, formats: dict[Type, Any]) -> None:
    match cell:
        case None:
            return
        case bool():
            sheet.write_boolean(row, at, cell)
        case int() | float() | Decimal() if len(str(abs(cell)).replace(".", "")) <= _EXACT_DIGITS:
            sheet.write_number(row, at, cell)
        case float():
            sheet.write_number(row, at, cell)
        case str() if kind is Type.DATE:
            sheet.write_datetime(row, at, date.fromisoformat(cell), formats[kind])
        case str() if kind is Type.TIME:
            sheet.write_datetime(row, at, datetime.fromisoformat(cell).replace(tzinfo=None), formats[kind])
        case _:
            sheet.write_string(row, at, str(cell))


def _flat(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if name == "evidence":
            for read in inner:
                yield read["retention_class"], ", ".join(f"{key} {read[key]}" for key in read)
        elif isinstance(inner, dict):
            yield from ((key, str(text)) for key, text in inner.items())
        else:
            yield name, "" if inner is None else str(inner)
