"""The README is true: its code runs, its links lead somewhere, its commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest
from service import Service

from jobs.config.settings import Settings
from jobs.config.sources import variable

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/operate", "docs/finance", "docs/moves", "stripe_standin")
    for page in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readme_s_example_runs_and_its_capture_is_taken(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(ROOT / "README.md", "python")
    names = {"engine": service.engine, "payment_intent": service.intents()[0]}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102 - our own page
    assert capsys.readouterr().out == "requested\n"
    capture_id = names["receipt"].capture_id  # type: ignore[attr-defined]
    assert service.settle(capture_id) == ["captured"]


def test_the_page_for_applications_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"payment_intent": service.intents()[0], "database_url": service.url}
    printed = []
    for number, block in enumerate(blocks(ROOT / "docs" / "application.md", "python")):
        exec(compile(block, f"application.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        printed.append(capsys.readouterr().out.splitlines())
        if number == 3:
            service.settle(names["receipt"].capture_id)
    names["engine"].dispose()
    assert printed == [
        [],
        [],
        [],
        ["requested False a relay plans the work"],
        ["paid"],
        ["('captured', ['requested', 'captured'])"],
        ["order-42 requested", "order-42 captured"],
    ]


def test_the_page_about_captures_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    made = "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    several = "&payment_method_options[card][request_multicapture]=if_available"
    names: dict[str, Any] = {
        "engine": service.engine,
        "payment_intent": service.by_hand("/v1/payment_intents", made + several),
        "payment_intent_of_a_platform": service.by_hand(
            "/v1/payment_intents", made + "&transfer_data[destination]=acct_2"
        ),
    }
    for number, block in enumerate(blocks(ROOT / "docs" / "moves" / "captures.md", "python")):
        exec(compile(block, f"captures.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        if number == 0:
            service.settle(*(receipt.capture_id for receipt in names["parcels"]))
    assert capsys.readouterr().out == "captured\ncaptured\nTrue\ncaptured True None\n"
    assert service.settle(names["receipt"].capture_id) == ["captured"]


def test_the_page_that_leads_to_all_moves_runs_from_its_first_block_to_its_last(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    made = "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    several = "&payment_method_options[card][request_multicapture]=if_available"
    names: dict[str, Any] = {
        "engine": service.engine,
        "payment_intent": service.by_hand("/v1/payment_intents", made + several),
    }
    page = ROOT / "docs" / "moves" / "README.md"
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"moves/README.md, block {number}", "exec"), names)  # noqa: S102 - our own page
        if number == 0:
            assert service.settle(names["first"].capture_id, names["second"].capture_id) == ["captured"] * 2
        if number == 1:
            assert service.settle(names["returned"].refund_id) == ["succeeded"]
    assert capsys.readouterr().out == "6.00 USD\ncaptured\ncaptured\nsucceeded\n"


def test_the_page_that_leads_to_all_moves_leads_to_each_of_its_pages() -> None:
    folder = ROOT / "docs" / "moves"
    linked = {link.partition("#")[0] for link in LINK.findall((folder / "README.md").read_text())}
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= linked


def test_the_readme_s_commands_are_targets_of_the_makefile() -> None:
    (commands,) = blocks(ROOT / "README.md", "sh")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", commands, re.MULTILINE)) <= targets


def test_the_makefile_names_tests_that_exist() -> None:
    """`make chaos` runs six, and hours pass until somebody does."""
    named = re.findall(r"([\w/]+\.py)(?:::(\w+))?", (ROOT / "Makefile").read_text())
    assert {path for path, _ in named} >= {"tests/crash/test_chaos.py", "tests/archive/test_two_archivers.py"}
    assert [path for path, name in named if f"def {name}" not in (ROOT / path).read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_our_pages_leads_to_a_file(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if not link.startswith(("http", "mailto"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("next_move", "billing/idempotency.py"),
        ("claim_ready", "jobs/road/work_queue.sql"),
        ("VERDICTS", "jobs/road/verdicts.py"),
    ],
)
def test_the_three_pages_that_carry_it_hold_what_the_readme_says(name: str, place: str) -> None:
    assert f"[`{name}`]({place})" in (ROOT / "README.md").read_text()
    assert re.search(rf"^(def |-- name: )?{name}\b", (ROOT / place).read_text(), re.MULTILINE)


def test_every_room_is_on_the_readme_s_map() -> None:
    readme = (ROOT / "README.md").read_text()
    rooms = [path for package in ("billing", "archive", "jobs") for path in (ROOT / package).glob("*.py")]
    unnamed = [path.name for path in rooms if path.name not in readme and not path.name.startswith("__")]
    assert unnamed == []


def test_every_setting_is_described_on_its_page_as_in_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{variable(name)}` |"))
        assert str(field.description) in row
    assert len(re.findall(r"^\| `", page, re.MULTILINE)) == len(Settings.model_fields)
