"""Every runbook has the same short form, and names only what exists."""

import re
from pathlib import Path

import pytest
from command import is_command
from ruamel.yaml import YAML
from runbook import FOLDER, SECTIONS, commands, is_shown, sections

ROOT = Path(__file__).parents[2]
INDEX = (FOLDER / "README.md").read_text()
PAGES = re.findall(r"\(([a-z-]+)\.md\)", INDEX.partition("## At night")[2].partition("If you do not know")[0])
ALERTS = dict(
    re.findall(
        r"alert: (\w+)\n.*?runbook: docs/operate/([a-z-]+)\.md",
        (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(),
        re.DOTALL,
    )
)
PLAYED = "".join(path.read_text() for path in Path(__file__).parent.glob("test_runbooks_of_*.py"))
EVENTS = set(re.findall(r"^\| `(\w+\.\w+)` \|", (ROOT / "docs" / "logs.md").read_text(), re.MULTILINE))

every_page = pytest.mark.parametrize("page", PAGES)


def text(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text()


@every_page
def test_a_runbook_is_short_and_has_its_sections_in_their_order(page: str) -> None:
    found = sections(text(page))
    assert [name for name in found if name in SECTIONS] == list(SECTIONS)
    assert list(found)[-1] == SECTIONS[-1]
    assert len(commands(found["First three commands"])) >= 3
    assert commands(found["It is over"])
    assert len(text(page).splitlines()) <= 60


@every_page
def test_a_runbook_is_played_from_its_first_section_to_its_last(page: str) -> None:
    (scenario,) = re.findall(rf"^def test_{page.replace('-', '_')}\(.*?(?=^def |\Z)", PLAYED, re.DOTALL | re.MULTILINE)
    assert re.search(rf'[Pp]lay\(\s*"{page}"', scenario)
    assert "until_over()" in scenario


@every_page
def test_a_runbook_names_the_alerts_that_lead_to_it(page: str) -> None:
    symptoms = sections(text(page))["You see"]
    assert {alert for alert, leads_to in ALERTS.items() if leads_to == page} <= set(
        re.findall(r"`(Billing\w+)`", symptoms)
    )
    assert set(re.findall(r"`(Billing\w+)`", text(page))) <= set(ALERTS)


@every_page
def test_a_runbook_names_only_events_and_commands_that_exist(page: str) -> None:
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", text(page))) - EVENTS <= {"billing.toml", "redis.acl"}
    named = re.findall(r"`billing ([a-z][^`]*)`", text(page).replace("\n", " "))
    assert [words for words in named if not is_command(words.split())] == []


@every_page
def test_what_a_runbook_does_with_containers_is_done_with_those_of_the_compose_file(page: str) -> None:
    file = YAML(typ="safe", pure=True).load(ROOT / "docker-compose.yml")
    for command in commands(text(page)):
        match command.words.split():
            case ["docker", "compose", "run", "--rm", service, *_] | ["docker", "compose", "exec", "-T", service, *_]:
                named = [service]
            case ["docker", "compose", "exec", service, *_]:
                named = [service]
            case ["docker", "compose", "ps" | "logs" | "stop" | "start" | "restart", *rest]:
                named = [word for word in rest if not word.startswith("-")]
            case _:
                continue
        assert named != []
        assert set(named) <= set(file["services"]), command.words


def test_whoever_made_the_secrets_may_write_a_new_key_as_the_runbook_does() -> None:
    assert "$ cat > secrets/stripe_key" in text("key-leaked")
    (mode,) = re.findall(r"chmod (\d+) secrets/stripe_key", (ROOT / "Makefile").read_text())
    assert int(mode, 8) == 0o644, "containers have another user, and read it"


def test_the_index_leads_to_every_page_and_each_alert_leads_to_a_runbook_of_it() -> None:
    assert set(ALERTS.values()) <= set(PAGES)
    listed = set(re.findall(r"\]\(([a-z-]+)\.md\)", INDEX))
    assert {path.stem for path in FOLDER.glob("*.md")} - {"README"} == listed


def test_what_a_page_shows_is_compared_but_for_what_differs_each_time() -> None:
    shown = ["WARN  archive  3 facts wait, the oldest for 7200 s -> …", "ok  redis  version 9.1.2"]
    answer = "ok  x\nWARN  archive   3 facts wait, the oldest for 61 s -> start\nok    redis   version 8\n"
    assert is_shown(shown, answer)
    assert not is_shown(shown[::-1], answer)
    assert not is_shown(shown, answer.replace("3 facts", "4 facts"))
    assert not is_shown(["wrk_1 is ready"], "cap_1 is ready\n")
