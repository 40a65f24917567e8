"""README says how much code there is, and `make size` counts it."""

from pathlib import Path

import pytest

from bench import size

SOURCE = '''"""What it is."""

# Why.
LIMIT = 7
"""How many."""


def statement() -> str:
    """What it asks."""
    return (  # once
        """
SELECT id

  FROM facts"""
    )
'''


def test_what_is_left_without_blank_lines_comments_and_docstrings_is_counted() -> None:
    assert size.lines_of_python(SOURCE) == len(["LIMIT", "def", "return (", '"""', "SELECT", "FROM", ")"])


def test_sql_in_a_file_of_its_own_is_counted_like_that_in_a_string(tmp_path: Path) -> None:
    (tmp_path / "room.sql").write_text("-- name: first\n-- Why.\nSELECT id\n\n  FROM facts;\n")
    assert size.code_lines(tmp_path / "room.sql") == len(["SELECT", "FROM"])


@pytest.mark.parametrize("part", size.parts())
def test_readme_states_the_size_of_each_part_within_a_hundred_lines_or_two_in_a_hundred(part: str) -> None:
    """So that not every change has to write README's line anew: `make size ARGS=--write`."""
    counted = size.sizes()[part]
    assert abs(size.stated()[part] - counted) <= max(100, counted // 50)


def test_every_file_on_the_way_of_one_capture_is_there_once() -> None:
    files = size.files_of_one_capture()
    assert len(files) == len(set(files)) > 15
    assert [path for path in files if not path.exists()] == []
