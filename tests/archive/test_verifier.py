"""The auditor's `verify.py` and the real archiver agree: what it wrote is verified, wherever it was killed."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from auditor import Auditor
from dying import Died
from evidence import Archive
from test_writer import NUMBERED, die_at

from archive.signing.ed25519 import Ed25519Signer, new_private_key
from jobs.local.seaweed import SeaweedFS

USD = {"minor": 1999, "currency": "USD"}


@pytest.fixture
def auditor(s3: SeaweedFS, tmp_path: Path) -> Auditor:
    return Auditor(s3, tmp_path)


@pytest.fixture
def signed(archive: Archive) -> Archive:
    """An archive whose archivers sign."""
    archive.signer = Ed25519Signer.read(new_private_key())
    archive.writer().publish_key()
    return archive


def pem_of(archive: Archive) -> bytes:
    assert archive.signer is not None
    return archive.signer.pem


def a_history(archive: Archive) -> None:
    """Batches of three classes on three days, one of them long ago, and a day without facts."""
    archive.tell("capture.requested", "capture.attempted", "capture.captured", at="'2026-11-01 10:00+00'", **USD)
    archive.archive_all()
    archive.tell("capture.requested", "capture.captured", of="cap_2", at="'2026-11-02 10:00+00'", **USD)
    archive.tell("switch.pulled", of="swi_1")
    archive.archive_all()
    archive.writer().daily()


def test_what_the_archiver_wrote_is_verified_by_a_stranger(signed: Archive, auditor: Auditor) -> None:
    a_history(signed)
    said = auditor.verify(signed.bucket, [pem_of(signed)])
    assert (said.differs, said.status) == ([], 0)
    assert '"facts": 6' in said.out
    assert 'captured, in minor units: {"USD": 3998}' in said.out
    heads = {each.retention_class: [each.number, each.manifest_sha256] for each in signed.known()}
    for name, (number, digest) in heads.items():
        assert f'"{name}": [{number}, "{digest}"]' in said.out
    # As it does so without the key, and not with another one.
    assert auditor.verify(signed.bucket).status == 0
    assert auditor.verify(signed.bucket, [Ed25519Signer.read(new_private_key()).pem]).status == 1


def test_an_archive_from_before_there_were_signatures_is_verified_and_said_to_be_unsigned(
    archive: Archive, auditor: Auditor
) -> None:
    archive.tell("capture.requested", "capture.captured", **USD)
    archive.archive_all()
    said = auditor.verify(archive.bucket)
    assert said.status == 0
    assert '"manifests of capture, signed by nobody": 1' in said.out
    # Heads that were published unsigned prove something there, too.
    (batch,) = archive.known()
    for digest, status in ((batch.manifest_sha256, 0), ("0" * 64, 1)):
        heads = json.dumps({"heads": {"capture": [1, digest]}}).encode() + b"\n"
        assert auditor.verify(archive.bucket, heads=[heads]).status == status


def test_an_archiver_that_died_anywhere_left_nothing_that_is_taken_for_an_attack(
    signed: Archive, auditor: Auditor
) -> None:
    a_history(signed)
    for number, where in enumerate(NUMBERED):
        signed.tell("capture.requested", "capture.captured", of=f"cap_x{number}", **USD)
        with pytest.raises(Died):
            die_at(signed, where)
        # An object that lies there without a manifest is young.
        said = auditor.verify(signed.bucket, [pem_of(signed)], after=timedelta(0))
        assert (where, said.differs) == (where, [])
        signed.archive_all()
    assert auditor.verify(signed.bucket, [pem_of(signed)]).differs == []
