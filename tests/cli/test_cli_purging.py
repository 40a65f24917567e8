"""Facts leave Postgres by command and by an archiver, and `billing explain` finds them in the archive."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import Run
from long_ago import happened_long_ago
from service import Service

from archive.purging import purger
from jobs.cli.opening import open_runtime
from jobs.growth import clean_up
from jobs.process import archiving

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "housekeeping.md").read_text()
_NAMED = ("actor", "command", "about", "count", "outcome")


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "REST", 0)
    monkeypatch.setattr(purger, "REST", 0)


@pytest.fixture
def over(service: Service, made: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A capture that was taken 120 days ago and is archived; its evidence is locked for longer than it is kept."""
    retention = tmp_path / "retention.toml"
    retention.write_text('mode = "GOVERNANCE"\nkeep_days = 3650\n')
    monkeypatch.setenv("BILLING_ARCHIVE_RETENTION", str(retention))
    monkeypatch.setenv("BILLING_KEEP_FACTS_DAYS", "90")
    capture = service.ask_for_capture()
    assert service.settle(capture) == ["captured"]
    service.plan()
    happened_long_ago(service)
    assert run("archive", "run", "--once").status == 0
    return capture


def left(service: Service) -> list[str]:
    with service.engine.connect() as connection:
        query = "SELECT topic FROM billing.facts WHERE entity_type = 'capture'"
        return list(connection.exec_driver_sql(query).scalars())


def explained(run: Run, name: str) -> dict[str, object]:
    story: dict[str, object] = run("explain", name, "--json").json["operations"][0]
    return story


def test_housekeeping_removes_work_then_facts_and_explain_still_tells_everything(
    run: Run, service: Service, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = explained(run, over)
    # Its work goes first: a run that begins with both sees only the work.
    assert run("housekeeping", "run", "--dry-run").out.startswith("would be removed: the work of 1 operation")
    done = run("housekeeping", "run", "--actor", "grace")
    assert done.status == 0
    assert done.out.splitlines()[0].startswith("removed: the work of 1 operation")
    assert done.out.splitlines()[1] == (
        "removed: 3 facts of 2 batches, each compared with the archive: captured 19.99 USD"
    )
    assert left(service) == []
    commands = [tuple(each[name] for name in _NAMED) for each in run("audit", "--json").json]
    assert commands == [
        ("grace", "housekeeping run", "archived facts", 3, "done"),
        ("grace", "housekeeping run", "ended operations", 1, "done"),
    ]
    assert run("housekeeping", "run").out.startswith("nothing to remove")
    # The story is the same, but for what is nowhere else.
    story = explained(run, over)
    assert [fact["topic"] for fact in story["facts"]] == [fact["topic"] for fact in before["facts"]]  # type: ignore[attr-defined]
    assert [fact["at"] for fact in story["facts"]] == [fact["at"] for fact in before["facts"]]  # type: ignore[attr-defined]
    assert all(fact["archived"] for fact in story["facts"])  # type: ignore[attr-defined]
    assert story["purged"] == 0
    assert "3 facts of them read from the archive" in run("explain", over).out
    assert run("status", over, "--json").json["state"] == "captured"
    monkeypatch.delenv("BILLING_ARCHIVE_BUCKET")
    alone = run("explain", over)
    assert alone.status == 0
    assert alone.err.startswith("3 facts left Postgres and could not be read from the archive: BILLING_ARCHIVE_BUCKET")


def test_the_page_shows_the_line_that_a_purge_prints() -> None:
    (shown,) = re.findall(r"^removed: \d+ facts? of .*$", PAGE, re.MULTILINE)
    assert re.fullmatch(
        r"removed: \d+ facts of \d+ batches, each compared with the archive: captured [0-9.]+ USD", shown
    )


def test_without_the_setting_facts_stay(run: Run, service: Service, over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILLING_KEEP_FACTS_DAYS")
    assert "fact" not in run("housekeeping", "run").out
    assert len(left(service)) == 3
    monkeypatch.setenv("BILLING_KEEP_FACTS_DAYS", "89")
    assert "BILLING_KEEP_FACTS_DAYS" in run("housekeeping", "run").err


def test_a_batch_that_differs_is_named_and_the_command_ends_with_1(run: Run, service: Service, over: str) -> None:
    service.execute(
        "UPDATE billing.facts SET happened_at = now() - interval '99 days' WHERE topic = 'capture.captured'"
    )
    ran = run("housekeeping", "run")
    assert ran.status == 1
    (line,) = ran.err.splitlines()
    assert line.startswith("DIFFERS v1/class=capture/")
    assert "capture.captured" in left(service)
    assert run("housekeeping", "run", "--json").json["purged"]["troubles"][0].startswith("v1/class=capture/")


def test_an_archiver_purges_by_itself_while_nothing_waits(run: Run, service: Service, over: str) -> None:
    service.execute("DELETE FROM billing.idempotency_records")
    service.execute("DELETE FROM billing.work")
    runtime = open_runtime("archiver")
    try:
        until = datetime.now(UTC) + timedelta(seconds=60)
        archiving.run(runtime, lambda: not left(service) or datetime.now(UTC) > until)
    finally:
        runtime.close()
    assert left(service) == []


def test_the_doctor_says_when_evidence_is_locked_for_too_short_a_time(
    run: Run, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts() -> str:
        (found,) = (each["level"] for each in run("doctor", "--json").json if each["part"] == "purge")
        return str(found)

    assert facts() == "ok"
    monkeypatch.setenv("BILLING_KEEP_FACTS_DAYS", "3650")
    assert facts() == "warn"
