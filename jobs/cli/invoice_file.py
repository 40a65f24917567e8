"""Reads the file of one invoice, JSON or TOML. What its fields say: `jobs.bulk.invoices`."""

import json
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from jobs.bulk.invoices import InvoiceFile

T = TypeVar("T")
MOST_BYTES = 1_000_000


def read(path: Path) -> "InvoiceFile":
    """The invoice in this file. Raises BadParameter with the path of the field that is wrong."""
    from jobs.bulk.invoices import invoice_of

    return told(path, lambda: invoice_of(_content(path)))


def told(path: Path, make: Callable[[], T]) -> T:
    """What `make` returns. Raises BadParameter, which names file and field, for what it refuses."""
    from billing.errors import InvalidRequest

    try:
        return make()
    except InvalidRequest as error:
        raise typer.BadParameter(f"{path.name}: {' '.join(filter(None, (error.subject, error.problem)))}") from None


def _content(path: Path) -> object:
    try:
        with path.open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from None
    if len(body) > MOST_BYTES:
        raise typer.BadParameter(f"{path} has more than {MOST_BYTES:,} bytes, so it is no invoice of ours")
    try:
        text = body.decode("utf-8-sig")
        # A number with a point is a decimal, never a float.
        if path.suffix.lower() == ".toml":
            return tomllib.loads(text, parse_float=Decimal)
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise typer.BadParameter(f"{path} is no {kind} in UTF-8{where}") from None
