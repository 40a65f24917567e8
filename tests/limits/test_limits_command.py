"""`billing limits` shows what workers share, and docs/operate/limits.md shows what it prints."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import Run, run, settings
from service import Service

from jobs.limits.bucket import CUT, CUTS, FAILURES, RECOVERY_S, Ask, Terms
from jobs.limits.shared import SharedBuckets

__all__ = ["run", "settings"]

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "limits.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def plain(text: str) -> list[str]:
    """Times differ, and with them the widths."""
    return [re.sub(r"\d{4}-\d\d-\d\d [\d:.]+", "TIME", line).rstrip() for line in text.splitlines()]


def exchange(service: Service, ask: Ask, most: float, probe_s: float = 5.0) -> None:
    SharedBuckets(service.redis, "test").exchange({None: ask}, Terms(most, probe_s))


def test_before_anything_was_called_it_says_so(run: Run) -> None:
    assert run("limits").out == "no account was called in the last hour; each may be called 25 times a second\n"
    assert run("limits", "--json").json == []


def test_the_page_shows_what_is_printed(run: Run, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, throttled, silent = BLOCKS
    exchange(service, Ask(0), 25.0)
    assert plain(f"$ billing limits\n{run('limits').out}") == plain(answers)

    service.redis.flushall()
    monkeypatch.setenv("BILLING_STRIPE_RATE", "100")
    exchange(service, Ask(0, cut=CUT), 100.0)
    # It recovers meanwhile, so its time is set to one that has not come yet.
    service.redis.hset("billing-test:limits:own", "at", str(datetime.now(UTC).timestamp() + 3600))
    assert plain(f"$ billing limits\n{run('limits').out}") == plain(throttled)

    service.redis.flushall()
    exchange(service, Ask(0), 100.0)
    service.redis.hset("billing-test:limits:own", "answered_at", "1")
    exchange(service, Ask(0, failed=FAILURES), 100.0)
    assert plain(f"$ billing limits\n{run('limits').out}") == plain(silent)


def test_json_names_every_column(run: Run, service: Service) -> None:
    exchange(service, Ask(1, failed=1), 25.0)
    (own,) = run("limits", "--json").json
    assert (own["account"], own["most"], own["failures"], own["silent_since"]) == ("own", 25.0, 1, None)
    assert own["last_asked_at"].endswith("+00:00")


def test_without_redis_it_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    ran = run("limits")
    assert ran.status == 2
    assert "start it or correct REDIS_URL" in ran.err


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    flat = " ".join(PAGE.split())
    assert f"falls to {CUT * 100:g} % at once" in flat
    assert RECOVERY_S == 60
    assert "grows again by a sixtieth of the full rate every second" in flat
    assert CUTS == {"lock_timeout": 0.9}
    assert "takes a tenth only" in flat
    assert FAILURES == 3
    assert "at least three calls failed" in flat
