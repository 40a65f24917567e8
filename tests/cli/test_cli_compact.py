"""`billing archive compact` and `ddl`: a month is copied from the bucket alone, and the page shows what is printed."""

import re
import shlex
from pathlib import Path

import pytest
from service import Service
from sqlalchemy import text

PAGE = (Path(__file__).parents[2] / "docs" / "finance" / "engines.md").read_text()
BEFORE = "UPDATE billing.facts SET happened_at = timestamptz '2026-10-20 12:00+00' WHERE batch_no IS NULL"


@pytest.fixture
def archived(run, service: Service, made: str, taken: str, administrator, monkeypatch) -> str:
    """A capture that was taken in October, archived; and a bucket for the copies. Its name."""
    service.execute(BEFORE)
    assert run("archive", "run", "--once").status == 0
    copies = f"{made}-copies"
    administrator.create_bucket(Bucket=copies)
    monkeypatch.setenv("BILLING_COMPACTED_BUCKET", copies)
    return copies


def test_a_month_is_copied_and_checked_and_later_facts_make_it_out_of_date(run, service, archived):
    assert run("archive", "compact", "2026-10", "--check").out.splitlines()[1:] == [
        "make it again: billing archive compact 2026-10"
    ]
    first = run("archive", "compact", "2026-10")
    assert (first.status, first.out.splitlines()) == (
        0,
        [
            f"s3://{archived}/v1/month=2026-10/class=attempt/facts.parquet: 1 fact",
            f"s3://{archived}/v1/month=2026-10/class=capture/facts.parquet: 2 facts, captured 19.99 USD",
            "2026-10 was copied",
        ],
    )
    assert first.err.splitlines() == [
        "attempt: 1 facts in 1 objects, sorted",
        "capture: 2 facts in 1 objects, sorted",
    ]
    again = run("archive", "compact", "2026-10", "--json").json
    assert (again["made"], again["place"], again["environment"]) == (False, f"s3://{archived}/", "test")
    assert run("archive", "compact", "2026-10").out.endswith("2026-10 is there already, as it must be\n")
    assert run("archive", "compact", "2026-10", "--check").out == (
        f"s3://{archived}/: the copy of 2026-10 is whole, and what the archive holds\n"
    )
    service.settle(service.ask_for_capture())
    service.plan()
    service.execute(BEFORE)
    assert run("archive", "run", "--once").status == 0
    late = run("archive", "compact", "2026-10", "--check")
    assert (late.status, late.out.splitlines()[1]) == (
        1,
        "DIFFERS v1/month=2026-10/class=capture/facts.parquet: made of 2 facts in 1 objects, and the archive holds 4 "
        "facts in 2 objects",
    )
    assert len(run("archive", "compact", "2026-10", "--check", "--json").json["troubles"]) == 2
    assert run("archive", "compact", "2026-10").out.endswith("2026-10 was copied\n")


def test_a_copy_is_made_without_the_database_and_changes_nothing_in_it_or_in_the_archive(
    run, service, archived, made, administrator, monkeypatch, tmp_path
):
    def versions() -> list[str]:
        return [each["VersionId"] for each in administrator.list_object_versions(Bucket=made)["Versions"]]

    before = versions()
    with service.engine.connect() as connection:
        facts = connection.execute(text("SELECT count(*) FROM billing.facts")).scalar_one()
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        assert run("archive", "compact", "2026-10", "--to", str(tmp_path / "copies")).status == 0
        assert connection.execute(text("SELECT count(*) FROM billing.facts")).scalar_one() == facts
    assert versions() == before
    assert len(list((tmp_path / "copies").rglob("*.parquet"))) == 2


REFUSED = [
    ("2026-13", {}, "'2026-13' is no month; write it as 2026-10"),
    ("2150-01", {}, "2150-01 is not over; query the archive itself until then"),
    ("2026-01", {}, "the archive holds no fact of 2026-01; if s3://"),
    ("2026-10", {"BILLING_COMPACTED_BUCKET": ""}, "BILLING_COMPACTED_BUCKET is not set; name the bucket"),
    ("2026-10", {"BILLING_COMPACTED_BUCKET": "{archive}"}, "BILLING_COMPACTED_BUCKET is a bucket of evidence"),
    ("2026-10", {"BILLING_COMPACTED_BUCKET": "no-such-bucket"}, "there is no bucket no-such-bucket"),
    (
        "2026-10",
        {"BILLING_COMPACTED_ACCESS_KEY": "env:HOME"},
        "BILLING_COMPACTED_ACCESS_KEY and BILLING_COMPACTED_SECRET_KEY belong together",
    ),
]


def test_what_cannot_be_copied_is_said_in_one_line(run, archived, made, monkeypatch):
    for month, change, says in REFUSED:
        with monkeypatch.context() as changed:
            for name, value in change.items():
                changed.setenv(name, value.format(archive=made))
            ran = run("archive", "compact", month)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert says in ran.err


def test_the_copies_are_written_with_keys_of_their_own(run, archived, s3, monkeypatch):
    """The archive's keys need no right to write anywhere."""
    monkeypatch.setenv("OF_THE_COPIES", "wrong")
    monkeypatch.setenv("BILLING_COMPACTED_ACCESS_KEY", "env:OF_THE_COPIES")
    monkeypatch.setenv("BILLING_COMPACTED_SECRET_KEY", "env:OF_THE_COPIES")
    refused = run("archive", "compact", "2026-10")
    assert refused.status == 2
    assert "BILLING_COMPACTED_ACCESS_KEY and BILLING_COMPACTED_SECRET_KEY: " in refused.err
    assert "BILLING_S3" not in refused.err
    monkeypatch.setenv("SECRET_OF_THE_COPIES", s3.secret_key)
    monkeypatch.setenv("OF_THE_COPIES", s3.access_key)
    monkeypatch.setenv("BILLING_COMPACTED_SECRET_KEY", "env:SECRET_OF_THE_COPIES")
    assert run("archive", "compact", "2026-10").status == 0


def test_the_page_for_engines_shows_what_is_printed(run, archived):
    """docs/finance/engines.md: each command is run, and each statement is the one that it prints."""
    shown = re.findall(r"^\$ billing (archive ddl [^\n]*)\n```\n\n```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert {command.split()[2] for command, _ in shown} == {"athena", "trino", "spark"}
    assert any("--by-month" in command for command, _ in shown)
    for command, statements in shown:
        assert run(*shlex.split(command)).out == statements, command
    for command in re.findall(r"^\$ billing (archive compact.*)$", PAGE, re.MULTILINE):
        assert run(*shlex.split(command)).status == 0, command


def test_tables_lead_to_the_buckets_of_the_settings(run, made, archived, monkeypatch):
    told = run("archive", "ddl", "spark", "--json").json
    assert (told["engine"], told["table"]) == ("spark", "facts")
    assert f"LOCATION 's3a://{made}/v1/'" in told["statements"][0]
    assert f"LOCATION 's3://{archived}/v1/'" in run("archive", "ddl", "athena", "--by-month").out
    monkeypatch.delenv("BILLING_COMPACTED_BUCKET")
    assert "BILLING_COMPACTED_BUCKET is not set" in run("archive", "ddl", "athena", "--by-month").err
    refused = run("archive", "ddl", "hive", "--location", "s3://x/v1/")
    assert (refused.status, refused.out) == (2, "")
