"""The words of our pages: a complete glossary, diagrams that can be drawn, numbers that are those of the code."""

import inspect
import re
from enum import StrEnum
from pathlib import Path

import pytest

from billing import tables
from billing.status import Doubt

ROOT = Path(__file__).parent.parent
PACKAGES = ("billing", "archive", "jobs")
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")))
GLOSSARY = ROOT / "docs" / "glossary.md"


# The glossary.


def entries() -> list[str]:
    """The terms in the first column of every table; a row may explain several, with commas between."""
    rows = re.findall(r"^\| (.+?) \|", GLOSSARY.read_text(), re.MULTILINE)
    return [term.strip(" `") for row in rows if row not in ("term", "state") for term in row.split(",")]


def elsewhere() -> str:
    """Everything that is said outside of the glossary, in one case, with lines and names taken apart."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    files += [page for page in PAGES if page != GLOSSARY]
    return re.sub(r"[\s_]+", " ", " ".join(path.read_text() for path in files)).lower()


def states() -> set[str]:
    kinds = [kind for kind in vars(tables).values() if inspect.isclass(kind) and kind.__name__.endswith("State")]
    assert len(kinds) >= 6
    return {str(state) for kind in (*kinds, Doubt) if issubclass(kind, StrEnum) for state in kind}


def test_every_term_of_the_glossary_is_used_somewhere_else() -> None:
    said = elsewhere()
    assert [term for term in entries() if term.replace("_", " ").lower() not in said] == []


def test_every_state_is_in_the_glossary() -> None:
    assert states() - set(entries()) == set()


def test_the_readme_leads_to_the_glossary() -> None:
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text()


# Diagrams.

KINDS = ("flowchart LR", "flowchart TB", "sequenceDiagram", "stateDiagram-v2")
MESSAGE = re.compile(r"(\w+)\s*(?:-->>|->>|--x|-x)\s*(\w+):")
ARROW = re.compile(r"^\s*(\w+) (?:<-->|-->|<--|--).*?(\w+)$", re.MULTILINE)


def diagrams() -> list[tuple[str, str]]:
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"^```mermaid\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_closed(page: Path) -> None:
    fences = re.findall(r"^```(\w*)", page.read_text(), re.MULTILINE)
    assert all(language == "" for language in fences[1::2])
    assert len(fences) % 2 == 0


def test_there_is_a_picture_of_the_parts_and_one_of_the_walk() -> None:
    assert [block.split("\n")[0] for name, block in diagrams() if name == "README.md"] == [
        "flowchart LR",
        "sequenceDiagram",
    ]


@pytest.mark.parametrize(("name", "diagram"), diagrams())
def test_a_diagram_is_of_a_known_kind_and_draws_only_what_it_declares(name: str, diagram: str) -> None:
    kind, _, body = diagram.partition("\n")
    assert kind in KINDS, name
    if kind == "sequenceDiagram":
        declared = set(re.findall(r"^\s*participant (\w+) as ", body, re.MULTILINE))
        drawn = {each for pair in MESSAGE.findall(body) for each in pair}
        assert drawn == declared
        assert len(re.findall(r"^\s*(?:alt|loop|opt|par) ", body, re.MULTILINE)) == len(
            re.findall(r"^\s*end$", body, re.MULTILINE)
        )
    if kind.startswith("flowchart"):
        declared = set(re.findall(r"^\s*(\w+)[\[(]", body, re.MULTILINE))
        drawn = {each for pair in ARROW.findall(body) for each in pair}
        assert drawn == declared
