"""The judges behind the tests' stand-ins (`validated.py`), and whether an answer broke the SDK's schema."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import urllib3

# A program to start instead of `python -m stripe_standin`, with the same options.
JUDGED = (sys.executable, str(Path(__file__).with_name("validated.py")))

# The judges to ask when a test ends, and how many violations each has reported: each violation fails one test.
_told: dict[str, int] = {}
_fixtures: dict[str, str] = {}
_http = urllib3.PoolManager(retries=False)


def watch(url: str, fixture: str) -> None:
    """Ask the judge at this address whenever a test ends that uses this fixture."""
    _told[url] = 0
    _fixtures[url] = fixture


def watched_in(fixtures: Collection[str]) -> list[str]:
    """The addresses that a test with these fixtures may have asked. Most tests ask none."""
    return [url for url, fixture in _fixtures.items() if fixture in fixtures]


def assert_none(*urls: str) -> None:
    """Assert that every answer at these addresses since the last call fitted the schema.

    The error names route, field and reason of each answer that did not.
    """
    broken = []
    for asked in urls:
        violations = ask(asked)["violations"]
        broken += [_line(each) for each in violations[_told.get(asked, 0) :]]
        if asked in _told:
            _told[asked] = len(violations)
    assert not broken, "\n".join(["an answer broke the schema of the SDK:", *broken])


def ask(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = _http.request("GET", f"{url}/_schema", timeout=10).json()
    return answer


def _line(each: dict[str, Any]) -> str:
    return f"{each['method']} {each['path']} ({each['status']}), {each['pointer'] or 'as a whole'}: {each['message']}"
