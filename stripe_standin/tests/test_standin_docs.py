"""The README of the stand-in is true: its code runs, and it leaves nothing out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from stripe_standin.control import Control
from stripe_standin.faults import FAULTS
from stripe_standin.history import EFFECTS

PAGE = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_pages_code_runs(url, control):
    blocks = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "pytest.fixture" not in block]
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("http://127.0.0.1:12111", url), names)  # noqa: S102 - our own page
    assert len(blocks) == 9


def test_the_pages_fixtures_work(tmp_path):
    (fixtures,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "pytest.fixture" in block]
    (tmp_path / "conftest.py").write_text(fixtures)
    (tmp_path / "test_it.py").write_text("def test_it(standin):\n    assert standin.health()['ok']\n")
    program = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, timeout=200)
    assert "1 passed" in ran.stdout, ran.stdout


@pytest.mark.parametrize("kind", EFFECTS)
def test_every_kind_of_effect_is_on_the_page(kind):
    assert f"`{kind}`" in PAGE


def test_every_setting_of_webhooks_is_on_the_page(control):
    for setting in control.webhooks()["settings"]:
        assert f"| `{setting}` |" in PAGE


@pytest.mark.parametrize("method", [name for name in vars(Control) if not name.startswith("_")])
def test_every_method_of_control_is_on_the_page(method):
    assert f"`{method}`" in PAGE


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_on_the_page(fault):
    assert f"`{fault}`" in PAGE


def test_every_option_is_on_the_page():
    shown = subprocess.run(
        [sys.executable, "-m", "stripe_standin", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in set(re.findall(r"(?<= )--[a-z-]+", shown)) - {"--help"}:
        assert f"`{option}`" in PAGE


def test_every_admin_route_is_on_the_page(raw):
    known = raw("GET", "/_standin/nothing", api_key=None).json()["error"].partition("there are: ")[2]
    for route in known.split(", "):
        assert f"`{route}`" in PAGE
