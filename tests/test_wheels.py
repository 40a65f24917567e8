"""What is installed where there is no checkout: two wheels, and the service works with its own alone."""

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from service import Service, eventually

from jobs.local.supervisor import Child

ROOT = Path(__file__).parents[1]
PACKAGES = {ROOT: ("archive", "billing", "jobs"), ROOT / "stripe_standin": ("stripe_standin",)}

ASK = """
import sys

import billing
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

database_url, payment_intent = sys.argv[1:]
with Session(create_engine(database_url)) as session, session.begin():
    receipt = billing.request_capture(
        session, payment_intent=payment_intent, amount=billing.Money(1999, "USD"), request_id="from-the-wheel"
    )
print(receipt.capture_id)
"""


def pip(*arguments: str | Path) -> None:
    """Offline: with what is installed here, and nothing else."""
    program = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    ran = subprocess.run([*program, "--no-index", "--no-deps"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def wheel_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The wheel of a project, built as anybody builds it from a checkout."""
    built: dict[Path, Path] = {}

    def build(project: Path) -> Path:
        if project not in built:
            directory = tmp_path_factory.mktemp("wheel")
            pip("wheel", project, "--no-build-isolation", "--wheel-dir", directory)
            (built[project],) = directory.glob("*.whl")
        return built[project]

    return build


@pytest.fixture(scope="module")
def programs(wheel_of: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `python` and `billing` lie in a fresh environment with the service's wheel and the packages of the lock.

    The packages are those that are installed here. Whatever is installed from this checkout stays out, because Python
    reads no .pth files in a directory that another .pth file names.
    """
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=200)
    pip("--python", environment / "bin" / "python", "install", wheel_of(ROOT))
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "locked.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def python(programs: Path, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "python", *arguments], cwd=at, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.mark.parametrize("project", PACKAGES, ids=lambda project: PACKAGES[project][-1])
def test_a_wheel_holds_every_file_of_its_packages_and_nothing_else(
    project: Path, wheel_of: Callable[[Path], Path]
) -> None:
    held = {name for name in zipfile.ZipFile(wheel_of(project)).namelist() if ".dist-info/" not in name}
    source = project / "src" if (project / "src").exists() else project
    files = [path for package in PACKAGES[project] for path in (source / package).rglob("*") if path.is_file()]
    assert held == {str(path.relative_to(source)) for path in files if "__pycache__" not in path.parts}
    assert f"{PACKAGES[project][-1]}/py.typed" in held


def test_both_wheels_carry_the_license(wheel_of: Callable[[Path], Path]) -> None:
    for project in PACKAGES:
        wheel = zipfile.ZipFile(wheel_of(project))
        (license_,) = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
        assert wheel.read(license_) == (ROOT / "LICENSE").read_bytes()


def test_with_its_wheel_alone_the_service_takes_a_capture(
    programs: Path, service: Service, spawn: Callable[..., Child], tmp_path: Path
) -> None:
    apart = python(programs, "-c", "import billing, jobs; print(billing.__file__, jobs.__file__)", at=tmp_path)
    assert all(path.startswith(str(programs.parent)) for path in apart.stdout.split()), apart.stdout + apart.stderr
    assert "No module named 'stripe_standin'" in python(programs, "-c", "import stripe_standin", at=tmp_path).stderr
    asked = python(programs, "-c", ASK, service.url, service.intents()[0], at=tmp_path)
    assert asked.returncode == 0, asked.stderr
    for role in (("relay",), ("worker", "captures")):
        spawn(*role, program=[programs / "billing"])
    capture_id = asked.stdout.strip()
    eventually(lambda: service.status(capture_id).final, "the capture is final")
    assert service.status(capture_id).state == "captured"
    assert len(service.effects("capture")) == 1


def test_a_card_is_authorized_at_a_stand_in_that_runs_elsewhere(
    programs: Path, service: Service, spawn: Callable[..., Child]
) -> None:
    made = spawn("standin", "authorize", "1999", "USD", program=[programs / "billing"])
    assert made.wait(60.0) == 0, made.output()
    assert made.output().strip() == service.effects("authorization")[0]["id"]


@pytest.mark.parametrize("command", ["up", "demo"])
def test_what_starts_a_stand_in_says_that_none_is_installed(
    command: str, programs: Path, nothing_set: None, tmp_path: Path
) -> None:
    asked = python(programs, "-m", "jobs.cli", command, at=tmp_path)
    assert asked.returncode == 2
    assert asked.stderr.splitlines()[-1].startswith("billing: the Stripe stand-in is not installed")
    assert "`pip install ./stripe_standin`" in asked.stderr
