"""Draws the states into docs/protocol.md, from billing/states.py: `make docs` writes, `make check` compares."""

import sys
from collections import defaultdict
from pathlib import Path

from billing.states import LIVES, WORKER, Life

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
BEGIN, END = "<!-- states: written by `make docs` -->\n", "<!-- end of states -->\n"


def main() -> int:
    """Write the page; with `--check` only compare it."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    expected = before + BEGIN + "\n".join(map(shown, LIVES)) + END + after
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(expected, encoding="utf-8")
    elif page != expected:
        print(f"{PAGE.name} does not show the states of billing/states.py; run `make docs`", file=sys.stderr)
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


def _label(who: list[str]) -> str:
    """The processes that make this transition. A worker alone is not named, because labels on most arrows would
    overlap."""
    movers = list(dict.fromkeys(who))
    return "" if movers == [WORKER] else f": {', '.join(movers)}"


if __name__ == "__main__":
    sys.exit(main())
