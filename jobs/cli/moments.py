"""Times that a command is given: a day, or a moment."""

from datetime import datetime
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
