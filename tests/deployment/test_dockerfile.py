"""The Dockerfile, read from the file itself: who runs, what is in the images, and where it came from."""

import fnmatch
import json
import re
import shlex

import pytest
from files import (
    DOCKERFILE,
    FILE,
    PROJECT,
    ROOT,
    SERVICES,
    STANDIN_PROJECT,
    VERSION,
    entrypoint,
    environment,
    inherited,
    stages,
)

TARGETS = sorted({service["build"]["target"] for service in SERVICES.values() if "build" in service})
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def sources(text: str = DOCKERFILE) -> list[str]:
    """What is copied out of this repository."""
    copies = [shlex.split(line) for stage in stages(text).values() for line in stage.all("COPY")]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def in_context(source: str) -> bool:
    """As Docker reads .dockerignore: the last line that fits the path, or a folder that it is in, decides."""
    parts = source.strip("/").split("/")
    within = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    verdict = True
    for line in IGNORED:
        pattern = line.removeprefix("!").strip("/")
        if any(fnmatch.fnmatchcase(path, pattern) for path in within):
            verdict = line.startswith("!")
    return verdict


def test_both_images_are_targets_of_the_file_and_the_service_is_what_it_makes_by_default() -> None:
    assert TARGETS == ["service", "standin"]
    assert set(TARGETS) < set(stages())
    assert list(stages())[-1] == "service"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_the_user_that_compose_names(target: str) -> None:
    (user,) = inherited(target, "USER")
    named = {one["user"] for one in SERVICES.values() if one.get("build", {}).get("target") == target}
    assert named == {user}
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_the_installed_product_comes_into_an_image(target: str) -> None:
    assert stages()["runtime"].base == "${PYTHON}"
    assert [line.split()[1:] for line in inherited(target, "COPY")] == [["/opt/venv", "/opt/venv"]]
    assert not [line for line in inherited(target, "RUN") if "pip" in line or "apt" in line]


def test_everything_that_is_copied_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    assert [source for source in sources() if not (ROOT / source).exists()] == []
    assert [source for source in sources() if not in_context(source)] == []
    assert set(PACKAGES) <= {source.strip("/") for source in sources()}
    sent = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert [each for each in sent if not any(source.startswith(each) for source in sources())] == []


def test_secrets_are_kept_out_of_git_and_of_the_images() -> None:
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "secrets/" in IGNORED
    assert not in_context("secrets/stripe_key")
    assert not in_context("secrets")
    assert in_context("billing")


def unhashed(text: str) -> list[str]:
    """Installations that would take bytes which no lock names."""
    installs = [
        (stage.name, command)
        for stage in stages(text).values()
        for line in stage.all("RUN")
        for command in line.split("&&")
        if "pip" in command and " install " in command
    ]
    demanded = {
        name for name in stages(text) if any("PIP_REQUIRE_HASHES=1" in one for one in inherited(name, "ENV", text))
    }
    return [
        command
        for stage, command in installs
        if not ("--no-index" in command and "--no-deps" in command)
        and not (stage in demanded and re.search(r"-r \S+\.lock", command) and "REQUIRE_HASHES=0" not in command)
    ]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("PIP_REQUIRE_HASHES=1", "PIP_REQUIRE_HASHES=0"),
        ("install -r requirements/product.lock", "install rq"),
        (" --no-index", ""),
    ],
)
def test_everything_that_is_installed_is_checked_against_its_hash(right: str, wrong: str) -> None:
    assert unhashed(DOCKERFILE) == []
    assert right in DOCKERFILE
    assert unhashed(DOCKERFILE.replace(right, wrong)) != []


def test_what_starts_is_a_program_of_the_project() -> None:
    assert entrypoint("service") == ["billing"]
    assert "billing" in PROJECT["project"]["scripts"]
    assert entrypoint("standin") == ["stripe-standin"]
    assert "stripe-standin" in STANDIN_PROJECT["project"]["scripts"]
    assert {environment(target)["PATH"].split(":")[0] for target in TARGETS} == {"/opt/venv/bin"}


def test_the_python_is_the_one_that_the_locks_are_made_for() -> None:
    image = re.search(r"^ARG PYTHON=python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    assert image is not None
    assert f"--python-version {image[1]} " in (ROOT / "Makefile").read_text()
    assert PROJECT["project"]["requires-python"] == f">={image[1]}"


def test_the_version_in_the_example_is_the_project_s() -> None:
    assert re.findall(r"-t (\S+) \.", DOCKERFILE) == [FILE["x-images"]["service"]] == [f"billing-reference:{VERSION}"]


def test_the_reader_of_these_tests_sees_what_the_file_says() -> None:
    text = "ARG A=x:1\nFROM ${A} AS one\nUSER 1:1\n# RUN no\nRUN a \\\n    && b\nFROM one AS two\nUSER 2:2\n"
    assert inherited("two", "USER", text) == ["1:1", "2:2"]
    assert [line.split() for line in inherited("two", "RUN", text)] == [["a", "&&", "b"]]
    assert json.loads(inherited("service", "CMD")[-1]) == ["--help"]
