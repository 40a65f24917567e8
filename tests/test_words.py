"""The words of our pages: a complete glossary, diagrams that can be drawn, numbers that are those of the code."""

import inspect
import re
from enum import StrEnum
from pathlib import Path

import pytest

from archive.verifying import agreement, verification
from archive.writing import batch_size, set_aside
from billing import idempotency, shown_states, switches
from billing import states as life
from billing.currencies import MOST_MINOR
from billing.tables import entities
from billing.timing import PRODUCTION, SHORT
from jobs.checkup import rows, servers
from jobs.cli import archive_verify
from jobs.limits.bucket import FAILURES
from jobs.process import health, waiting
from jobs.road import drain

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
    kinds = [kind for kind in vars(life).values() if inspect.isclass(kind) and kind.__name__.endswith("State")]
    assert len(kinds) >= 6
    return {str(state) for kind in (*kinds, shown_states.Doubt) if issubclass(kind, StrEnum) for state in kind}


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


# Numbers. A page states them in words, the code has them as constants; whoever changes one is told where the other is.

CARDINALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
P = PRODUCTION
STATED = {
    "README.md": [
        f"a first send {P.horizon_s / 3600:g} hours ago",
        f"a {ORDINALS[idempotency.MAX_SERVER_ERRORS]} 5xx",
        f"Python {'.'.join(map(str, servers.PYTHON_LEAST))} or later",
    ],
    "docs/protocol.md": [
        f"| lease | {P.lease_s:g} s,",
        f"| not-after | {P.not_after_s:g} s,",
        f"| call budget | {P.call_budget_s:g} s ",
        f"| margin | {P.margin_s:g} s |",
        f"| settle time | {P.settle_s:g} s |",
        f"| horizon | {P.horizon_s / 3600:g} h |",
        f"| pause before the same key is sent again | {P.retry_first_s:g} s, doubling to {P.retry_max_s:g} s;",
        f"| pause between looks that are not answered | {P.look_first_s:g} s, doubling to {P.look_max_s / 3600:g} h |",
        f"| probe | {P.probe_s:g} s |",
        f"| deadline margin | {P.deadline_margin_s / 3600:g} h |",
        f"wait the settle time ({P.settle_s:g} s)",
        f"from the {ORDINALS[idempotency.LOOKS_BEFORE_ALARM]} look on **Park**",
        f"after {CARDINALS[idempotency.MAX_ROTATIONS]} rotations **Done**",
        f"the {ORDINALS[idempotency.MAX_SERVER_ERRORS]} 5xx under one key",
        f"its first send is {P.horizon_s / 3600:g} hours old",
        f"answered nothing for {P.probe_s:g} s and {CARDINALS[FAILURES]} calls failed",
        f"after at most {P.probe_s:g} s and the length of one call (up to {P.call_budget_s:g} s), not after "
        f"{P.retry_max_s:g} s",
        f"with more than {entities.MAX_LINES} lines, or with a description of more than {entities.MAX_DESCRIPTION} ",
    ],
    "docs/cli.md": [
        f"its last heartbeat is at most {health.YOUNG_S:g} s old",
        f"The limit is {health.STUCK_S['production']:g} s for relay and worker, and "
        f"{health.ARCHIVER_STUCK_S['production']:g} s for an archiver "
        f"({health.STUCK_S['short']:g} s and {health.ARCHIVER_STUCK_S['short']:g} s with BILLING_TIMING=short)",
        f"pauses grow to {waiting.LONGEST_S:g} s",
        f"`unanswered` with at most {switches.LISTED:,} of the calls in flight",
        f"at most {archive_verify.MOST_IN_JSON:,}; `differences_left_out`",
        f"the `count` (up to {set_aside.MOST_COUNTED:,}) and the oldest {set_aside.NAMED} `facts`",
        f"up to {drain.FACTS_READ:,}, and name waiting facts",
        f"up to {entities.MAX_LINES} |",
        f"1 to {entities.MAX_DAYS} |",
    ],
    "docs/archive.md": [
        f"A batch has up to {batch_size.MOST_ROWS:,} facts",
        f"After {batch_size.FITTING} statements that fit",
        f"the archiver may take {P.reading_timeout_s:g} s",
        f"{CARDINALS[verification.DOWNLOADS]} at a time, and holds {agreement.PAGE} batches in memory",
        set_aside.REASONS["payload_too_large"].partition("more than ")[2],
        set_aside.REASONS["payload_too_deep"].partition("payload is ")[2],
    ],
    "docs/settings.md": [
        f"may take {P.transaction_timeout_s:g} s for applications, relays and workers",
        f"({SHORT.transaction_timeout_s:g} s with the short timing), and {P.reading_timeout_s:g} s for the archiver",
    ],
    "docs/inputs.md": [
        f"1 to {entities.MAX_DESCRIPTION} characters of any language",
        f"checks the newest {rows.IDS_READ:,} request ids",
    ],
    "docs/currencies.md": [
        f"at most {MOST_MINOR:,} minor units",
    ],
}


@pytest.mark.parametrize(("page", "stated"), [(page, text) for page, texts in STATED.items() for text in texts])
def test_a_number_on_a_page_is_the_one_in_the_code(page: str, stated: str) -> None:
    assert " ".join(stated.split()) in " ".join((ROOT / page).read_text().split())
