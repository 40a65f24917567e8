"""A restored database is found before anything is sent from it, and a database that lost nothing is left alone."""

import json
from datetime import UTC, datetime

import pytest
from command import Run
from mail_server import MailServer
from mailing import ask_for_email, certificate, mail, mailing
from service import Service
from set_back import Backup, pulled, start
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from billing import database, lineage
from billing.errors import StillRestored
from billing.states import WorkState
from jobs.cli.opening import open_runtime
from jobs.process import archiving
from jobs.road.watermark import Watermark

__all__ = ["certificate", "mail"]


def mark(service: Service) -> Watermark:
    return Watermark(service.engines["relay"], service.redis, "test")


def installation_of(service: Service) -> str:
    with database.transaction(service.engine) as session:
        return str(session.scalar(text("SELECT identity FROM billing.installation")))


def standing(service: Service) -> lineage.Standing:
    with database.transaction(service.engine) as session:
        return lineage.look(session)


A_MARK = {"installation": "ins_1", "fact_id": 1, "entity_id": "cap_1", "happened_at": "2026-11-29T02:00:00+00:00"}
HOSTILE = [
    {**A_MARK, **changed}
    for changed in (
        {"installation": 1},
        {"fact_id": "1"},
        {"fact_id": 2**70},
        {"entity_id": "cap_\0"},
        {"happened_at": "2026-11-29T02:00:00"},
        {"more": 1},
    )
]


def test_a_database_that_lost_nothing_is_left_alone(service: Service, run: Run, bucket: None, backup: Backup) -> None:
    """Neither a restart, nor a flushed Redis, nor a failover to a server that has everything is a sign."""
    service.settle(service.ask_for_capture())
    mark(service).compare(renew=True)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    backup.put_back(same_database=True)
    for _ in range(2):
        start()
        start("relay")
        service.redis.flushall()
    assert run("archive", "run", "--once").status == 0
    assert pulled(run) == []
    assert run("recover").status == 0


def test_a_restore_to_a_point_in_time_is_found_by_the_mark_in_redis(service: Service, run: Run, backup: Backup) -> None:
    """The database keeps its own numbers, and has forgotten the newest fact that a relay has seen. What an application
    writes meanwhile, under the same numbers, hides nothing."""
    backup.take()
    service.settle(service.ask_for_capture())
    mark(service).compare(renew=True)
    backup.put_back(same_database=True)
    later = service.ask_for_capture()
    service.plan()
    start()
    assert standing(service).why == lineage.FORGOTTEN
    assert pulled(run) == [("everything", "billing")]
    service.work_off()
    assert service.posts("/capture")[1:] == []
    assert service.status(later).state == "requested"


def test_a_restore_that_forgot_only_an_email_is_found_by_the_mark(
    service: Service, backup: Backup, mail: MailServer
) -> None:
    service.settle(service.ask_for_capture())
    backup.take()
    assert service.settle(ask_for_email(service), gateway=mailing(service, mail)) == ["sent"]
    mark(service).compare(renew=True)
    backup.put_back(same_database=True)
    start()
    assert standing(service).why == lineage.FORGOTTEN


def test_a_relay_finds_a_restore_while_workers_run(service: Service, run: Run, backup: Backup) -> None:
    backup.take()
    service.settle(service.ask_for_capture())
    service.relay.compare()
    backup.put_back(same_database=True)
    service.ask_for_capture()
    stop = iter([False, True])
    service.relay.cadence.compared(float("-inf"), with_redis=True)
    service.relay.run(lambda: next(stop))
    assert pulled(run) == [("everything", "billing")]
    service.work_off()
    assert len(service.posts("/capture")) == 1


def test_an_archiver_finds_that_the_bucket_is_ahead_and_a_relay_pulls_the_switch(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """Redis has lost its mark."""
    backup.take()
    service.settle(service.ask_for_capture())
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.put_back(same_database=True)
    service.redis.flushall()
    start()
    assert pulled(run) == []
    refused = run("archive", "run", "--once")
    assert refused.status == 2
    assert "this database was restored" in refused.err
    mark(service).compare()
    assert standing(service).why == lineage.BEHIND_THE_ARCHIVE
    assert pulled(run) == [("everything", "billing")]


def test_the_manifests_of_another_installation_are_no_sign_of_a_restore(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    service.settle(service.ask_for_capture())
    service.plan()
    assert run("archive", "run", "--once").status == 0
    service.execute("TRUNCATE billing.archive_batches, billing.facts CASCADE")
    service.execute("UPDATE billing.installation SET identity = 'ins_another'")
    runtime = open_runtime("archiver")
    with archiving.archiver(runtime) as writer:
        assert not archiving.restored(runtime, writer)
    runtime.close()
    assert standing(service).restored_at is None


def test_a_copy_of_the_database_sends_nothing(service: Service, run: Run, backup: Backup) -> None:
    """What the copy held is not sent, whatever switches an operator releases."""
    waiting = service.ask_for_capture()
    service.plan()
    run("switch", "pull", "everything", "--expires", "2h", "--reason", "INC-12", "--actor", "grace")
    backup.take()
    backup.put_back()
    start()
    (row,) = run("switch", "list", "--json").json
    assert (row["actor"], row["expires_at"]) == ("billing", None)
    refused = run("switch", "release", "everything", "--reason", "go on")
    assert refused.status == 2
    assert str(StillRestored()) in refused.err
    service.relay.round()
    service.work_off()
    assert service.work(waiting).state == WorkState.HELD
    assert service.posts("/capture") == []


def test_a_mark_of_before_the_recovery_counts_no_more(service: Service, run: Run, backup: Backup) -> None:
    backup.take()
    # Nothing moved: it is in no event, and gone.
    service.ask_for_capture()
    mark(service).compare(renew=True)
    backup.put_back(same_database=True)
    start()
    assert pulled(run) == [("everything", "billing")]
    assert run("recover").status == 0
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    start()
    assert pulled(run) == []
    service.settle(service.ask_for_capture())


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b"\xff", b"null", *map(json.dumps, HOSTILE)])
def test_what_somebody_else_wrote_as_the_mark_is_no_sign(service: Service, run: Run, kept: bytes | str) -> None:
    ours = installation_of(service)
    service.redis.set(mark(service).key, kept if isinstance(kept, bytes) else kept.replace("ins_1", ours))
    mark(service).compare(renew=True)
    assert pulled(run) == []


def test_who_finds_a_restore_cannot_take_that_back(service: Service) -> None:
    for kind in ("relay", "worker", "archiver"):
        with database.transaction(service.engines[kind]) as session:
            lineage.note(session, lineage.FORGOTTEN)
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            database.transaction(service.engines[kind]) as session,
        ):
            lineage.recovered(session)
    assert standing(service).why == lineage.FORGOTTEN


def test_every_process_may_look_with_its_own_login(service: Service) -> None:
    for kind in ("relay", "worker", "archiver"):
        with database.transaction(service.engines[kind]) as session:
            assert lineage.look(session, lineage.Mark("ins_1", 1, "cap_1", database.now(session))).sign is None
        gone = lineage.Mark(installation_of(service), 1, "cap_1", datetime.now(UTC))
        with database.transaction(service.engines[kind]) as session:
            assert lineage.look(session, gone).sign == lineage.FORGOTTEN


def test_only_the_owner_recovers(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{service.url}?options=-crole%3Dbilling_operator")
    refused = run("recover")
    assert refused.status == 2
    assert "needs the DATABASE_URL of the owner" in refused.err
