"""Lines as rows, cells by column: CSV in the forms that programs write it, or JSON, one object a line.

CSV: separated by commas, semicolons, tabs or bars, whichever gives the header known columns; `"` around cells, with
line breaks inside; a first line `sep=;`, as Excel writes it, is passed over; rows without anything in them are, too.
"""

import csv
import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jobs.bulk.errors import UnusableFile
from jobs.bulk.lines import BadLine, Lines

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Columns:
    """What a file may hold. `needed`: the names without which no row can be asked for. `others`: other names of
    columns, with ours. `keyed`: names that stand before a dot and a key of the caller's own: `metadata.order`.
    `nested`: some hold more than a cell can, such as the lines of an invoice, so only JSON can say it."""

    names: Collection[str]
    needed: Collection[str]
    others: Mapping[str, str]
    keyed: Collection[str] = ()
    nested: bool = False

    def knows(self, name: str) -> bool:
        first, _, key = name.partition(".")
        return name in self.names or (first in self.keyed and key != "")

    def __str__(self) -> str:
        return ", ".join([*self.names, *(f"{name}.KEY" for name in self.keyed)])


@dataclass(frozen=True, slots=True)
class Row:
    """`cells`: texts, of JSON also whole numbers and others; none that is empty. `line`: where it begins."""

    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """It cannot be read; the rows after it can."""

    line: int
    why: str


class Spelled(str):
    """A number of JSON that is not whole, as it is spelled there."""

    __slots__ = ()


def rows(lines: Lines, columns: Columns) -> Iterator[Row | BadRow]:
    """Every row of the file. Raises UnusableFile where nobody can say what is a row, or what its columns mean."""
    first = _first(lines)
    if first.lstrip().startswith("["):
        raise UnusableFile("the file is one JSON array; write one object a line (jq -c '.[]')", lines.number)
    if first.lstrip().startswith("{"):
        yield from _json_rows(first, lines, columns)
    elif columns.nested:
        raise UnusableFile("what it asks for fits into no table; write one JSON object a line", lines.number)
    else:
        yield from _csv_rows(first, lines, columns)


def _first(lines: Lines) -> str:
    """The first line that is not empty."""
    try:
        for line in lines:
            of_excel = line.lower().startswith("sep=") and len(line.strip()) <= len("sep=;")
            if line.strip(' \t\r\n,;|"') and not of_excel:
                return line
    except BadLine as error:
        raise UnusableFile(f"{error}, so the names of the columns cannot be read", lines.number) from None
    raise UnusableFile("the file is empty")


# CSV.


def _csv_rows(first: str, lines: Lines, columns: Columns) -> Iterator[Row | BadRow]:
    separator, header = _header(first, lines, columns)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (BadLine, csv.Error) as error:
            why = _in_our_words(error)
            if lines.number > line:
                # Nobody can say where the next row begins.
                raise UnusableFile(
                    f'begins a cell with " that ends in line {lines.number} or nowhere, and that one {why}', line
                ) from None
            yield BadRow(line, why)
            continue
        if not any(cells) or not any(map(str.strip, cells)):
            continue
        if len(cells) != len(header):
            why = _other_length(cells, header, separator)
            if lines.number > line:
                raise UnusableFile(f'begins a cell with " that ends in line {lines.number}, and then {why}', line)
            yield BadRow(line, why)
            continue
        yield Row(line, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _header(first: str, lines: Lines, columns: Columns) -> tuple[str, Sequence[str]]:
    """The separator, and our name of each column."""
    candidates = []
    why = ""
    for separator in SEPARATORS:
        try:
            given = next(csv.reader([first], delimiter=separator, strict=True))
        except csv.Error as error:
            why = _in_our_words(error)
            continue
        names = [_as_ours(name, columns) for name in given]
        candidates.append((sum(map(columns.knows, names)), len(given), separator, names))
    if not candidates:
        raise UnusableFile(f"names the columns, and {why}", lines.number)
    _, _, separator, names = max(candidates, key=lambda each: each[:2])
    _refuse_wrong(names, columns, lines.number)
    return separator, names


def _as_ours(name: str, columns: Columns) -> str:
    first, dot, key = name.strip().partition(".")
    if first.lower() in columns.keyed:
        return f"{first.lower()}{dot}{key}"  # a key is the caller's own, capital letters and all
    plain = "_".join(name.strip().lower().replace("-", " ").split())
    return columns.others.get(plain, plain)


def _refuse_wrong(names: Sequence[str], columns: Columns, line: int) -> None:
    """Raises UnusableFile for a header with unknown, doubled or missing columns. A column without a name must be
    empty, as spreadsheets write it behind the last one."""
    unknown = [name for name in names if name and not columns.knows(name)]
    missing = [name for name in columns.needed if name not in names]
    doubled = [name for name in dict.fromkeys(names) if columns.knows(name) and list(names).count(name) > 1]
    told = []
    if missing:
        told.append(f"has no column {' and no '.join(missing)}")
    if unknown:
        told.append(f"has {', '.join(_unknown(name, columns) for name in unknown)}")
    if doubled:
        told.append(f"has {', '.join(doubled)} twice")
    if told:
        raise UnusableFile(f"must name the columns, and {'; '.join(told)}. Columns: {columns}", line)


def _unknown(name: str, columns: Columns) -> str:
    # A file without a header begins with a row, and no message repeats what that holds.
    if len(name) > 40 or not name.replace("_", "").isalpha():
        return "a column that is no name"
    near = difflib.get_close_matches(name, [*columns.names, *columns.others, *columns.keyed], n=1, cutoff=0.6)
    if not near:
        return f"the unknown column {name}"
    meant = f"{near[0]}.KEY" if near[0] in columns.keyed else columns.others.get(near[0], near[0])
    return f"the unknown column {name} (did you mean {meant}?)"


def _other_length(cells: Sequence[str], header: Sequence[str], separator: str) -> str:
    why = f"has {len(cells)} cells, and the header {len(header)}"
    return f'{why}; a cell with {SEPARATORS[separator]} inside needs " around it' if len(cells) > len(header) else why


def _in_our_words(error: Exception) -> str:
    said = str(error)
    match said:
        case _ if isinstance(error, BadLine):
            return said
        case _ if "field larger" in said:
            return f"has a cell of more than {csv.field_size_limit():,} characters"
        case _ if "unexpected end" in said:
            return 'has a cell that begins with " and has no second one'
        case _ if "new-line" in said:
            return "ends lines with CR alone, as old Macintosh programs do; save the file with LF or CR LF"
        case _:
            return 'has a " inside of a cell; write it twice, and " around the cell'


# JSON.


def _json_rows(first: str, lines: Lines, columns: Columns) -> Iterator[Row | BadRow]:
    text: str | None = first
    while True:
        line = lines.number if text is not None else lines.number + 1
        try:
            text = next(lines, None) if text is None else text
            if text is None:
                return
            if text.strip():
                yield _json_row(line, text, columns)
        except BadLine as error:
            yield BadRow(line, str(error))
        text = None


def _json_row(line: int, text: str, columns: Columns) -> Row | BadRow:
    try:
        given = json.loads(text, object_pairs_hook=_once, parse_float=Spelled, parse_constant=_no_constant)
    except _Refused as error:
        return BadRow(line, str(error))
    except (ValueError, RecursionError):
        return BadRow(line, "is no JSON object")
    if not isinstance(given, dict):
        return BadRow(line, "is no JSON object")
    cells = {_as_ours(name, columns): value for name, value in given.items() if value is not None and value != ""}
    if unknown := [name for name in cells if not columns.knows(name)]:
        return BadRow(line, f"has {', '.join(_unknown(name, columns) for name in unknown[:5])}")
    if len(cells) < sum(value is not None and value != "" for value in given.values()):
        return BadRow(line, "names a column twice")
    if missing := [name for name in columns.needed if name not in cells]:
        return BadRow(line, f"has no {' and no '.join(missing)}")
    return Row(line, cells)


class _Refused(Exception):
    """What JSON allows, and we do not."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _Refused("names a column twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"holds {name}, which is no number of JSON")
