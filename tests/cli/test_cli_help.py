"""Every command teaches itself, and stands in docs/cli.md."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archive.compacting.ddl import ENGINES
from archive.queries.plots import PLOTS
from billing.operations import OPERATIONS
from billing.scopes import KINDS
from jobs.access.kinds import S3_POLICIES
from jobs.cli import whole
from jobs.config import queues

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, each in inner.items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands(whole()))


def test_every_command_is_on_the_page():
    assert [name for name in COMMANDS if f"\n### `billing {name}" not in PAGE] == []


def test_every_option_is_on_the_page():
    for name, command in COMMANDS.items():
        section = PAGE.partition(f"### `billing {name}")[2].partition("\n### ")[0]
        for parameter in command.params:
            for option in (o for o in getattr(parameter, "opts", []) if o.startswith("--") and o != "--help"):
                assert f"`{option}" in section, f"billing {name} {option}"


def test_every_command_has_help_with_an_example():
    assert [name for name, command in COMMANDS.items() if f"billing {name}" not in command.help] == []


def test_whatever_prints_data_prints_json_too():
    without = {
        name
        for name, command in COMMANDS.items()
        if "--json" not in [option for parameter in command.params for option in parameter.opts]
    }
    assert without <= {"relay", "serve", "worker"}


def test_nothing_on_the_page_is_no_command():
    titles = [line.removeprefix("### `billing ") for line in PAGE.splitlines() if line.startswith("### `billing ")]
    for title in titles:
        assert any(title.startswith(name) for name in COMMANDS), title


def test_version_and_help_answer_without_loading_the_service():
    script = (
        "import sys; from jobs.cli import app\n"
        "app(['--version'], standalone_mode=False)\n"
        "app(['capture', '--help'], standalone_mode=False)\n"
        "print([m for m in ('sqlalchemy', 'stripe', 'redis', 'rq', 'pydantic_settings') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("billing ")
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_paragraphs_of_the_help_flow():
    for name, command in COMMANDS.items():
        for paragraph in command.help.split("\n\n"):
            assert paragraph.startswith("\b") or "\n" not in paragraph, name


def test_no_command_at_all_shows_the_help(run):
    ran = run()
    assert ran.status == 2
    assert "Commands" in ran.out or "On call" in ran.out
    assert ran.err == ""


SCOPES = {each.scope for each in OPERATIONS.values() if each.scope} | {
    name for kind in KINDS for name in kind.written.split(", ")
}
CHOICES = {
    "switch pull": ("scope", SCOPES),
    "switch release": ("scope", SCOPES),
    "worker": ("queue", set(queues.NAMES)),
    "health": ("role", {"relay", "archiver", "web", *(f"worker-{queue}" for queue in queues.NAMES)}),
    "archive ddl": ("engine", set(ENGINES)),
    "archive plot": ("name", set(PLOTS)),
    "access policy": ("kind", set(S3_POLICIES)),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_help_names_the_choices_that_the_code_has(name):
    """Some are literals in the help, because importing their tables would slow down `billing --help`."""
    argument, choices = CHOICES[name]
    (text,) = [parameter.help for parameter in COMMANDS[name].params if parameter.name == argument]
    assert set(re.split(", | or ", text)) == choices
