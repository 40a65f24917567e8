"""README.md and docs/deployment.md tell what docker-compose.yml does."""

import re
import shlex
from pathlib import Path

import pytest
from command import is_command
from files import COMPOSE, FILE, OURS, ROOT, SERVICES, VERSION, entrypoint, read, refused

from jobs.config import loading, settings, sources

README = (ROOT / "README.md").read_text().partition("## Deploy it")[2].partition("\n## ")[0]
PAGE = (ROOT / "docs" / "deployment.md").read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the first table."""
    table = re.search(r"(^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def consoles(text: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_both_tables_name_every_service_and_no_other() -> None:
    short = [name for row in rows(README) for name in re.findall(r"`([\w-]+)`", row[0])]
    long = [row[0].strip("`") for row in rows(PAGE.partition("## What runs")[2])]
    assert sorted(short) == sorted(long) == sorted(SERVICES)


def test_what_is_published_is_what_the_pages_say() -> None:
    ports = {port.rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", [])}
    assert set(re.findall(r"127\.0\.0\.1:\d+", README)) == ports
    assert {f"127.0.0.1:{port}" for port in re.findall(r"\(127\.0\.0\.1:(\d+), or `", PAGE)} == ports
    for variable in re.findall(r"or `([A-Z_]+)`\)", PAGE):
        assert f"${{{variable}:-" in COMPOSE


@pytest.mark.parametrize("name", SERVICES)
def test_a_row_tells_the_command_and_the_networks(name: str) -> None:
    (_, command, _, networks) = next(row for row in rows(PAGE.partition("## What runs")[2]) if row[0] == f"`{name}`")
    assert networks.split(", ") == SERVICES[name]["networks"]
    if name in OURS:
        words = [*entrypoint("service"), *SERVICES[name]["command"]]
        assert shlex.split(command.split("`")[1]) == [word for word in words if not word.startswith("/")]


@pytest.mark.parametrize("line", consoles(README) + consoles(PAGE))
def test_every_command_of_the_pages_exists(line: str) -> None:
    for command in line.partition("#")[0].split("&&"):
        words = shlex.split(command)
        match words:
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case ["docker", "compose", "run", "--rm", service, *rest]:
                assert service in SERVICES
                assert is_command(rest)
            case ["docker", "compose", verb, *rest]:
                assert verb in ("up", "ps", "logs", "stop", "down", "exec")
                assert {word for word in rest if not word.startswith("-")} <= set(SERVICES)
            case ["docker", "run", *rest]:
                assert FILE["x-images"]["service"] in rest
                assert is_command(rest[rest.index(FILE["x-images"]["service"]) + 1 :])
            case ["docker", "build", *rest]:
                assert rest == ["--target", "service", "-t", f"billing-reference:{VERSION}", "."]
            case _:
                assert words[0] in ("git", "mkdir", "echo", "export")


def test_a_command_that_is_none_is_found() -> None:
    assert is_command(["switch", "pull", "captures"])
    assert not is_command(["switch", "push"])
    assert not is_command(["archive"])


def test_every_command_in_the_text_exists() -> None:
    named = re.findall(r"`billing ([a-z][^`]*)`", (README + PAGE).replace("\n", " "))
    assert len(named) > 10
    assert [words for words in named if not is_command(words.split())] == []


def for_stripe_itself(environment: str) -> str:
    """The file after the steps that the page tells."""
    text = COMPOSE.replace("BILLING_ENVIRONMENT: development", f"BILLING_ENVIRONMENT: {environment}")
    text = re.sub(r"^  STRIPE_API_BASE: .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^  standin: &.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^      standin: \{.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^  standin:\n(    .*\n|\n)+", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_steps_to_stripe_itself_lead_to_a_file_that_holds(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = for_stripe_itself(environment)
    services = read(text)["services"]
    assert refused(text, tmp_path / "docker-compose.yml") == ""
    assert set(SERVICES) - set(services) == {"standin"}
    assert {other for service in services.values() for other in service.get("depends_on", {})} <= set(services)
    monkeypatch.chdir(tmp_path)
    for field in settings.Settings.model_fields:
        monkeypatch.delenv(sources.variable(field), raising=False)
    for variable, value in services["worker-captures"]["environment"].items():
        monkeypatch.setenv(variable, value)
    loaded = loading.load()
    assert (loaded.environment, loaded.stripe_api_base) == (environment, "https://api.stripe.com")
