"""What is gone after its lock ended was disposed of under its policy; what is gone before is missing."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from evidence import Archive
from service import eventually
from test_verification import Attacker, m, verify

from archive.keeping import holds
from archive.keeping.search import Criteria, search
from archive.policy import retention
from archive.policy.retention import Lock, Mode, Period, Policy, Rule, Unit
from archive.signing.ed25519 import Ed25519Signer, new_private_key
from billing import database

DAYS = Rule(Mode.GOVERNANCE, Period(90, Unit.DAY), name="RP-1")


@dataclass(frozen=True)
class Soon(Policy):
    """Objects are locked until this moment, manifests for as long as ever."""

    ends: datetime = datetime.max.replace(tzinfo=UTC)

    def lock(self, retention_class: str, event_date: date, today: date) -> Lock:
        return Lock(Mode.GOVERNANCE, self.ends)


@pytest.fixture
def archived(archive: Archive) -> Archive:
    """Three facts in two objects that are locked for 90 days, and one in an object that is locked for 10 years."""
    ten_years = Rule(Mode.GOVERNANCE, Period(10, Unit.YEAR))
    archive.policy = Policy({**dict.fromkeys(retention.CLASSES, DAYS), "invoice": ten_years})
    archive.tell("capture.requested", "capture.captured", minor=1999, currency="USD", payment_intent="pi_1")
    archive.archive_all()
    archive.tell("capture.requested", of="cap_2", at="'2026-11-01 10:00+00'")
    archive.archive_all()
    archive.tell("invoice.requested", of="inv_1")
    archive.archive_all()
    return archive


def in_a_year(_: object) -> datetime:
    return datetime.now(UTC) + timedelta(days=365)


def end(archive: Archive, number: int, name: str = "capture") -> None:
    """Delete a version, as a rule of expiry will."""
    Attacker(archive).destroy(Attacker(archive).key(number, name))


def test_what_is_gone_after_its_lock_ended_is_disposed_of_and_not_missing(archived: Archive):
    assert verify(archived, clock=in_a_year).counts.disposed == []
    end(archived, 1)
    verified = verify(archived, clock=in_a_year)
    assert verified.told == []
    (gone,) = verified.counts.disposed
    assert (gone.retention_class, gone.policy, gone.objects, gone.facts) == ("capture", "RP-1", 1, 2)
    assert verified.counts.objects == 2
    end(archived, 2)
    (gone,) = verify(archived, clock=in_a_year).counts.disposed
    assert (gone.objects, gone.facts) == (2, 3)
    assert str(gone).startswith("capture: 2 objects with 3 facts under policy 'RP-1'; the last lock ended 20")


def test_what_is_gone_before_its_lock_ended_is_missing(archived: Archive):
    end(archived, 1)
    end(archived, 1, "invoice")
    assert len(verify(archived).told) == 2
    verified = verify(archived, clock=in_a_year)
    (told,) = verified.told
    assert told.startswith("v1/class=invoice/")
    assert "found no such version" in told


def test_a_manifest_is_never_disposed_of(archived: Archive):
    Attacker(archived).destroy(m(1))
    told = verify(archived, clock=lambda _: datetime(2100, 1, 1, tzinfo=UTC)).told
    assert any("as Postgres says; found none" in line for line in told)


def test_an_object_that_was_hidden_before_its_lock_ended_is_named_for_ever(archived: Archive):
    attacker = Attacker(archived)
    attacker.hide(attacker.key(1))
    (told,) = verify(archived, clock=in_a_year).told
    assert "found a delete marker" in told


def test_an_object_is_hidden_once_its_lock_has_ended_and_then_deleted(archive: Archive):
    """So do rules of expiry, which have no right to go around a lock."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    archive.tell("capture.requested")
    archive.round(policy=Soon(dict.fromkeys(retention.CLASSES, DAYS), ends=ends))
    key = Attacker(archive).key(1)
    version = Attacker(archive).version(key)
    eventually(lambda: datetime.now(UTC) > ends + timedelta(seconds=1), "its lock has ended")
    Attacker(archive).hide(key)
    assert verify(archive).told == []
    archive.outside.s3.delete_object(Bucket=archive.bucket, Key=key, VersionId=version)
    verified = verify(archive)
    assert verified.told == []
    assert [gone.objects for gone in verified.counts.disposed] == [1]
    # Queries and holds go on with what is left.
    (copies,) = archive.cache().bring(["capture"])
    assert (copies.last, copies.files) == (1, ())
    assert search(archive.cache(), Criteria(retention_class="capture")) == []


def test_another_object_in_the_place_of_one_that_was_disposed_of_is_named(archived: Archive):
    key = Attacker(archived).key(1)
    end(archived, 1)
    Attacker(archived).put(key, b"forged")
    (told,) = verify(archived, clock=in_a_year).told
    assert "expected no other version" in told


def test_what_a_hold_needs_is_missing_even_after_its_lock_ended(archived: Archive):
    criteria = Criteria(payment_intent="pi_1")
    with database.transaction(archived.service.engine) as session:
        holds.remember(session, "CASE-7", criteria, [("capture", 1)], placed_by="grace", reason="a test")
    end(archived, 1)
    (told,) = verify(archived, clock=in_a_year).told
    assert "under a legal hold; found no such version" in told


def test_disposal_of_a_batch_of_an_older_version_is_reported_by_its_lock(archived: Archive):
    archived.service.execute("UPDATE billing.archive_batches SET policy = NULL")
    end(archived, 1)
    (gone,) = verify(archived, clock=in_a_year).counts.disposed
    assert gone.policy.startswith("locked until 20")


def test_where_postgres_does_not_know_the_policy_its_manifest_does(archive: Archive):
    archive.signer = Ed25519Signer.read(new_private_key())
    archive.writer().publish_key()
    archive.policy = Policy(dict.fromkeys(retention.CLASSES, DAYS))
    archive.tell("capture.requested")
    archive.archive_all()
    archive.service.execute("UPDATE billing.archive_batches SET policy = NULL")
    end(archive, 1)
    (gone,) = verify(archive, clock=in_a_year).counts.disposed
    assert gone.policy == "RP-1"
