"""The archive is the third side: what it says of each capture and refund is compared with our rows and with Stripe."""

from datetime import timedelta
from pathlib import Path

import pytest
from compared import AHEAD, SETTLE, differences, open_classes, settled, transact
from evidence import Archive
from service import Service

from archive.copies.cache import Cache
from billing import database
from jobs.process.reading_archive import ReadArchive
from jobs.reconciliation import archived
from jobs.reconciliation.passes import Reconciliation, Report


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archived, "MARGIN", timedelta(seconds=5))


def reconcile(archive: Archive, *, back: timedelta | None = timedelta(minutes=30)) -> Report:
    service = archive.service
    with database.transaction(service.engine) as session:
        now = database.now(session)
    reader = ReadArchive(archive.store, archive.cache(), "test")
    pass_ = Reconciliation(service.gateway(), transact(service), SETTLE, archive=reader)
    return pass_.run(lambda: float("inf"), since=None if back is None else now - back, until=now + AHEAD)


def archived_all(archive: Archive) -> None:
    """What has happened was a minute ago, and one more fact, so that it is known that all before are archived."""
    for table, column in (("facts", "happened_at"), ("captures", "state_since"), ("refunds", "state_since")):
        archive.service.execute(f"UPDATE billing.{table} SET {column} = {column} - interval '1 minute'")
    settled(archive.service)
    archive.service.relay.round()
    archive.archive_all()


@pytest.fixture
def done(archive: Archive) -> tuple[str, str]:
    """A capture and a refund, archived."""
    (capture,) = settled(archive.service)
    refund = archive.service.ask_for_refund(capture)
    archive.service.settle(refund)
    archived_all(archive)
    return capture, refund


def test_what_three_sides_say_alike_is_no_difference(archive: Archive, done: tuple[str, str]) -> None:
    report = reconcile(archive)
    assert differences(archive.service) == []
    assert (report.archive.facts, report.archive.why, report.unread) == (2, None, [])


def test_nothing_is_looked_for_that_is_not_archived_yet(archive: Archive, done: tuple[str, str]) -> None:
    settled(archive.service)
    reconcile(archive)
    assert open_classes(archive.service) == {}


def test_what_the_archive_says_otherwise_is_found_and_ends(archive: Archive, done: tuple[str, str]) -> None:
    """[81] A row was changed by hand, and Stripe's records with it."""
    _capture, refund = done
    service = archive.service
    service.execute("UPDATE billing.refunds SET state = 'canceled'")
    reconcile(archive)
    found = {each.kind: each for each in differences(service)}
    assert found["archive_differs"].subject == refund
    assert found["archive_differs"].what.startswith("archived as refund.succeeded, 500 USD; here canceled, 500 USD; at")
    service.execute("UPDATE billing.refunds SET state = 'succeeded'")
    reconcile(archive, back=None)
    assert open_classes(service) == {}


def test_a_row_that_is_lost_is_compared_with_what_stripe_shows(archive: Archive, done: tuple[str, str]) -> None:
    """[81] The database was set back to before it."""
    service = archive.service
    service.execute("DELETE FROM billing.refunds")
    reconcile(archive)
    found = {each.kind: each for each in differences(service)}
    assert found.keys() == {"archive_differs", "unknown_metadata"}
    assert "; here not known; at Stripe re_" in found["archive_differs"].what


def test_what_is_missing_in_the_archive_is_found_and_ends_when_it_is_there(archive: Archive) -> None:
    """[78] Its facts cannot be archived."""
    service = archive.service
    (capture,) = settled(service)
    service.relay.round()
    service.execute("UPDATE billing.facts SET batch_no = 0 WHERE topic = 'capture.captured'")
    archived_all(archive)
    reconcile(archive)
    assert open_classes(service) == {"missing_in_archive": capture}
    service.execute("UPDATE billing.facts SET batch_no = NULL WHERE batch_no = 0")
    archive.archive_all()
    reconcile(archive, back=None)
    assert open_classes(service) == {}


def test_what_has_left_postgres_is_known_from_stripes_ledger(archive: Archive) -> None:
    """[78] Facts were purged, and the archive lacks one of them."""
    service = archive.service
    (capture,) = settled(service)
    service.relay.round()
    service.execute("UPDATE billing.facts SET batch_no = 0 WHERE topic = 'capture.captured'")
    archived_all(archive)
    service.execute("DELETE FROM billing.facts WHERE entity_id = :id", id=capture)
    reconcile(archive)
    assert open_classes(service) == {"missing_in_archive": capture}


def test_an_archive_that_cannot_be_read_is_named_and_is_no_difference(
    archive: Archive, done: tuple[str, str], tmp_path: Path
) -> None:
    service = archive.service
    with database.transaction(service.engine) as session:
        now = database.now(session)
    reader = ReadArchive(archive.store, Cache(archive.store, tmp_path), "production")
    report = Reconciliation(service.gateway(), transact(service), SETTLE, archive=reader).run(
        lambda: float("inf"), since=now - timedelta(minutes=30), until=now + AHEAD
    )
    assert [each.account for each in report.unread] == ["archive"]
    assert report.archive.why
    assert differences(service) == []


def test_where_no_archive_is_configured_the_result_says_so(service: Service) -> None:
    settled(service)
    report = Reconciliation(service.gateway(), transact(service), SETTLE).run(lambda: float("inf"))
    assert report.as_result()["archive"]["why"] == "no archive is configured here"
    assert (report.unread, differences(service)) == ([], [])


def test_a_time_with_too_many_facts_is_read_in_smaller_parts(
    archive: Archive, done: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[timedelta] = []
    within = ReadArchive.within

    def at_most(self: ReadArchive, topics: list[str], since: object, until: object) -> object:
        asked.append(until - since)  # type: ignore[operator]
        if asked[-1] > timedelta(hours=6):
            raise archived.ArchiveNotRead("too much", too_much=True)
        return within(self, topics, since, until)  # type: ignore[arg-type]

    monkeypatch.setattr(ReadArchive, "within", at_most)
    report = reconcile(archive, back=timedelta(days=1))
    assert (report.archive.facts, report.unread) == (2, [])
    assert len(asked) > 3
