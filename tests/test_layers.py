"""The service stays in order: who may import whom, read from the source itself."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A distribution of its own, in a layout of its own.
STANDIN = ROOT / "stripe_standin" / "src"
PACKAGES = ("billing", "archive", "jobs", "stripe_standin")

# Each may import itself and these.
BELOW = {
    "billing": set(),
    "archive": {"billing"},
    "stripe_standin": set(),
    # What starts a stand-in on this machine; a test below says how far inside that is.
    "jobs": {"archive", "billing", "stripe_standin"},
}

# The folders of a package, from the lowest floor up. Each imports itself and what lies on a lower floor.
FLOORS = {
    "archive": (
        {"archive.errors"},
        {"archive.files"},
        {"archive.policy"},
        {"archive.s3"},
        {"archive.signing"},
        {"archive.format"},
        {"archive.writing", "archive.copies", "archive.documents"},
        {"archive.verifying", "archive.queries", "archive.purging"},
        {"archive.keeping", "archive.closing", "archive.scratch", "archive.proving"},
        {"archive.compacting"},
    ),
    "jobs": (
        {"jobs.logs", "jobs.config"},
        {"jobs.rq"},
        {"jobs.growth", "jobs.limits"},
        {"jobs.access", "jobs.road"},
        {"jobs.reconciliation"},
        {"jobs.metrics", "jobs.traces"},
        {"jobs.schedules", "jobs.recovery", "jobs.bulk", "jobs.email", "jobs.documents"},
        {"jobs.process"},
        {"jobs.checkup", "jobs.local", "jobs.web"},
        {"jobs.demo"},
        {"jobs.cli"},
    ),
}

# What comes from outside comes in through few doors. A package in a row opens all its modules.
DOORS = {
    "stripe": {"billing.stripe_gateway"},
    "urllib3": {"billing.transport", "billing.stripe_gateway", "jobs.web.sns", "stripe_standin"},
    "boto3": {
        "archive.s3.connection",
        "archive.s3.plain_bucket",
        "archive.signing.kms",
        "archive.verifying.verify",
        "jobs.config.aws_secrets",
        "jobs.email.ses",
    },
    "babel": {"jobs.email.rendering"},
    "botocore": {
        "archive.s3.connection",
        "archive.s3.abilities",
        "archive.s3.store",
        "archive.s3.plain_bucket",
        "archive.s3.configuration",
        "archive.s3.s3_errors",
        "archive.signing.kms",
        "archive.verifying.verify",
        "jobs.config.aws_secrets",
        "jobs.email.ses",
    },
    "cryptography": {"archive.signing", "archive.verifying.verify", "jobs.web.sns"},
    "pyarrow": {"archive"},
    "duckdb": {"archive.queries", "archive.proving.proof"},
    "croniter": {"jobs.road.ticks"},
    "jinja2": {"jobs.email.rendering"},
    "smtplib": {"jobs.email.smtp"},
    "redis": {"jobs"},
    "reportlab": {"archive.closing.pdf"},
    "opentelemetry": {"jobs.traces.exporter"},
    "prometheus_client": {"jobs.metrics.exporter", "jobs.demo.scraping"},
    "rq": {"jobs.rq.bells", "jobs.rq.overrides"},
    "typer": {"jobs.cli"},
    "uvicorn": {"stripe_standin", "jobs.web.connection", "jobs.web.serving"},
    "httptools": {"stripe_standin"},
    "starlette": {"stripe_standin"},
}

# A drawer collects what nobody wanted to name.
DRAWERS = {"util", "utils", "common", "core", "helper", "helpers", "misc", "base"}

# Here a command imports what it needs, so that `billing --help` does not wait for all of it.
LAZY = {"jobs.cli"}


@dataclass(frozen=True)
class Import:
    by: str
    of: str
    line: int
    in_function: bool
    comment: str


def home_of(package: str) -> Path:
    return (STANDIN if package == "stripe_standin" else ROOT) / package


def module_of(path: Path) -> str:
    parts = path.relative_to(STANDIN if path.is_relative_to(STANDIN) else ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for package in PACKAGES for path in sorted(home_of(package).rglob("*.py"))}


def imports_of(module: str, path: Path) -> Iterator[Import]:
    source = path.read_text()
    lines = source.splitlines()
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = list(imported_from(module, path, node))
        else:
            continue
        comment = lines[node.lineno - 1].partition("#")[2]
        for name in names:
            yield Import(module, name, node.lineno, id(node) in inside, comment)


def imported_from(module: str, path: Path, node: ast.ImportFrom) -> Iterator[str]:
    source = node.module or ""
    if node.level:
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        here = package[: len(package) - node.level + 1]
        source = ".".join([*here, source] if source else here)
    for alias in node.names:
        # `from billing import money` imports the module billing.money.
        submodule = f"{source}.{alias.name}"
        yield submodule if submodule in MODULES else source


@cache
def imports() -> list[Import]:
    """All of our own; read by the first test that asks."""
    return [found for module, path in MODULES.items() for found in imports_of(module, path)]


def within(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def told(imports: list[Import]) -> list[str]:
    return [f"{found.by}:{found.line} imports {found.of}" for found in imports]


def test_the_source_was_read():
    assert {"billing.money", "jobs.config.settings"} <= set(MODULES)
    assert any(found.by == "jobs.process.service" and found.of == "billing.stripe_gateway" for found in imports())


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down_only(package):
    allowed = BELOW[package] | {package}
    own = [found for found in imports() if within(found.by, {package}) and within(found.of, set(PACKAGES))]
    assert told([found for found in own if not within(found.of, allowed)]) == []


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_lies_on_a_floor_and_imports_only_what_is_below(package):
    floors = FLOORS[package]
    rooms = [module for module in MODULES if module.startswith(f"{package}.")]
    assert [room for room in rooms if not any(within(room, floor) for floor in floors)] == []
    up = []
    for height, floor in enumerate(floors):
        below = set().union(*floors[:height])
        for found in imports():
            if within(found.by, floor) and within(found.of, {package}) and found.of != package:
                own = next(folder for folder in floor if within(found.by, {folder}))
                up += [] if within(found.of, below | {own}) else [found]
    assert told(up) == []


@pytest.mark.parametrize("library", DOORS)
def test_a_library_comes_in_through_its_own_door(library):
    users = [found for found in imports() if within(found.of, {library})]
    assert told([found for found in users if not within(found.by, DOORS[library])]) == []


def test_stripe_is_imported_in_exactly_one_file():
    assert {found.by for found in imports() if within(found.of, {"stripe"})} == {"billing.stripe_gateway"}


def test_only_what_runs_on_one_machine_knows_the_stand_in():
    """The service's wheel comes without it, and everything but the local servers and the demo works so."""
    known = [found for found in imports() if within(found.of, {"stripe_standin"})]
    assert told([found for found in known if not within(found.by, {"stripe_standin", "jobs.local", "jobs.demo"})]) == []


def test_an_import_inside_a_function_says_why():
    lazy = [found for found in imports() if found.in_function and not within(found.by, LAZY)]
    # Ruff asks for the `noqa`; this asks for words after it.
    reason = re.compile(r"(lazy:|noqa: PLC0415\W)\s*\W*\w+")
    assert told([found for found in lazy if not reason.search(found.comment)]) == []


def test_no_two_modules_import_each_other():
    """Imports inside functions count as well: a circle that is hidden is still one."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in imports():
        if found.of in MODULES and found.of != found.by:
            graph[found.by].add(found.of)
    # Take away what imports nothing more, until nothing more can be taken away: the rest goes in circles.
    while leaves := {module for module, imported in graph.items() if not imported & graph.keys()}:
        graph = {module: imported for module, imported in graph.items() if module not in leaves}
    # Whoever merely imports somebody in a circle goes, too.
    while roots := graph.keys() - set().union(*graph.values(), set()):
        graph = {module: imported for module, imported in graph.items() if module not in roots}
    assert sorted(graph) == []


def test_there_are_no_drawers():
    assert [module for module in MODULES if DRAWERS & set(module.split("."))] == []


def test_the_domain_and_the_evidence_read_no_environment():
    """They are given what they need; only processes read settings."""
    readers = [
        module
        for module, path in MODULES.items()
        if within(module, {"billing", "archive"})
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert readers == []


def test_every_module_has_a_name_plate():
    """The first sentence of a module says what it is; an empty `__init__` needs none."""
    plain = [
        module
        for module, path in MODULES.items()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert plain == []


@pytest.mark.parametrize("package", ["billing", "archive", "jobs", "stripe_standin"])
def test_a_package_says_that_it_is_typed(package):
    assert (home_of(package) / "py.typed").exists()
