"""Writes into docs/ what the code says itself, such as states and metrics: `make docs` writes, `make check` compares.

docs/states.md draws every life; docs/application.md shows what an application sees of what it asked for.

A part of a page stands between two comments, and all of it is written from one value in the code.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from archive.keeping import bucket_rules
from archive.policy.retention_file import load
from billing.shown_states import as_shown
from billing.states import CAPTURE, EMAIL, INVOICE, LIVES, OPERATOR, REFUND, VOID, WORKER, Life
from jobs.access.kinds import S3_POLICIES, s3_policy
from jobs.growth.retention import KEPT
from jobs.metrics.instruments import instruments
from jobs.metrics.labels import LABELS
from jobs.reconciliation.classes import BY_NAME
from jobs.road.retries import ERRORS, POLICIES

DOCS = Path(__file__).parents[2] / "docs"


class Part(NamedTuple):
    page: str
    name: str
    source: str
    shown: Callable[[], str]

    def in_page(self, page: str) -> str:
        """The page with this part as it must be."""
        begin, end = f"<!-- {self.name}: written by `make docs` -->\n", f"<!-- end of {self.name} -->\n"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        return before + begin + self.shown() + end + after


def main() -> int:
    """Write the pages; with `--check` only compare them."""
    wrong = 0
    for part in PARTS:
        file = DOCS / part.page
        page = file.read_text(encoding="utf-8")
        expected = part.in_page(page)
        if "--check" not in sys.argv[1:]:
            file.write_text(expected, encoding="utf-8")
        elif page != expected:
            print(f"docs/{part.page} does not show the {part.name} of {part.source}; run `make docs`", file=sys.stderr)
            wrong = 1
    return wrong


def lives() -> str:
    """A table of all of them, and then each in full."""
    rows = [
        f"| [{life.of}](#{life.of.replace(' ', '-')}) | `{life.first}` | {_finals(life)} | {_movers(life)} |"
        for life in LIVES
    ]
    return "\n".join(
        ["| life of a | begins as | final | moved by |", "|---|---|---|---|", *rows, "", *map(shown, LIVES)]
    )


def _finals(life: Life) -> str:
    return ", ".join(f"`{state}`" for state in life.states if life.is_final(state)) or "none: each may still change"


def _movers(life: Life) -> str:
    return ", ".join(dict.fromkeys(each.who for each in life.transitions))


def lives_of_an_application() -> str:
    return "\n".join(followed(as_shown(life)) for life in (CAPTURE, VOID, REFUND, INVOICE, EMAIL))


def shown(life: Life) -> str:
    """One life: a diagram in Mermaid, its states, and its transitions."""
    drawn: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for each in life.transitions:
        drawn[each.start, each.end].append(each.who)
        rows[each.end, each.who, each.when].append(f"`{each.start}`")
    return "\n".join(
        [
            f"## {life.of.capitalize()}",
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    direction LR",
            f"    [*] --> {life.first}",
            *(f"    {start} --> {end}{_label(who)}" for (start, end), who in drawn.items()),
            "```",
            "",
            "| state | what it says |",
            "|---|---|",
            *(f"| `{state}` | {meaning} |" for state, meaning in life.states.items()),
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


def metrics() -> str:
    """Two tables: every number, and every label."""
    lines = ["| metric | kind | unit | labels | exported by | meaning |", "|---|---|---|---|---|---|"]
    for each in instruments():
        labels = ", ".join(f"`{label}`" for label in each.labels)
        by = ", ".join(each.roles)
        lines.append(f"| `{each.name}` | {each.kind} | {each.unit} | {labels} | {by} | {each.meaning} |")
    lines += ["", "| label | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {label.meaning} |" for name, label in LABELS.items()]
    return "\n".join([*lines, ""])


def retries() -> str:
    """Two tables: every policy, and every error with its policy."""
    lines = ["| policy | what happens |", "|---|---|"]
    lines += [f"| **{policy.name}** | {policy.promise} |" for policy in POLICIES]
    lines += ["", "| where | error | policy |", "|---|---|---|"]
    lines += [f"| {row.where} | {row.what} | {row.policy.name} |" for row in ERRORS]
    return "\n".join([*lines, ""])


def retention() -> str:
    """How long work and calls stay, by kind and final state."""
    lines = ["| operation | ended as | its work and calls stay |", "|---|---|---|"]
    for kind, states in KEPT.items():
        lines += [
            f"| {kind} | `{state}` | {f'{days} days' if days else 'for ever'} |" for state, days in states.items()
        ]
    return "\n".join([*lines, ""])


def aws() -> str:
    """The bucket's configuration for the example of a retention file, and the policy of each role."""
    policy, bucket = load(DOCS / "finance" / "retention.toml"), "evidence"
    lock = bucket_rules.default_lock(policy)
    statements = {"Version": "2012-10-17", "Statement": bucket_rules.statements(policy, bucket)}
    lines = [
        "## The bucket",
        "",
        "Versioning: enabled. Object Lock: enabled, with this default:",
        *_as_json({"DefaultRetention": {"Mode": lock.mode, "Days": lock.days}}),
        "Rules of expiry:",
        *_as_json({"Rules": bucket_rules.lifecycle(policy)}),
        "The bucket's policy:",
        *_as_json(statements),
        "## The roles",
        "",
    ]
    for kind in sorted(S3_POLICIES):
        lines += [f"`billing access policy {kind} --bucket {bucket}`:", *_as_json(s3_policy(kind, bucket))]
    return "\n".join(lines)


def _as_json(value: object) -> list[str]:
    return ["", "```json", json.dumps(value, indent=2), "```", ""]


def classes() -> str:
    rows = [f"| `{each.name}` | {each.meaning} | {each.owner} | {each.next_step} |" for each in BY_NAME.values()]
    return "\n".join(("| class | what it means | whose | what to do |", "|---|---|---|---|", *rows)) + "\n"


PARTS = (
    Part("states.md", "states", "billing/states", lives),
    Part("application.md", "states", "billing/states", lives_of_an_application),
    Part("finance/aws.md", "policies", "archive/keeping/bucket_rules.py and jobs/access/kinds.py", aws),
    Part("moves/reconciliation.md", "classes", "jobs/reconciliation/classes.py", classes),
    Part("operate/housekeeping.md", "retention", "jobs/growth/retention.py", retention),
    Part("operate/metrics.md", "metrics", "jobs/metrics/instruments.py", metrics),
    Part("operate/retries.md", "retries", "jobs/road/retries.py", retries),
)


if __name__ == "__main__":
    sys.exit(main())
