"""Signed manifests: what a stranger can check, that a chain stays signed, and how one key replaces another."""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy.exc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from dying import At, Died, Watched, watched_commits
from evidence import Archive
from outside import in_order
from test_verification import verify, verify_copies
from test_writer import NUMBERED, PLACES

from archive.errors import BadKey, EvidenceDiffers
from archive.format import manifests
from archive.policy.retention import CLASSES, Lock, Mode, Period, Policy, Rule, Unit
from archive.signing import keyring
from archive.signing.ed25519 import Ed25519Signer, new_private_key
from archive.signing.signatures import Signature

USD = {"minor": 1999, "currency": "USD"}


def a_signer() -> Ed25519Signer:
    return Ed25519Signer.read(new_private_key())


@pytest.fixture
def signed(archive: Archive) -> Archive:
    """An archive whose archivers sign."""
    archive.signer = a_signer()
    archive.writer().publish_key()
    return archive


def batch_of_captures(archive: Archive, entity: str = "cap_1", **more: Any) -> None:
    archive.tell("capture.requested", of=entity, **USD, **more)
    assert archive.archive_all() == 1


def manifest(archive: Archive, number: int) -> manifests.Manifest:
    key = manifests.key("capture", number)
    return manifests.read(key, archive.outside.body(key))


def test_a_stranger_can_check_the_signature_with_the_public_key_in_the_bucket(signed: Archive) -> None:
    """With none of our code: two lines, a key that is named by its own digest, and a chain of first lines."""
    batch_of_captures(signed)
    batch_of_captures(signed, "cap_2")
    bodies = signed.outside.bodies()
    ((where, pem),) = [(key, body) for key, body in bodies.items() if key.startswith("keys/")]
    public = serialization.load_pem_public_key(pem)
    assert isinstance(public, Ed25519PublicKey)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key_id = hashlib.sha256(der).hexdigest()[:16]
    assert where == f"keys/{key_id}.pem"
    previous = None
    for number in (1, 2):
        line, second, nothing = bodies[f"manifests/v1/capture/{number:012d}.json"].split(b"\n")
        told, signature = json.loads(line), json.loads(second)
        assert nothing == b""
        assert (told["format"], told["key_id"], told["previous"]) == ("billing-archive-manifest/2", key_id, previous)
        assert signature.keys() == {"algorithm", "key_id", "signature"}
        assert (signature["algorithm"], signature["key_id"]) == ("ed25519", key_id)
        public.verify(base64.b64decode(signature["signature"]), line + b"\n")
        previous = hashlib.sha256(line + b"\n").hexdigest()
    assert [batch.manifest_sha256 for batch in signed.known()][-1] == previous
    assert {batch.manifest_key_id for batch in signed.known()} == {key_id}
    for form in (verify, verify_copies):
        verified = form(signed)
        assert (verified.told, verified.counts.signed, verified.counts.unsigned) == ([], {key_id: 2}, 0)


def test_a_chain_that_began_without_signatures_goes_on_with_them(archive: Archive) -> None:
    batch_of_captures(archive)
    archive.signer = a_signer()
    archive.writer().publish_key()
    batch_of_captures(archive, "cap_2")
    assert [manifest(archive, number).key_id for number in (1, 2)] == [None, archive.signer.key_id]
    for form in (verify, verify_copies):
        verified = form(archive)
        assert (verified.told, verified.counts.unsigned) == ([], 1)
    in_order(archive.outside.facts())


def test_an_archiver_without_a_key_claims_nothing_where_manifests_are_signed(signed: Archive) -> None:
    batch_of_captures(signed)
    signed.tell("capture.captured", "invoice.requested")
    signed.signer, signer = None, signed.signer
    done = signed.writer().round()
    assert [str(trouble) for trouble in done.troubles] == [
        "capture batch 2: the manifests of this class are signed, and this archiver has no key; set BILLING_SIGNING_KEY"
    ]
    # A class without signatures goes on.
    assert done.archived == 1
    signed.signer = signer
    assert signed.archive_all() == 1
    assert verify(signed).told == []


def test_postgres_refuses_an_older_archiver_that_would_go_back_to_unsigned_manifests(signed: Archive) -> None:
    """It names no format, because it knows none."""
    batch_of_captures(signed)
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="archive_batches_follows"):
        signed.service.execute(
            "INSERT INTO billing.archive_batches (class, number, event_date, rows, first_seq, last_seq, first_fact,"
            " last_fact, lock_mode, locked_until, manifest_lock_mode, manifest_locked_until)"
            " VALUES ('capture', 2, now(), 1, 2, 2, 2, 2, 'GOVERNANCE', now(), 'GOVERNANCE', now())"
        )


def test_whether_a_batch_is_signed_is_decided_at_its_claim(archive: Archive) -> None:
    """One that an archiver left behind is finished as it was claimed, whichever key its successor has."""
    archive.tell("capture.requested")
    assert archive.claim() is not None
    archive.signer = a_signer()
    archive.writer().publish_key()
    assert archive.archive_all() == 1
    archive.tell("capture.captured", **USD)
    assert archive.claim() is not None
    archive.signer, signer = None, archive.signer
    with pytest.raises(EvidenceDiffers, match="this archiver has no key"):
        archive.round()
    archive.signer = signer
    assert archive.archive_all() == 1
    assert [manifest(archive, number).key_id is None for number in (1, 2)] == [True, False]


def die_at(archive: Archive, where: str, step: str = "round") -> At:
    passes = At(where)
    with watched_commits(passes):
        done = getattr(archive.writer(Watched(archive.store, passes)), step)()  # type: ignore[arg-type]
    assert done.troubles == []
    return passes


def test_what_one_key_began_another_finishes_wherever_the_first_archiver_died(signed: Archive) -> None:
    """While keys are replaced, two archivers have two. The manifest that is there first counts."""
    for n, where in enumerate(NUMBERED):
        signed.tell("capture.requested", of=f"cap_{n}", **USD)
        with pytest.raises(Died):
            die_at(signed, where)
        signed.signer = a_signer()
        signed.writer().publish_key()
        signed.archive_all()
    for form in (verify, verify_copies):
        assert form(signed).told == []
    assert len({batch.manifest_key_id for batch in signed.known()}) > len(NUMBERED) - 3
    in_order(signed.outside.facts())


@pytest.mark.parametrize("how", ["a key that is not in the bucket", "another line", "removed"])
def test_a_manifest_in_our_place_that_no_key_of_ours_signed_is_refused(signed: Archive, how: str) -> None:
    signed.tell("capture.requested", **USD)
    with pytest.raises(Died):
        die_at(signed, "put.before:2")
    ours = signed.signer
    batch = signed.known()[0]
    # What the attacker saw another archiver write.
    signed.signer = a_signer()
    written = capture_put(signed)
    if how == "another line":
        keyring.publish(signed.store, signed.signer, Lock("GOVERNANCE", batch.manifest_locked_until))
        other = Signature(written.key_id or "", "ed25519", signed.signer.sign(b"x").signature)
        written = manifests.read("x", written.line() + manifests.sealed.line({**as_json(other)}))
    body = written.line() if how == "removed" else written.body()
    signed.store.put_once(manifests.key("capture", 1), body, Lock("GOVERNANCE", batch.manifest_locked_until))
    signed.signer = ours
    told = {
        "a key that is not in the bucket": "is not the public key with this id",
        "another line": "did not make",
        "removed": "no signature",
    }
    with pytest.raises(EvidenceDiffers, match=told[how]):
        signed.round()
    assert signed.known()[0].state == "claimed"


def as_json(signature: Signature) -> dict[str, str]:
    return {"key_id": signature.key_id, "algorithm": signature.algorithm, "signature": signature.signature}


class Kept(BaseException):
    """The manifest was about to be written."""


def capture_put(archive: Archive) -> manifests.Manifest:
    """The manifest that an archiver with the archive's signer would write now."""
    bodies: list[bytes] = []

    class Store:
        def put_once(self, key: str, body: bytes, lock: Lock, *how: Any) -> bool:
            if key.startswith(manifests.PREFIX):
                bodies.append(body)
                raise Kept
            return archive.store.put_once(key, body, lock, *how)

        def get(self, *args: Any) -> Any:
            return archive.store.get(*args)

    with pytest.raises(Kept):
        archive.writer(Store()).round()  # type: ignore[arg-type]
    return manifests.read("x", bodies[0])


# Days without facts.


def test_a_class_without_facts_yesterday_gets_a_batch_without_facts_once(signed: Archive) -> None:
    signed.tell("capture.requested", at="now() - interval '3 days'", **USD)
    signed.archive_all()
    assert signed.writer().daily().troubles == []
    assert signed.writer().daily().troubles == []
    known = {(batch.retention_class, batch.number): batch for batch in signed.known()}
    assert known.keys() == {("admin", 1), ("attempt", 1), ("capture", 1), ("capture", 2), ("invoice", 1)}
    empty = known["capture", 2]
    assert (empty.rows, empty.first_seq, empty.last_seq, empty.state) == (0, 2, 1, "archived")
    assert (empty.object_sha256, empty.object_version) == (None, None)
    told = json.loads(signed.outside.body(manifests.key("capture", 2)).splitlines()[0])
    assert told["empty"] == "no planned fact of this class waited when the batch was claimed"
    assert (told["key"], told["sha256"], told["version"], told["size"]) == (None, None, None, 0)
    assert told["claimed_at"] == empty.claimed_at.isoformat()
    yesterday = "CAST(now() AT TIME ZONE 'UTC' AS date) - 1"
    signed.service.execute(
        f"DO $$ BEGIN ASSERT {yesterday} = (SELECT max(event_date) FROM billing.archive_batches); END $$"
    )
    # Facts go on where they ended.
    batch_of_captures(signed, "cap_2")
    in_order(signed.outside.facts())
    for form in (verify, verify_copies):
        verified = form(signed)
        assert (verified.told, verified.counts.facts, verified.counts.objects) == ([], 2, 2)


@pytest.mark.parametrize("waits", ["now() - interval '2 days'", "now()"])
def test_a_class_in_which_a_fact_waits_has_no_day_without_facts(archive: Archive, waits: str) -> None:
    archive.tell("capture.requested", at=waits)
    archive.writer(wait_s=3600.0).daily()
    assert {batch.retention_class for batch in archive.known()} == {"admin", "attempt", "invoice"}


def test_archives_that_sign_nothing_have_days_without_facts_too(archive: Archive) -> None:
    archive.writer().daily()
    batch_of_captures(archive)
    assert [manifest(archive, number).rows for number in (1, 2)] == [0, 1]
    for form in (verify, verify_copies):
        assert form(archive).told == []


def test_an_archiver_that_dies_in_a_batch_without_facts_is_finished_by_the_next(signed: Archive) -> None:
    passed = die_at(signed, "", "daily").passed
    # For each of four classes no object is put, so a batch has fewer places than one with facts. The first is enough.
    assert len(passed) < 4 * len(PLACES)
    for n, place in enumerate(passed[: len(passed) // 4 + 1]):
        signed.service.execute("DELETE FROM billing.archive_batches")
        archive = Archive(signed.service, signed.s3, signed.store, signed.directory / str(n))
        archive.signer = signed.signer
        with pytest.raises(Died):
            die_at(archive, f"{place}:{passed[: n + 1].count(place)}", "daily")
        assert archive.archive_all() == 0
        archive.writer().daily()
        assert [(batch.rows, batch.state) for batch in archive.known()] == [(0, "archived")] * 4
        assert (n, verify(archive).told) == (n, [])


# Keys.


def test_the_public_key_stays_locked_as_long_as_the_newest_manifest(signed: Archive) -> None:
    """It is locked for longer every day."""
    assert signed.signer is not None
    where = keyring.place(signed.signer.key_id)
    lock = signed.store.get(where).lock
    assert lock is not None
    later = Lock(lock.mode, lock.until.replace(year=lock.until.year + 1))
    keyring.publish(signed.store, signed.signer, later)
    assert signed.store.get(where).lock == later
    signed.writer().daily()
    assert signed.store.get(where).lock == later
    assert len([version for version in signed.outside.versions() if version["Key"] == where]) == 1


def test_another_file_in_the_place_of_the_public_key_is_an_alarm_and_facts_go_on(signed: Archive) -> None:
    signed.signer = a_signer()
    where = keyring.place(signed.signer.key_id)
    signed.outside.s3.put_object(Bucket=signed.bucket, Key=where, Body=a_signer().pem)
    with pytest.raises(EvidenceDiffers, match=where):
        signed.writer().publish_key()
    (trouble,) = signed.writer().daily().troubles
    assert where in str(trouble)


@pytest.mark.parametrize(
    "pem",
    [
        "canary",
        "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----",
        a_signer().pem.decode(),
    ],
)
def test_what_is_no_private_key_is_refused_and_not_shown(pem: str) -> None:
    with pytest.raises(BadKey, match="billing archive key new") as refused:
        Ed25519Signer.read(pem)
    assert "Y2FuYXJ5" not in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_signed_manifest_names_the_policy_and_an_unsigned_one_is_as_older_versions_write_it(archive: Archive) -> None:
    """At the disposal of its object the retention file may say something else, and Postgres may be away."""
    archive.policy = Policy(dict.fromkeys(CLASSES, Rule(Mode.GOVERNANCE, Period(90, Unit.DAY), name="RP-1")))
    batch_of_captures(archive)
    archive.signer = a_signer()
    archive.writer().publish_key()
    batch_of_captures(archive, "cap_2")
    assert [manifest(archive, number).policy for number in (1, 2)] == [None, "RP-1"]
    assert b"policy" not in archive.outside.body(manifests.key("capture", 1))
    for form in (verify, verify_copies):
        assert form(archive).told == []


def test_an_archiver_that_names_no_policy_and_one_that_does_finish_each_others_batches(signed: Archive) -> None:
    """One of an earlier build does not know the field; whichever manifest is there first counts."""
    signed.tell("capture.requested", **USD)
    with pytest.raises(Died):
        die_at(signed, "put.before:2")
    batch = signed.known()[0]
    written = replace(capture_put(signed), policy=None)
    assert signed.signer is not None
    earlier = written.signed(signed.signer)
    signed.store.put_once(manifests.key("capture", 1), earlier.body(), Lock("GOVERNANCE", batch.manifest_locked_until))
    assert signed.archive_all() == 1
    assert manifest(signed, 1) == earlier
    # A batch that an archiver claimed which has no such column.
    signed.tell("capture.captured", **USD)
    with pytest.raises(Died):
        die_at(signed, "put.before:2")
    signed.service.execute("UPDATE billing.archive_batches SET policy = NULL WHERE number = 2")
    assert signed.archive_all() == 1
    assert manifest(signed, 2).policy is None
    for form in (verify, verify_copies):
        assert form(signed).told == []


@pytest.mark.parametrize("policy", [7, "", "x" * 81, "ten\nyears", "z\u00fcrich", "\x1b[2J"])
def test_a_policy_that_could_steer_a_terminal_is_no_manifest(signed: Archive, policy: object) -> None:
    batch_of_captures(signed)
    told = json.loads(manifest(signed, 1).line())
    forged = manifests.sealed.line({**told, "policy": policy})
    with pytest.raises(EvidenceDiffers, match="not a manifest"):
        manifests.read("x", forged)
