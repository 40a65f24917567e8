"""What the suites of both distributions have in common."""

from collections.abc import Iterator
from typing import Any

import pytest
import verdicts
from xdist.scheduler import LoadFileScheduling


class _FilesStayTogether(LoadFileScheduling):
    """Where several processes share the tests, each takes whole files. The stand-in's are taken as one: the last of
    them judges what the others have asked of the one that they share."""

    def _split_scope(self, nodeid: str) -> str:
        return "stripe_standin/tests" if nodeid.startswith("stripe_standin/tests/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _FilesStayTogether(config, log)


@pytest.fixture(autouse=True)
def every_answer_fits_the_schema() -> Iterator[None]:
    """A test in which a watched stand-in broke the schema of the SDK has failed, whatever it looked at."""
    yield
    verdicts.assert_none()
