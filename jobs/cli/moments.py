"""Times that a command is given: a day, a moment, or how long from now."""

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

Moment = Annotated[str | None, typer.Option(metavar="TIME", help="2026-11-25, or 2026-11-25T10:00:00Z; UTC.")]


def moment(option: str, text: str | None) -> datetime | None:
    """A day is its first moment; a time without an offset is UTC."""
    from datetime import UTC

    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2026-11-25 or 2026-11-25T10:00:00Z", param_hint=option
        ) from None
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def duration(text: str) -> timedelta | None:
    """`30m`, `2h` or `1d`; None if it is written otherwise."""
    written = re.fullmatch(r"(\d{1,4})([mhd])", text)
    units = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    return int(written[1]) * units[written[2]] if written else None
