"""Somebody on call: terminals in a service whose processes run, or in one that only has rows."""

from collections.abc import Callable, Iterator

import pytest
from buckets import bucket, made
from command import Run, run, run_here, settings
from house import COMMANDS, House, build, tear_down
from keeping import archive_bucket, store
from runbook import Play
from service import eventually

from jobs.process.health import State

__all__ = ["archive_bucket", "bucket", "made", "run", "settings", "store"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[House]]:
    """The house that the incidents of a file have in common: none, or one."""
    houses: list[House] = []
    yield houses
    for house in houses:
        tear_down(house)


@pytest.fixture
def house(
    built: list[House],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """One that an incident has left sick is not used again."""
    if not built:
        built.append(build(tmp_path_factory.mktemp("house")))
    (house,) = built
    eventually(lambda: all(house.health(role) is State.BEATING for role in COMMANDS), "its processes run")
    # A worker beats before it takes bells, and would then wait for a Redis that an incident takes away.
    eventually(lambda: house.has_logged("worker-captures", "worker.started"), "its worker takes bells")
    yield house
    house.service.standin.clear_faults()
    told = run_here(capsys, monkeypatch, house.stack.environment_of("operator"))("doctor").out
    if "WARN" in told or "FAIL" in told:
        tear_down(built.pop())


@pytest.fixture
def play(house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Play]:
    """Follow a page in this house: `play("redis-lost", hands={...})`."""

    def terminal(kind: str) -> Run:
        return run_here(capsys, monkeypatch, house.stack.environment_of(kind))

    terminals = {
        "billing": terminal("operator"),
        "docker compose run --rm finance": terminal("reader"),
        "docker compose run --rm access": terminal("setup"),
    }
    return lambda page, **more: Play(page, terminals, **more)
