"""Incidents are diagnosed from what `billing explain` prints alone: the cause, and the next safe action.

`told/` holds what is printed about each, with ids numbered and times masked, to be read as examples. After a change on
purpose, run these tests once with TELL_AGAIN=1, and read what changed.
"""

import os
import re
from pathlib import Path

import pytest
from command import Run
from seeded import INCIDENTS, Incident
from service import Service

TOLD = Path(__file__).parent / "told"
PAGE = Path(__file__).parents[2] / "docs" / "operate" / "explain.md"
_ID = re.compile(r"\b(cap|inv|wrk|rec|swi|run|pi|ch|in|cus|req|acct|sub)_([A-Za-z0-9]{12,})\b")


def masked(text: str) -> str:
    """With every id numbered, and without times, durations and the widths of columns."""
    seen: dict[str, list[str]] = {}

    def numbered(found: re.Match[str]) -> str:
        same = seen.setdefault(found[1], [])
        if found[2] not in same:
            same.append(found[2])
        return f"{found[1]}_{same.index(found[2]) + 1}"

    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?", "(time)", _ID.sub(numbered, text))
    text = re.sub(r"(, )?took_ms \d+", "", text)
    return "\n".join(re.sub(r"(?<=\S) {2,}", "  ", line).rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("incident", INCIDENTS, ids=[incident.name for incident in INCIDENTS])
def test_an_incident_is_diagnosed_from_what_is_printed_alone(run: Run, service: Service, incident: Incident) -> None:
    name = incident.make(service)
    told = run("explain", name)
    assert told.status == 0, told.err
    for words in incident.says:
        assert words in told.out
    (found,) = run("explain", name, "--json").json["operations"]
    its = {"id": found["status"]["id"], "work": found["work"][-1]["id"] if found["work"] else ""}
    command = incident.command and incident.command.format(**its)
    assert (found["advice"]["cause"], found["advice"]["command"]) == (incident.cause, command)
    assert f"do: {command}  # " in told.out if command else "do: nothing" in told.out
    path = TOLD / f"{incident.name}.txt"
    if os.environ.get("TELL_AGAIN"):
        path.write_text(masked(told.out))
    assert masked(told.out) == path.read_text()


def test_at_least_twenty_incidents_are_told_and_nothing_else() -> None:
    assert len(INCIDENTS) >= 20
    assert sorted(path.stem for path in TOLD.iterdir()) == sorted(incident.name for incident in INCIDENTS)


def test_the_page_shows_the_cause_and_the_action_of_each_incident_as_they_are_printed() -> None:
    page = PAGE.read_text()
    for incident in INCIDENTS:
        told = (TOLD / f"{incident.name}.txt").read_text().splitlines()
        for line in told:
            if line.startswith(("why: ", "do: ")):
                assert line in page, incident.name
