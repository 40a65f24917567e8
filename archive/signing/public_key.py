"""A public key: its id, and whether it made a signature. The two algorithms that manifests are signed with."""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archive.signing.signatures import Signature

ED25519, ECDSA_P256 = "ed25519", "ecdsa-p256-sha256"


class PublicKey:
    """Immutable, and safe to use from many threads."""

    def __init__(self, key: Ed25519PublicKey | EllipticCurvePublicKey) -> None:
        self._key = key
        self.algorithm = ED25519 if isinstance(key, Ed25519PublicKey) else ECDSA_P256
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = hashlib.sha256(der).hexdigest()[:16]
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def read(cls, encoded: bytes) -> "PublicKey":
        """From PEM or DER. Raises ValueError if it is not a public key of a kind that signs manifests."""
        pem = encoded.lstrip().startswith(b"-----BEGIN")
        load = serialization.load_pem_public_key if pem else serialization.load_der_public_key
        try:
            key = load(encoded)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("not a public key") from None
        if isinstance(key, Ed25519PublicKey):
            return cls(key)
        if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
            return cls(key)
        raise ValueError("a public key of another kind than Ed25519 and ECDSA P-256")

    def made(self, signature: Signature, line: bytes) -> bool:
        """Whether the private key of this public key signed this line so."""
        if (signature.key_id, signature.algorithm) != (self.key_id, self.algorithm):
            return False
        try:
            value = base64.b64decode(signature.signature, validate=True)
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(value, line)
            else:
                self._key.verify(value, line, ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
