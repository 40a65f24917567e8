"""docs/moves/bulk.md is true: its commands print what it shows, its code runs, its numbers are those of the code."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from billing.many import MOVABLE
from jobs.bulk import checking, lines, problems
from jobs.bulk.columns import columns_of
from jobs.cli import bulk_output, from_file

PAGE = (Path(__file__).parents[2] / "docs" / "moves" / "bulk.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def plain(words: str) -> list[str]:
    """Line by line, without what differs from run to run: ids, times, and how wide a column is."""
    words = re.sub(r"bulk_[0-9a-f]{32}", "BULK", words)
    words = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", words)
    return sorted(" ".join(line.split()) for line in words.splitlines())


def test_the_commands_of_the_page_print_what_it_shows(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("console")
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        program, *words = shlex.split(command)
        if program == "cat":
            (tmp_path / words[0]).write_text(shown)
            continue
        ran = run(*words)
        assert plain(ran.out + ran.err) == plain(shown), command


def test_the_code_of_the_page_runs(service, capsys):
    (code,), (printed,) = blocks("python"), blocks("text")
    engine = create_engine(service.url)
    names: dict[str, Any] = {"engine": engine, "payment_intents": service.intents(2)}
    exec(compile(code, "bulk.md", "exec"), names)  # noqa: S102 - our own page
    engine.dispose()
    assert capsys.readouterr().out == printed
    assert service.settle(*(each.capture_id for each in names["outcomes"][:2])) == ["captured"] * 2


def test_the_page_names_every_column_and_which_are_needed():
    columns = columns_of(MOVABLE["capture"])
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert set(rows) == set(columns.names)
    assert {name for name, what in rows.items() if what.startswith("needed")} == set(columns.needed)
    assert all(f"| `{name}.KEY` |" in PAGE for name in columns.keyed)


@pytest.mark.parametrize("kind", ["void", "refund"])
def test_the_page_names_every_column_of_the_other_moves(kind):
    (named,) = re.findall(rf"^\* \*\*`billing {kind} --from-file`\*\*(.*?)\n(?=\*|\n)", PAGE, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == set(columns_of(MOVABLE[kind]).names)


@pytest.mark.parametrize(
    "stated",
    [
        f"lines of more than {lines.LINE_MOST:,} bytes",
        f"{checking.BATCH} rows are one transaction",
        f"From {from_file.CONFIRM_FROM} rows on",
        f"the first {bulk_output.NAMED} on the screen",
        f"up to {problems.KEPT:,} with `--json`",
    ],
)
def test_a_number_on_the_page_is_the_one_in_the_code(stated):
    assert stated in " ".join(PAGE.split())
