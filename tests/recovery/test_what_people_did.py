"""What people decided after the backup: switches are pulled again, and closed months are closed again, before the end.

And the archive goes on, whether its manifests are signed, and whether its days had facts.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import Run
from service import Service
from set_back import Backup, pulled, start
from sqlalchemy import text

from archive.signing.ed25519 import new_private_key
from billing import audit, database


@pytest.fixture
def signing(bucket: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The archivers of this test's service sign."""
    key = tmp_path / "signing_key.pem"
    key.write_text(new_private_key())
    key.chmod(0o600)
    monkeypatch.setenv("BILLING_SIGNING_KEY", f"file:{key}")


@pytest.fixture(autouse=True)
def no_ticks(service: Service) -> None:
    service.make_no_ticks()


def archive(service: Service, run: Run) -> None:
    service.plan()
    done = run("archive", "run", "--once")
    assert done.status == 0, done.err


def restore(run: Run, backup: Backup) -> None:
    backup.put_back()
    start()
    assert ("everything", "billing") in pulled(run)


def apply(run: Run) -> Any:
    return run("recover", "--apply", "--reason", "INC-17", "--actor", "grace")


def batches(service: Service) -> list[tuple[Any, ...]]:
    query = "SELECT class, number, rows, manifest_format, manifest_key_id, policy FROM billing.archive_batches"
    with database.transaction(service.engine) as session:
        return [tuple(row) for row in session.execute(text(f"{query} ORDER BY class, number"))]


def test_a_signed_chain_with_a_day_without_facts_goes_on_after_a_restore(
    service: Service, run: Run, signing: None, backup: Backup
) -> None:
    service.settle(service.ask_for_capture())
    service.plan()
    # Three days ago: so yesterday was a day without facts.
    service.execute("UPDATE billing.facts SET happened_at = happened_at - interval '3 days'")
    archive(service, run)
    backup.take()
    archive(service, run)
    lost = service.ask_for_capture()
    assert service.settle(lost) == ["captured"]
    archive(service, run)
    before = batches(service)
    assert {0} < {rows for _, _, rows, *_ in before}
    assert {(signed, key is None, policy is None) for *_, signed, key, policy in before} == {(2, False, False)}

    restore(run, backup)
    done = apply(run)
    assert done.status == 0, done.out
    assert batches(service) == before
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert service.settle(lost, service.ask_for_capture()) == ["captured", "captured"]
    archive(service, run)
    assert len(batches(service)) > len(before)
    verified = run("archive", "verify")
    assert verified.status == 0, verified.out
    assert run("archive", "verify", "--from-cache").status == 0


def test_a_switch_that_was_pulled_after_the_backup_is_pulled_again(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """By whom, and until when; and one that was released is released."""
    run("switch", "pull", "invoices", "--reason", "before the backup", "--actor", "marie")
    backup.take()
    run("switch", "release", "invoices", "--reason", "it is over", "--actor", "marie")
    run("switch", "pull", "captures", "--reason", "they are taken twice", "--actor", "grace", "--expires", "20h")
    run("switch", "pull", "currency:EUR", "--reason", "a wrong price", "--actor", "grace")
    run("switch", "release", "currency:EUR", "--reason", "it is right again", "--actor", "ada")
    before = {row["scope"]: row for row in run("switch", "list", "--json").json}
    archive(service, run)
    restore(run, backup)
    assert sorted(pulled(run)) == [("everything", "billing"), ("invoices", "marie")]
    assert apply(run).status == 0
    assert sorted(pulled(run)) == [("captures", "grace"), ("everything", "billing")]
    again = {row["scope"]: row for row in run("switch", "list", "--json").json}["captures"]
    assert (again["id"], again["expires_at"]) == (before["captures"]["id"], before["captures"]["expires_at"])
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    assert pulled(run) == [("captures", "grace")]
    held = service.ask_for_capture()
    service.relay.round()
    service.work_off()
    assert service.work(held).state == "held"
    assert run("switch", "release", "captures", "--reason", "they are not", "--actor", "grace").status == 0
    assert service.settle(held) == ["captured"]
    assert run("recover").status == 0


def test_everything_that_a_person_pulled_after_the_backup_stays_pulled_after_the_recovery(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    backup.take()
    run("switch", "pull", "everything", "--reason", "we take money twice", "--actor", "grace")
    archive(service, run)
    restore(run, backup)
    assert run("recover").status == 1
    assert apply(run).status == 0
    assert pulled(run) == [("everything", "grace")]
    # Processes that start meanwhile change nothing, and nobody goes around the recovery.
    start()
    assert run("switch", "release", "everything", "--reason", "go on", "--actor", "ada").status == 2
    released = run("recover", "--release", "--reason", "INC-17")
    assert released.status == 0
    assert "everything stays pulled, because grace pulled it" in released.out
    assert pulled(run) == [("everything", "grace")]
    assert run("switch", "release", "everything", "--reason", "it was once", "--actor", "grace").status == 0
    assert service.settle(service.ask_for_capture()) == ["captured"]


def test_a_scope_that_was_pulled_again_since_the_restore_is_pulled_once(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """By the person who is there now. The first one counts as released, in the archive, too."""
    backup.take()
    run("switch", "pull", "captures", "--reason", "they are taken twice", "--actor", "grace")
    (first,) = run("switch", "list", "--json").json
    archive(service, run)
    restore(run, backup)
    run("switch", "pull", "captures", "--reason", "INC-17", "--actor", "ada")
    assert apply(run).status == 0
    assert sorted(pulled(run)) == [("captures", "ada"), ("everything", "billing")]
    assert service.topics(first["id"]) == ["pulled", "released"]


def test_nothing_is_released_before_a_month_that_was_closed_is_closed_again(
    service: Service, run: Run, bucket: None, backup: Backup, tmp_path: Path
) -> None:
    month = f"{datetime.now(UTC).replace(day=1) - timedelta(days=1):%Y-%m}"
    backup.take()
    with database.transaction(service.engine) as session:
        audit.done(session, audit.command("close", actor="marie", reason="approved"), about=month)
    archive(service, run)
    restore(run, backup)
    done = apply(run)
    assert done.status == 1
    assert f"DIFFERS {month}: this month was closed" in done.out
    assert run("recover", "--release", "--reason", "INC-17").status == 1
    service.plan()
    closed = run("close", month, "--reason", "closed again, INC-17", "--actor", "marie", "--into", str(tmp_path))
    assert closed.status == 0, closed.out + closed.err
    assert run("recover", "--release", "--reason", "INC-17").status == 0
