"""Check one key in S3: the version that must be there, its bytes and its lock, and that nothing else is there."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from archive.errors import EvidenceDiffers, StoreAway
from archive.format import manifests
from archive.policy.retention import Lock
from archive.s3.store import Listed, Store, Stored
from archive.signing import keyring
from archive.signing.public_key import PublicKey
from archive.verifying.findings import Finding

T = TypeVar("T")
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""A million objects take an hour, in which any store fails for a moment: each request is tried six times."""
MOST_MANIFEST_BYTES = 1_000_000
"""A manifest has less than 1 kB, and some bytes for each currency. A larger object is no manifest, and is not read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The one version that must be at this key."""

    key: str
    version: str
    sha256: str
    lock: Lock
    held: bool = False
    """Whether a legal hold in force needs it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is wrong with an object. `disposed`: it is gone, and nothing forbade that any more."""

    findings: list[Finding]
    disposed: bool = False


class Versions:
    """Reads one bucket. Safe to use from many threads. A lock that has ended by `now` need not exist any more."""

    def __init__(self, store: Store, now: datetime, pauses_s: Sequence[float]) -> None:
        self.store, self._now, self._pauses_s = store, now, pauses_s

    def patiently(self, call: Callable[[], T]) -> T:
        """Call it, and again after a pause if it raises StoreAway; the last attempt raises."""
        return patiently(call, self._pauses_s)

    def check(self, wanted: Wanted, listed: Sequence[Listed]) -> Checked:
        """Download this version and compare its digest, lock and legal hold.

        Also name everything else that is listed at its key. After its lock has ended, rules of expiry may hide the
        object under a delete marker, and then delete it; a hold forbids the second.
        """
        stored = self._get(wanted.key, wanted.version)
        beside = [entry for entry in listed if not (entry.marker and self._may_end(wanted, entry.written))]
        found = list(self.beside(wanted.key, stored, beside))
        digest = f"SHA-256 {wanted.sha256}"
        if stored is None:
            if not wanted.held and self._may_end(wanted, self._now):
                return Checked(found, disposed=True)
            why = ", under a legal hold" if wanted.held else ""
            missing = Finding(wanted.key, wanted.version, f"this version, with {digest}{why}", "no such version")
            return Checked([missing, *found])
        if stored.sha256 != wanted.sha256:
            found.append(Finding(wanted.key, wanted.version, digest, f"bytes with SHA-256 {stored.sha256}"))
        if wanted.held and not stored.held:
            found.append(Finding(wanted.key, wanted.version, "a legal hold", "none, or none that this login may see"))
        return Checked([*found, *self.unlocked(wanted.key, stored, wanted.lock)])

    def _may_end(self, wanted: Wanted, at: datetime) -> bool:
        """Whether its lock had ended at that time, which S3 gives in whole seconds."""
        return wanted.lock.until <= min(at, self._now)

    def manifest(self, listed: Sequence[Listed], sha256: str | None) -> Stored | None:
        """The version with this digest (of its signed line); if there is none, or none is known, the oldest, which an
        archiver wrote.

        None if nothing is at the key, or nothing that is small enough to be a manifest.
        """
        oldest = None
        for entry in listed:
            if entry.marker or entry.size > MOST_MANIFEST_BYTES:
                continue
            stored = self._get(entry.key, entry.version)
            if stored is not None and (sha256 is None or manifests.digest(stored.body) == sha256):
                return stored
            oldest = oldest or stored
        return oldest

    def public_key(self, key: str, listed: Sequence[Listed]) -> tuple[PublicKey, Stored] | None:
        """The oldest version that is the public key with the id in this place's name; None if there is none."""
        for entry in listed:
            if entry.marker or entry.size > MOST_MANIFEST_BYTES:
                continue
            stored = self._get(key, entry.version)
            found = keyring.public_key(key, stored.body) if stored is not None else None
            if stored is not None and found is not None:
                return found, stored
        return None

    def unlocked(self, key: str, stored: Stored, *locks: Lock) -> Iterator[Finding]:
        """A finding if the version is not locked as it must be. A lock that has ended need not be there."""
        needed = [lock for lock in locks if lock.until > self._now]
        has = stored.lock or (needed and self.patiently(lambda: self.store.lock(key, stored.version))) or None
        for lock in needed:
            if has is None or not has.holds(lock):
                yield Finding(key, stored.version, _shown(lock), _shown(has) if has else "no lock")
                return

    def beside(self, key: str, right: Stored | None, listed: Sequence[Listed]) -> Iterator[Finding]:
        """Delete markers, and versions other than the right one.

        An archiver makes neither, because it never overwrites.
        """
        for entry in listed:
            if entry.marker:
                yield Finding(key, entry.version, "no delete marker", named(entry))
            elif right is None:
                yield Finding(key, entry.version, "no other version", named(entry))
            elif entry.version != right.version:
                other = self._get(key, entry.version) if entry.size == len(right.body) else None
                bytes_ = "the same" if other is not None and other.body == right.body else "other"
                yield Finding(
                    key, entry.version, f"version {right.version} alone", f"{named(entry)} with {bytes_} bytes"
                )

    def _get(self, key: str, version: str) -> Stored | None:
        try:
            return self.patiently(lambda: self.store.get(key, version))
        except EvidenceDiffers:
            return None


def patiently(call: Callable[[], T], pauses_s: Sequence[float] = PAUSES_S) -> T:
    """Call it, and again after each pause if it raises StoreAway; the last attempt raises."""
    for pause_s in pauses_s:
        try:
            return call()
        except StoreAway:
            time.sleep(pause_s)
    return call()


def named(entry: Listed) -> str:
    return f"a {'delete marker' if entry.marker else 'version'} of {entry.written:%Y-%m-%d %H:%M:%S} UTC"


def _shown(lock: Lock) -> str:
    return f"a lock in {lock.mode} until {lock.until:%Y-%m-%d %H:%M:%S} UTC"
