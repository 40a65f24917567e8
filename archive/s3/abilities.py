"""What a bucket must be able to do to hold evidence, each tried below `probes/` before a fact is written there.

Some servers accept a request and leave out what makes it safe: the condition, the digest, the lock. Only a try shows
that.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from archive.errors import StoreAway, StoreRefused
from archive.policy.retention import Lock, Mode
from archive.s3.s3_errors import code, passing, status
from archive.s3.store import PROBES, Store, checksum

TAKEN = f"{PROBES}taken"
"""A key that an archiver finds taken, so that it leaves one object here, however often it starts."""
MISFIT = f"{PROBES}another-digest"
"""A key under which nothing is ever stored, unless the bucket takes a body that does not fit its digest."""
LOCK_S = 120
_ELSEWHERE = "use another S3 server; what this one holds is no evidence"


@dataclass(frozen=True, slots=True)
class Ability:
    """Something that a bucket does. `needed`: without it no fact is written. `fix`: what to do where it is missing."""

    name: str
    needed: bool
    fix: str


CONDITION = Ability("conditional put", True, f"it must honor If-None-Match: *; {_ELSEWHERE}")
VERSIONS = Ability("versions", True, "billing archive policy apply enables them; otherwise use another S3 server")
LOCK = Ability("lock", True, f"it must store the lock that comes with an object; {_ELSEWHERE}")
ENCRYPTION = Ability(
    "encryption", True, "correct BILLING_S3_ENCRYPTION and BILLING_S3_KMS_KEY, or what the login may do with that key"
)
LASTING = Ability("lasting lock", True, f"nobody may shorten a lock; {_ELSEWHERE}")
KEPT = Ability("locked versions", True, f"a locked version must stay; {_ELSEWHERE}")
CHECKSUM = Ability(
    "checksum",
    False,
    "nothing is lost: archivers read every object back; a body that is damaged on the way costs a batch",
)
LISTING = Ability("list of versions", False, "billing archive verify cannot see here what was hidden or overwritten")
ABILITIES = (CONDITION, VERSIONS, LOCK, ENCRYPTION, LASTING, KEPT, CHECKSUM, LISTING)


@dataclass(frozen=True, slots=True)
class Lack:
    """An ability that the bucket does not have, and what it did instead."""

    ability: Ability
    found: str

    def __str__(self) -> str:
        return f"{self.ability.name}: {self.found}"


def when_writing(store: Store) -> list[Lack]:
    """What an archiver's own login can try, in a few requests: all but deletion, shorter locks, and listed versions.

    It tries nothing that the bucket's log would show as an attack. Raises StoreAway and StoreRefused.
    """
    return list(_when_writing(store))


def all_of_them(store: Store) -> list[Lack]:
    """Also tries to shorten locks and to delete what is locked, which needs the login `operator` or `setup`.

    It leaves empty objects below `probes/`, whose locks end two minutes later; the next examination deletes them.
    Raises StoreAway and StoreRefused.
    """
    _clear(store)
    lacks = list(_when_writing(store))
    if not {lack.ability for lack in lacks} & {VERSIONS, LOCK, ENCRYPTION}:
        lacks += [*_locks(store), *_listing(store)]
    return lacks


def soon(seconds: int = LOCK_S) -> Lock:
    """A lock for something that is only tried."""
    return Lock(Mode.GOVERNANCE, datetime.now(UTC) + timedelta(seconds=seconds))


def fresh_key() -> str:
    return f"{PROBES}{uuid.uuid4()}"


def _when_writing(store: Store) -> Iterator[Lack]:
    try:
        made = store.put_once(TAKEN, b"", soon())
    except (StoreAway, StoreRefused) as error:
        if store.encryption is None or _refusal_of_put(store, fresh_key()) is not None:
            raise
        yield Lack(ENCRYPTION, f"no object is taken with it ({error})")
        return
    if made and store.put_once(TAKEN, b"", soon()):
        yield Lack(CONDITION, "an object was put twice under one key")
    lacks = list(_lacks_of_an_object(store, TAKEN))
    if lacks and not made:
        # What is there may be older than a setting, or than the server's version.
        key = fresh_key()
        store.put_once(key, b"", soon())
        lacks = list(_lacks_of_an_object(store, key))
    yield from lacks
    with store.translated(MISFIT):
        refused = _refusal_of_put(store, MISFIT, b"one body", says=b"another")
        if refused is not None and status(refused) in (401, 403):
            raise refused
    # 412: an earlier examination put one.
    if refused is None or status(refused) == 412:
        yield Lack(CHECKSUM, "an object was taken whose SHA-256 is not the one that it came with")


def _lacks_of_an_object(store: Store, key: str) -> Iterator[Lack]:
    shown = _shown(store, key)
    if shown.get("VersionId", "null") == "null":
        yield Lack(VERSIONS, "an object that was put has no version")
    if "ObjectLockMode" not in shown:
        yield Lack(LOCK, "an object that was put with a lock has none")
    if store.encryption is not None:
        asked, done = store.encryption.asked_for["ServerSideEncryption"], shown.get("ServerSideEncryption", "none")
        if asked != done:
            yield Lack(ENCRYPTION, f"{asked} was asked for, and an object has {done}")


def _locks(store: Store) -> Iterator[Lack]:
    for mode in Mode:
        key, lock = fresh_key(), soon()
        store.put_once(key, b"", Lock(mode, lock.until))
        version = {"Bucket": store.bucket, "Key": key, "VersionId": store.get(key).version}
        shorter = {"Mode": mode, "RetainUntilDate": lock.until - timedelta(seconds=LOCK_S // 2)}
        with store.translated(key):
            if _refusal(store.client.put_object_retention, **version, Retention=shorter) is None:
                yield Lack(LASTING, f"a {mode} lock was shortened")
            refused = _refusal(store.client.delete_object, **version)
        if refused is None:
            yield Lack(KEPT, f"a version with a {mode} lock was deleted")
        elif status(refused) != 403:
            yield Lack(KEPT, f"it answered {code(refused)} where a version with a {mode} lock was to be deleted")


def _listing(store: Store) -> Iterator[Lack]:
    version = _shown(store, TAKEN)["VersionId"]
    with store.translated(TAKEN):
        listed = store.client.list_object_versions(Bucket=store.bucket, Prefix=TAKEN).get("Versions", ())
    if version not in [each["VersionId"] for each in listed]:
        yield Lack(LISTING, "a version that is there is not listed")


def _clear(store: Store) -> None:
    """Delete what earlier examinations left, except what is still locked or what this login may not delete."""
    with store.translated(PROBES):
        found = store.client.list_object_versions(Bucket=store.bucket, Prefix=PROBES)
        for each in found.get("Versions", ()):
            if each["Key"] == TAKEN:
                continue
            version = {"Bucket": store.bucket, "Key": each["Key"], "VersionId": each["VersionId"]}
            refused = _refusal(store.client.delete_object, **version)
            if refused is not None and status(refused) != 403:
                raise refused


def _shown(store: Store, key: str) -> dict[str, Any]:
    """What S3 says of an object. A GET, because an error that answers a HEAD has no name."""
    with store.translated(key):
        shown: dict[str, Any] = store.client.get_object(Bucket=store.bucket, Key=key)
        shown["Body"].read()
    return shown


def _refusal_of_put(store: Store, key: str, body: bytes = b"", *, says: bytes = b"") -> ClientError | None:
    """Put an object without encryption of ours, and with the digest of `says`. Otherwise as `_refusal`."""
    lock = soon()
    with store.translated(key):
        return _refusal(
            store.client.put_object,
            Bucket=store.bucket,
            Key=key,
            Body=body,
            IfNoneMatch="*",
            **checksum(says),
            ObjectLockMode=lock.mode,
            ObjectLockRetainUntilDate=lock.until,
        )


def _refusal(call: Callable[..., object], **arguments: Any) -> ClientError | None:
    """S3's answer if it refused, None if it did what was asked. Raises ClientError if neither is known."""
    try:
        call(**arguments)
    except ClientError as error:
        if passing(error):
            raise
        return error
    return None
