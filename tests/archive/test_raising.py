"""What is archived in GOVERNANCE is raised to COMPLIANCE, which nobody can take back."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from evidence import Archive
from test_verification import Attacker, ask_of, m, verify

from archive.errors import EvidenceDiffers, StoreRefused
from archive.keeping import raising
from archive.keeping.raising import Became
from archive.policy.retention import Lock
from archive.s3 import configuration
from billing import database


@pytest.fixture
def three(archive: Archive) -> Archive:
    """Two batches of captures, and one of attempts."""
    for n in range(2):
        archive.tell("capture.requested", of=f"cap_{n}")
        archive.archive_all()
    archive.tell("capture.attempted", of="cap_0")
    archive.archive_all()
    return archive


def raise_(archive: Archive, *classes: str) -> dict[Became, int]:
    return raising.raise_locks(archive.store, ask_of(archive), classes or ("capture",), pauses_s=())


def modes(archive: Archive) -> dict[str, str]:
    return {
        each["Key"]: archive.outside.s3.get_object_retention(Bucket=archive.bucket, Key=each["Key"])["Retention"][
            "Mode"
        ]
        for each in archive.outside.versions()
    }


def counts(raised: int = 0, already: int = 0, ended: int = 0) -> dict[Became, int]:
    return {Became.RAISED: raised, Became.WAS_COMPLIANCE: already, Became.ENDED: ended}


def test_objects_and_manifests_of_the_class_are_raised_and_no_others(three: Archive):
    assert raise_(three) == counts(raised=4)
    raised = {key for key, mode in modes(three).items() if mode == "COMPLIANCE"}
    keys = {Attacker(three).key(n) for n in (1, 2)}
    assert raised == {*keys, m(1), m(2)}
    assert verify(three).told == []


def test_a_raised_object_is_deleted_by_nobody_and_keeps_its_end(three: Archive):
    attacker = Attacker(three)
    before = three.store.lock(attacker.key(1), attacker.version(attacker.key(1)))
    raise_(three)
    after = three.store.lock(attacker.key(1), attacker.version(attacker.key(1)))
    assert before is not None
    assert after == Lock("COMPLIANCE", before.until)
    for destroy in (attacker.key(1), m(1)):
        with pytest.raises(ClientError, match="AccessDenied"):
            attacker.destroy(destroy)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_one_that_died_on_its_way_goes_on_where_it_was(three: Archive, monkeypatch, calls):
    real, count = configuration.raise_lock, 0

    def dying(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as here:
        here.setattr(raising, "raise_lock", dying)
        here.setattr(raising, "REQUESTS", 1)
        with pytest.raises(KeyboardInterrupt):
            raise_(three)
    assert raise_(three) == counts(raised=4 - calls, already=calls)
    assert raise_(three) == counts(already=4)


def test_a_lock_that_has_ended_stays_as_it_is(three: Archive):
    three.service.execute("UPDATE billing.archive_batches SET locked_until = now() - interval '1 s' WHERE number = 1")
    assert raise_(three) == counts(raised=3, ended=1)


def test_a_lock_that_was_made_longer_stays_longer(three: Archive):
    attacker = Attacker(three)
    attacker.lock(attacker.key(1), Mode="GOVERNANCE", RetainUntilDate=attacker.until)
    raise_(three)
    assert three.store.lock(attacker.key(1), attacker.version(attacker.key(1))) == Lock("COMPLIANCE", attacker.until)


def test_other_bytes_in_the_place_of_a_manifest_are_not_locked_for_good(three: Archive):
    Attacker(three).put(m(2), b"forged")
    with pytest.raises(EvidenceDiffers, match="other bytes than Postgres says"):
        raise_(three)
    assert three.outside.s3.get_object_retention(Bucket=three.bucket, Key=m(2))["Retention"]["Mode"] == "GOVERNANCE"


def test_a_login_that_may_not_bypass_is_told_what_it_needs(three: Archive, monkeypatch):
    def refused(**_: Any) -> None:
        answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "PutObjectRetention")  # type: ignore[arg-type]

    monkeypatch.setattr(three.store.client, "put_object_retention", refused)
    with pytest.raises(StoreRefused, match=r"needs s3:PutObjectRetention and s3:BypassGovernanceRetention"):
        raise_(three)


def test_it_is_said_how_much_is_raised_and_until_when_before_it_is(three: Archive):
    with database.transaction(three.service.engine) as session:
        extent = raising.extent(session, ["capture"])
        nothing = raising.extent(session, ["invoice"])
    latest = max(batch.manifest_locked_until for batch in three.known() if batch.retention_class == "capture")
    assert (extent.batches, extent.facts, extent.until) == (2, 2, latest)
    assert (nothing.batches, nothing.facts, nothing.until) == (0, 0, None)
