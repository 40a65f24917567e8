"""The public keys in the bucket, at `keys/<key id>.pem`, and what is wrong with a signature.

A key id is a digest of its key, so a key that was exchanged does not fit its name. Everybody who can write to the
bucket can add a key. Which keys are ours is known by those who got their ids by hand (`billing archive keys`).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from archive.errors import EvidenceDiffers
from archive.policy.retention import Lock
from archive.s3.store import Store
from archive.signing.public_key import PublicKey
from archive.signing.signatures import Signature, Signer

PREFIX = "keys/"


def place(key_id: str) -> str:
    return f"{PREFIX}{key_id}.pem"


def publish(store: Store, signer: Signer, lock: Lock) -> None:
    """Put the public key into the bucket unless it is there, locked at least until the end of `lock`.

    Do so before it signs, and every day: the key must be locked as long as the newest manifest that it signed. Raises
    EvidenceDiffers if something else is in its place.
    """
    key = place(signer.key_id)
    store.put_once(key, signer.pem, lock)
    found = store.get(key)
    if found.body != signer.pem:
        raise EvidenceDiffers(key, "another file is in the place of the public key")
    if found.lock is None or found.lock.until < lock.until:
        # In its own mode: to raise GOVERNANCE to COMPLIANCE needs a right that no archiver has.
        mode = found.lock.mode if found.lock else lock.mode
        store.extend(key, found.version, Lock(mode, lock.until))


def public_key(where: str, body: bytes) -> PublicKey | None:
    """The key that was read at this place; None if it is none, or not the one with this id."""
    try:
        key = PublicKey.read(body)
    except ValueError:
        return None
    return key if place(key.key_id) == where else None


def read(store: Store) -> dict[str, PublicKey]:
    """The keys in the bucket, by id; whatever else is there is left out. Raises StoreAway and StoreRefused."""
    return {key.key_id: key for key in _found(store)}


def _found(store: Store) -> Iterator[PublicKey]:
    for where in store.keys(PREFIX):
        if re.fullmatch(rf"{PREFIX}[0-9a-f]{{16}}\.pem", where):
            try:
                key = public_key(where, store.get(where).body)
            except EvidenceDiffers:
                continue  # under a delete marker since the listing
            if key is not None:
                yield key


@dataclass(frozen=True, slots=True)
class Keyring:
    """The public keys that are known. If `expected` names any, only these may have signed."""

    keys: Mapping[str, PublicKey]
    expected: Collection[str] = ()

    def trouble(self, key_id: str, signature: Signature | None, line: bytes) -> str | None:
        """What is wrong with the signature of this line, which says that this key signed it; None if nothing is."""
        if signature is None:
            return "no signature"
        if signature.key_id != key_id:
            return f"a signature by key {signature.key_id}, where the signed line names key {key_id}"
        if self.expected and key_id not in self.expected:
            return f"a signature by key {key_id}, which is not one of the expected keys"
        if key_id not in self.keys:
            return f"a signature by key {key_id}, and {place(key_id)} is not the public key with this id"
        if not self.keys[key_id].made(signature, line):
            return f"a signature that key {key_id} did not make"
        return None
