"""Rates that a command is given and shows: `20/s`, `100/min`, `5/h`. They are kept as whole numbers per hour."""

import re

import typer

PER_HOUR = {"s": 3600, "min": 60, "h": 1}
MOST_PER_HOUR = 1000 * PER_HOUR["s"]


def rate(option: str, text: str) -> int:
    """How many per hour. Raises typer.BadParameter for what is no rate between 1/h and 1000/s."""
    written = re.fullmatch(r"([1-9]\d{0,6})/(s|min|h)", text)
    per_hour = int(written[1]) * PER_HOUR[written[2]] if written else 0
    if not 0 < per_hour <= MOST_PER_HOUR:
        raise typer.BadParameter(f"{text!r} is not a rate; write 20/s, 100/min or 5/h, up to 1000/s", param_hint=option)
    return per_hour


def shown(per_hour: int) -> str:
    """In the largest unit in which it is a whole number: 7200 per hour are `2/s`."""
    unit = next(unit for unit, in_an_hour in PER_HOUR.items() if per_hour % in_an_hour == 0)
    return f"{per_hour // PER_HOUR[unit]}/{unit}"
