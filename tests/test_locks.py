"""All locks meet what both pyproject.toml ask for, name no host, and can be checked byte by byte. Offline."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
STANDIN_PROJECT = tomllib.loads((ROOT / "stripe_standin" / "pyproject.toml").read_text())
PRODUCT, EVERYTHING = "requirements/product.lock", "requirements/dev.lock"
# What the images need besides: the one in its last stage, the other in its first.
STANDIN, BUILD = "stripe_standin/requirements.lock", "requirements/build.lock"
LOCKS = [PRODUCT, STANDIN, BUILD, EVERYTHING]


def asked_of(lock: str) -> list[Requirement]:
    asked = {
        PRODUCT: PROJECT["project"]["dependencies"],
        STANDIN: STANDIN_PROJECT["project"]["dependencies"],
        # The package itself is installed without a network, so its builder must be there.
        BUILD: PROJECT["dependency-groups"]["build"] + PROJECT["build-system"]["requires"],
    }
    if lock != EVERYTHING:
        return [Requirement(line) for line in asked[lock]]
    extras = [project["project"]["optional-dependencies"] for project in (PROJECT, STANDIN_PROJECT)]
    everything = [*asked.values(), *(lines for extra in extras for lines in extra.values())]
    return [Requirement(line) for lines in everything for line in lines]


def entries_of(text: str) -> list[str]:
    """One string per pinned package, with its hashes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def pins_of(text: str) -> dict[str, list[Requirement]]:
    """By name; a universal lock may pin a package once per platform."""
    pins: dict[str, list[Requirement]] = {}
    for entry in entries_of(text):
        pin = Requirement(entry.partition("--hash")[0].strip())
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version_of(pin: Requirement) -> str:
    (exact,) = pin.specifier
    assert exact.operator == "=="
    return exact.version


def out_of_step(asked: list[Requirement], pins: dict[str, list[Requirement]]) -> list[str]:
    missing = [str(one) for one in asked if canonicalize_name(one.name) not in pins]
    unmet = [
        f"{one} is pinned as {pin}"
        for one in asked
        for pin in pins.get(canonicalize_name(one.name), [])
        if not one.specifier.contains(version_of(pin), prereleases=True)
    ]
    return missing + unmet


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_met_by_its_pin(lock):
    assert out_of_step(asked_of(lock), pins_of((ROOT / lock).read_text())) == [], "run `make lock`"


def test_a_pin_out_of_step_and_a_missing_one_are_found():
    pins = pins_of("rq==2.9.0 \\\n    --hash=sha256:00\n    # via x\n")
    assert out_of_step([Requirement("rq==3.0.0"), Requirement("redis>=8")], pins) == [
        "redis>=8",
        "rq==3.0.0 is pinned as rq==2.9.0",
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_hashes(lock):
    for entry in entries_of((ROOT / lock).read_text()):
        pin, *hashes = re.split(r"\s+--hash=", entry.strip())
        assert version_of(Requirement(pin))
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_host(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE)  # no option but the hashes


@pytest.mark.parametrize("lock", [PRODUCT, STANDIN, BUILD])
def test_what_is_tested_is_what_is_deployed(lock):
    tested = pins_of((ROOT / EVERYTHING).read_text())
    for name, pins in pins_of((ROOT / lock).read_text()).items():
        assert list(map(version_of, pins)) == list(map(version_of, tested[name])), name
