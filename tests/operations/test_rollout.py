"""docs/operate/deploy.md is played: a contract gets a second version while processes of both share one database."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from command import settings
from service import Service, eventually
from test_toy_operation import make_table, request_label

__all__ = ["settings"]

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "operate" / "deploy.md").read_text()


class Process:
    """A process with one version of the table of contracts."""

    def __init__(self, known: str, url: str) -> None:
        program = [sys.executable, str(HERE / "rollout_process.py"), known, url]
        path = {"PYTHONPATH": f"{HERE}:{HERE.parent}:{HERE.parents[1]}"}
        self._child = subprocess.Popen(
            program, env={**os.environ, **path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, deed: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{deed}\n")
        self._child.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        answer: dict[str, Any] = json.loads(self._child.stdout.readline())
        return answer

    def do(self, deed: str) -> dict[str, Any]:
        self.begin(deed)
        return self.end()

    def close(self) -> None:
        self._child.communicate(timeout=60)
        assert self._child.returncode == 0


@pytest.fixture
def processes(service: Service, settings: dict[str, str]) -> Iterator[dict[str, Process]]:
    make_table(service)
    with ExitStack() as stack:
        started = {known: Process(known, service.url) for known in ("old", "both", "new")}
        for process in started.values():
            stack.callback(process.close)
        yield started


def commands(step: int) -> list[str]:
    """What the page says to run in this step, for the toy contract."""
    section = PAGE.partition(f"\n## {step}. ")[2].partition("\n## ")[0]
    found = re.findall(r"^```sh\nbilling (.*?)\n```$", section, re.MULTILINE)
    assert found
    return [command.replace("take_capture", "write_label") for command in found]


def test_the_four_steps_of_the_page_lose_nothing_and_each_command_proves_its_step(
    service: Service, processes: dict[str, Process]
) -> None:
    old, both, new = processes["old"], processes["both"], processes["new"]
    asked = 0

    def ask(version: int) -> str:
        nonlocal asked
        asked += 1
        label = request_label(service, service.intents()[0], "gift", f"label-{asked}")
        service.execute("UPDATE billing.facts SET version = :version WHERE entity_id = :id", version=version, id=label)
        return label

    def state(label: str) -> str:
        with service.engine.connect() as connection:
            return str(
                connection.exec_driver_sql(f"SELECT state FROM billing.labels WHERE id = '{label}'").scalar_one()
            )

    def written(label: str, by: Process) -> None:
        """A call may be lost on a busy machine, and is then made again."""
        eventually(lambda: by.do("turn") and state(label) == "written", f"{label} is written")

    # 1. The old version works alone; the new one is checked, and then runs beside it.
    check, listing = commands(1)
    first = ask(1)
    assert both.do(check)["status"] == 0
    written(first, by=old)
    assert all(name in both.do(listing)["out"] for name in ("write_label:1", "write_label:2"))
    beside = [ask(1), ask(1)]
    old.begin("turn")
    both.begin("turn")
    old.end()
    both.end()
    for label in beside:
        written(label, by=both)

    # 2. An application writes the new fact. What is left of the old version leaves it alone, or parks its work.
    (check,) = commands(2)
    newer = ask(2)
    old.do("turn")
    left = old.do(check)
    assert (left["status"], "label.requested:2: 1 unplanned" in left["out"]) == (1, True)
    assert both.do(check)["status"] == 0
    both.do("plan")
    old.do("turn")
    assert (service.work(newer).state, service.work(newer).attempts) == ("parked", 0)
    written(newer, by=both)

    # 3. The old version drains.
    (drained,) = commands(3)
    last = ask(1)
    assert both.do(drained) == {
        "status": 1,
        "out": "write_label:1: 1 fact unplanned; wait, and see whether an old application still writes them\n",
    }
    written(last, by=both)
    assert both.do(drained)["status"] == 0

    # 4. The old version is removed: nothing waits for it. What came too late is named, parked, and not lost.
    (check,) = commands(4)
    assert new.do(check)["status"] == 0
    late = ask(1)
    named = new.do(check)
    assert (named["status"], "label.requested:1: 1 unplanned" in named["out"]) == (1, True)
    written(late, by=both)
