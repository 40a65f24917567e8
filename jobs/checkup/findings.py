"""A finding: the state of one part, and how to correct it."""

from dataclasses import dataclass
from enum import StrEnum

NAMED = 3
"""A finding names this many ids."""


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part, and how to correct it unless it is `ok`."""

    part: str
    level: Level
    message: str
    fix: str = ""


def some(ids: list[str], count: int) -> str:
    """The first of `count` ids, and how many more there are."""
    return ", ".join(ids) + (f" and {count - len(ids)} more" if count > len(ids) else "")


def first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__
