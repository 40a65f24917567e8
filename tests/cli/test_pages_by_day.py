"""The pages of docs/operate that no other test follows: their commands run, and their numbers are those of the code."""

import re
from pathlib import Path

import pytest

from billing.timing import PRODUCTION
from jobs.config.queues import QUEUES
from jobs.config.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "operate"


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", (FOLDER / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(("page", "count"), [("isolation", 1), ("retries", 2)])
def test_every_command_of_the_page_runs_as_it_is_shown(run, service, page, count):
    service.ask_for_capture()
    service.plan()
    assert len(commands(page)) == count
    for words in commands(page):
        ran = run(*words.split()[1:])
        assert (ran.status, ran.err) == (0, ""), words


def test_the_profile_of_each_queue_is_the_one_in_the_code():
    rows = re.findall(
        r"^\| `(\w+)` \|.*?\| (\d+) \| (\d+) \| (\d+) \| (\d+) s \|", (FOLDER / "isolation.md").read_text(), re.M
    )
    assert {name: tuple(map(float, numbers)) for name, *numbers in rows} == {
        queue.name: (
            Settings.model_fields[f"workers_{queue.name}"].default,
            Settings.model_fields[f"crew_{queue.name}"].default,
            Settings.model_fields[f"memory_{queue.name}_mb"].default,
            PRODUCTION.call_budget_s,
        )
        for queue in QUEUES
    }
