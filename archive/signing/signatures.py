"""What a signature is, and what makes one: a private key of this process, or one that never leaves AWS KMS."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Signature:
    """Over the bytes of one line with its newline.

    `key_id`: the first 16 hexadecimal digits of the SHA-256 of the public key in DER. `algorithm`: `ed25519`, or
    `ecdsa-p256-sha256`, which gives other bytes each time. `signature` is in base64.
    """

    key_id: str
    algorithm: str
    signature: str


class Signer(Protocol):
    """Signs with one private key. Safe to use from many threads."""

    @property
    def key_id(self) -> str: ...

    @property
    def pem(self) -> bytes:
        """The public key, as everybody may read it."""

    def sign(self, line: bytes) -> Signature:
        """Raises StoreAway and StoreRefused if the key is at another service."""
