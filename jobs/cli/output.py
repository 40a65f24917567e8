"""How answers are printed: JSON for programs, tables and plain lines for operators."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

TRYING, ASKING, ON_CALL, FINANCE, RUNNING = "Trying it", "Asking", "On call", "Finance", "Running it"
"""The headings under which `billing --help` lists the commands, as docs/cli.md does."""

PROGRESS_S = 5.0
"""Between two lines of progress."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Reason = Annotated[str, typer.Option(help="Why; it is stored in a fact.")]
Actor = Annotated[
    str,
    typer.Option(
        help="Who does it; else BILLING_ACTOR, else the user of this shell, which production refuses.",
        show_default=False,
    ),
]


def print_line(line: str = "") -> None:
    """One plain line on standard output."""
    print(visible(line), flush=True)


def print_error(line: str) -> None:
    """One plain line on standard error: progress, and what is not the answer itself."""
    print(visible(line), file=sys.stderr, flush=True)


def every_few_seconds() -> Callable[[str], None]:
    """Progress for a log: of the lines that it is given, it prints one every `PROGRESS_S`, and none before."""
    import time

    last = time.monotonic()

    def progress(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_S:
            last = time.monotonic()
            print_error(line)

    return progress


def visible(text: str) -> str:
    """Other programs wrote the rows. A character that could move the cursor, hide a word, or begin a line that looks
    like ours is shown as its code."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def print_json(value: object) -> None:
    """Times in RFC 3339, states as their words, dataclasses as objects. As safe for a terminal as `visible`: characters
    that are not printable occur only inside JSON strings, and are escaped there."""
    for line in json.dumps(_plain(value), indent=2, ensure_ascii=False).split("\n"):
        print_line("".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for row in rows:
        # As Text, so that Rich reads nothing in it as markup.
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    # Ids are copied from here, so without a terminal no cell is folded or cut.
    console = Console()
    Console(width=None if console.is_terminal else 250).print(table)


def amount(minor: int | None, currency: str | None) -> str:
    """`19.99 USD`; the bare number where the currency is not one of ours."""
    from billing.currencies import CURRENCIES
    from billing.money import shown

    if minor is None:
        return ""
    return shown(minor, currency) if currency and currency in CURRENCIES else f"{minor} {currency or ''}".strip()


def counted(count: int, one: str, many: str = "") -> str:
    """`1 call`, `2 calls`, `0 calls`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def clock(moment: datetime | None) -> str:
    """A time in UTC, to the millisecond."""
    from datetime import UTC

    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if moment else ""


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, int | float | None) else str(value)
