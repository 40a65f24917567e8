"""Signing in AWS KMS, against moto's server: it signs with real keys, ECDSA over P-256, and answers as KMS does.

moto hashes what it gets again, although it is told that this is a digest; here it is taught what KMS does.
"""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from dying import Died
from evidence import Archive
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer
from test_signing import die_at, manifest
from test_verification import verify, verify_copies

from archive.errors import StoreAway, StoreRefused
from archive.signing.kms import KmsSigner
from archive.signing.public_key import PublicKey

REGION = "eu-central-1"


MOST_BYTES = 4096
"""KMS takes no longer message. Source: docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html."""


def sign_as_kms_does(key: Any, message: bytes, _algorithm: str) -> bytes:
    signature: bytes = key.private_key.sign(message, ECDSA(Prehashed(SHA256())))
    return signature


def take_what_kms_takes(request: Any) -> str:
    message, kind = request._get_param("Message"), request._get_param("MessageType")
    assert (kind, len(message)) == ("DIGEST", 32), f"a {kind} of {len(message)} bytes"
    answer: str = moto_sign(request)
    return answer


moto_sign = KmsResponse.sign


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    patched = pytest.MonkeyPatch()
    patched.setattr(ECDSAPrivateKey, "sign", sign_as_kms_does)
    patched.setattr(KmsResponse, "sign", take_what_kms_takes)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    patched.undo()


@pytest.fixture
def kms(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An administrator's client; ours find the server and keys by AWS's own variables."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return boto3.client("kms", region_name=REGION)


def a_key(kms: Any, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
    key: str = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
    return key


def test_kms_signs_another_way_each_time_and_the_public_key_verifies_both(kms: Any) -> None:
    signer = KmsSigner(a_key(kms), region=REGION)
    public = PublicKey.read(signer.pem)
    assert (public.key_id, public.algorithm) == (signer.key_id, "ecdsa-p256-sha256")
    one, other = signer.sign(b"a line\n"), signer.sign(b"a line\n")
    assert one != other
    assert public.made(one, b"a line\n")
    assert public.made(other, b"a line\n")
    assert not public.made(one, b"another line\n")


def test_a_line_is_signed_though_it_is_longer_than_a_message_that_kms_takes(kms: Any) -> None:
    """A manifest with the sums of many currencies. Otherwise its class would stop for ever."""
    signer, line = KmsSigner(a_key(kms), region=REGION), b"x" * (2 * MOST_BYTES) + b"\n"
    assert PublicKey.read(signer.pem).made(signer.sign(line), line)


def test_two_archivers_sign_the_same_manifest_in_kms_and_the_first_one_counts(archive: Archive, kms: Any) -> None:
    archive.signer = KmsSigner(a_key(kms), region=REGION)
    archive.writer().publish_key()
    archive.tell("capture.requested", minor=1999, currency="USD")
    with pytest.raises(Died):
        die_at(archive, "put.after:2")  # its manifest is there, and it has not read it back
    first = manifest(archive, 1)
    assert archive.archive_all() == 1
    assert manifest(archive, 1).signature == first.signature
    for form in (verify, verify_copies):
        verified = form(archive)
        assert (verified.told, verified.counts.signed) == ([], {archive.signer.key_id: 1})


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ({"spec": "RSA_2048"}, "make a key of the spec ECC_NIST_P256"),
        ({"spec": "ECC_SECG_P256K1"}, "make a key of the spec ECC_NIST_P256"),
        (None, "KMS answers 400 NotFoundException to get_public_key"),
    ],
)
def test_a_key_that_cannot_sign_manifests_is_refused_in_one_line(kms: Any, key: Any, told: str) -> None:
    arn = a_key(kms, **key) if key else "00000000-0000-0000-0000-000000000000"
    with pytest.raises(StoreRefused, match=told) as refused:
        KmsSigner(arn, region=REGION)
    assert str(refused.value).startswith("BILLING_SIGNING_KMS_KEY: ")


def test_a_kms_out_of_reach_is_waited_for(kms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = a_key(kms)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
    with pytest.raises(StoreAway, match="KMS cannot be reached"):
        KmsSigner(arn, region=REGION)
