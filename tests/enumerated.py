"""Deaths of processes that are gone through one by one: how many the page says there are, and how many a run takes."""

import os
import re
from pathlib import Path

ALL = os.environ.get("BILLING_TEST_DEATHS") == "all"
"""Whether every pair of deaths is gone through, as `make chaos` does; else a few that the seed chooses."""
SEED = int(os.environ.get("BILLING_TEST_SEED", "20261130"))
_PAGE = Path(__file__).parents[1] / "docs" / "failures.md"
_ROW = r"^\| {} \| (\d+) \| (\d+) \|"


def documented(move: str) -> tuple[int, int]:
    """How many deaths of this move, and how many pairs of them, the page says are gone through at least."""
    row = re.search(_ROW.format(re.escape(move)), _PAGE.read_text(), re.MULTILINE)
    assert row, f"{_PAGE.name} has no row of {move}"
    return int(row[1]), int(row[2])
