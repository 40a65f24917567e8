"""Draws the states into our pages, from billing/states.py: `make docs` writes, `make check` compares.

docs/protocol.md shows every life; docs/application.md shows what an application sees of a capture and an invoice.
"""

import sys
from collections import defaultdict
from pathlib import Path

from billing.states import CAPTURE, INVOICE, LIVES, OPERATOR, WORKER, Life, as_shown

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- states: written by `make docs` -->\n", "<!-- end of states -->\n"


def main() -> int:
    """Write the pages; with `--check` say whether they are as they must be, and write nothing."""
    states = {
        "protocol.md": "\n".join(map(shown, LIVES)),
        "application.md": "\n".join(followed(as_shown(life)) for life in (CAPTURE, INVOICE)),
    }
    return max(_written(DOCS / name, part) for name, part in states.items())


def _written(path: Path, part: str) -> int:
    page = path.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    as_it_must_be = before + BEGIN + part + END + after
    if "--check" not in sys.argv[1:]:
        path.write_text(as_it_must_be, encoding="utf-8")
    elif page != as_it_must_be:
        print(f"{path.name} does not show the states of billing/states.py; run `make docs`", file=sys.stderr)
        return 1
    return 0


def shown(life: Life) -> str:
    """One life: its states, a diagram in Mermaid, and its transitions."""
    drawn: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for each in life.transitions:
        drawn[each.start, each.end].append(each.who)
        rows[each.end, each.who, each.when].append(f"`{each.start}`")
    return "\n".join(
        [
            f"### {life.of.capitalize()}",
            "",
            "| state | what it says |",
            "|---|---|",
            *(f"| `{state}` | {meaning} |" for state, meaning in life.states.items()),
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    direction LR",
            f"    [*] --> {life.first}",
            *(f"    {start} --> {end}{_label(who)}" for (start, end), who in drawn.items()),
            "```",
            "",
            "| from | to | who | when |",
            "|---|---|---|---|",
            *(f"| {', '.join(starts)} | `{end}` | {who} | {when} |" for (end, who, when), starts in rows.items()),
            "",
        ]
    )


def followed(life: Life) -> str:
    """One life as an application sees it: each state, and what it may see next."""
    following: dict[tuple[str, bool], dict[str, None]] = defaultdict(dict)
    for each in life.transitions:
        following[each.start, each.who == OPERATOR][f"`{each.end}`"] = None
    return "\n".join(
        [
            f"| {life.of} | what it says | then, by itself | then, once an operator has decided |",
            "|---|---|---|---|",
            *(
                f"| `{state}` | {meaning} | {' | '.join(', '.join(following[state, by]) for by in (False, True))} |"
                for state, meaning in life.states.items()
            ),
            "",
        ]
    )


def _label(who: list[str]) -> str:
    """The processes that make this transition. A worker alone is not named, because labels on most arrows would
    overlap."""
    movers = list(dict.fromkeys(who))
    return "" if movers == [WORKER] else f": {', '.join(movers)}"


if __name__ == "__main__":
    sys.exit(main())
