"""A key in AWS KMS (ECC_NIST_P256): the private key never leaves KMS, which logs each use in CloudTrail.

Credentials and region are found as in every program that uses AWS; AWS_ENDPOINT_URL_KMS is used. Each signature is a
request, so a batch takes some milliseconds longer.

KMS gets the digest of what is signed, not the message: that may have 4,096 bytes at most, and a manifest with many
currencies is longer. The signature is the same kind. Source: docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html.
"""

import base64
import hashlib

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from archive.errors import StoreAway, StoreRefused
from archive.s3.s3_errors import code, status
from archive.signing.public_key import ECDSA_P256, PublicKey
from archive.signing.signatures import Signature

_ALGORITHM = "ECDSA_SHA_256"
_SETTING = "BILLING_SIGNING_KMS_KEY"


class KmsSigner:
    """A `Signer`. Opening it asks KMS for the public key. Raises StoreAway and StoreRefused."""

    def __init__(self, kms_key: str, *, region: str) -> None:
        self._kms_key = kms_key
        config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1})
        self._kms = boto3.session.Session().client("kms", region_name=region, config=config)
        try:
            public = PublicKey.read(self._ask("get_public_key")["PublicKey"])
        except ValueError as error:
            raise StoreRefused(f"{_SETTING}: {error}; make a key of the spec ECC_NIST_P256 for SIGN_VERIFY") from None
        self.key_id, self.pem = public.key_id, public.pem

    def sign(self, line: bytes) -> Signature:
        digest = hashlib.sha256(line).digest()
        answer = self._ask("sign", Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM)
        return Signature(self.key_id, ECDSA_P256, base64.b64encode(answer["Signature"]).decode())

    def _ask(self, operation: str, **arguments: object) -> dict[str, bytes]:
        try:
            answer: dict[str, bytes] = getattr(self._kms, operation)(KeyId=self._kms_key, **arguments)
        except ClientError as error:
            message = f"{_SETTING}: KMS answers {status(error)} {code(error)} to {operation}"
            later = status(error) >= 500 or status(error) == 429 or "Throttl" in code(error)
            raise (StoreAway if later else StoreRefused)(message) from None
        except BotoCoreError as error:
            raise StoreAway(f"{_SETTING}: KMS cannot be reached ({type(error).__name__})") from None
        return answer
