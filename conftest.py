"""What the suites of both distributions have in common: who runs what, and the judge of the stand-in's answers."""

import gc
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import verdicts
from xdist.scheduler import LoadFileScheduling

# The same examples in every run, and none has to be quick: what fails on a busy machine or once in a hundred runs
# keeps somebody else's work out. A test with a seed of its own keeps it, so that a long run can try others.
hypothesis.settings.register_profile("billing", derandomize=True, deadline=None)
hypothesis.settings.load_profile("billing")

LONG = (
    "stripe_standin/tests/",
    "tests/access/test_end_to_end.py",
    "tests/cli/test_cli_archive.py",
    "tests/servers/",
    "tests/runbooks/",
    "tests/deployment/test_processes.py",
    "tests/cli/test_cli_processes.py",
    "tests/crash/",
    "tests/rq/",
    "tests/operations/",
    "tests/traces/",
    "tests/limits/",
    "tests/schedules/",
    "tests/runbooks/test_runbooks_of_servers.py",
    "tests/leaks/",
    "tests/test_demo.py",
    "tests/test_bench.py",
    "tests/logs/test_one_life.py",
    "tests/attacks/test_attack_ids.py",
    "tests/cli/test_cli_errors.py",
    "tests/local/test_servers.py",
    "tests/archive/",
    "tests/test_poolers.py",
)
"""What takes longest is begun first, in this order, so that no process is left with it when the others are done."""
ONE_BY_ONE = (
    "tests/test_demo.py",
    "tests/cli/test_cli_processes.py",
    "tests/crash/test_every_death.py",
)
"""Files of few long tests that share nothing: each may run in another process."""


class _Schedule(LoadFileScheduling):
    """Where several processes share the tests, each takes whole files. The stand-in's are taken as one: the last of
    them judges what the others have asked of the one that they share."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("stripe_standin/tests/"):
            return "stripe_standin/tests"
        return nodeid if nodeid.startswith(ONE_BY_ONE) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    config.option.loadscopereorder = False  # by the number of tests, which says nothing about ours
    return _Schedule(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((n for n, long in enumerate(LONG) if item.nodeid.startswith(long)), len(LONG)))


def pytest_collectstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Eight thousand tests and what they have imported are never garbage: the collector looks at newer things only."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000)


@pytest.fixture(autouse=True)
def every_answer_fits_the_schema(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test in which a watched stand-in broke the schema of the SDK has failed, whatever it looked at."""
    yield
    verdicts.assert_none(*verdicts.watched_in(request.fixturenames))
