"""The bucket: each object is written once, locked, and read back.

The SDK repeats no call by itself. The caller decides whether to try again, so every attempt is visible.
"""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from botocore.exceptions import ClientError

from archive.errors import EvidenceDiffers, StoreAway, StoreRefused, WrongBucket
from archive.policy.retention import STANDARD, Lock
from archive.s3.connection import READ_TIMEOUT_S, Connection
from archive.s3.s3_errors import ARCHIVE, SettingNames, code, status, translated

TAG = "billing-environment"
PROBES = "probes/"
"""Where it is tried what a bucket does (`abilities`): no evidence is there."""
_PART = 1 << 20
_CONFLICTS = 5
"""A 409 means that another process is writing this key at this moment. The next attempt shows whether it has."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object, as the bucket returned it."""

    body: bytes
    version: str
    lock: Lock | None
    held: bool = False
    """Whether it is under a legal hold. S3 says so only to a login that may see holds."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def must_be_locked(self, key: str, lock: Lock) -> None:
        """Raises EvidenceDiffers unless its lock is at least as strong and as long as this one."""
        if self.lock is None or not self.lock.holds(lock):
            raise EvidenceDiffers(key, f"it is not locked as it must be ({lock.mode} until {lock.until:%Y-%m-%d})")


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of one key as the bucket lists it, or one delete marker. `size` is in bytes, and 0 for a marker."""

    key: str
    version: str
    marker: bool
    size: int
    written: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing of versions. `following` asks for the next part; None when this is the last."""

    entries: list[Listed]
    following: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Encryption:
    """How S3 encrypts objects: with this key in AWS KMS, or with S3's own keys if it is None.

    With a key in KMS, S3 derives keys of the bucket from it, so that not every object is a request to KMS.
    """

    kms_key: str | None = None

    @property
    def asked_for(self) -> Mapping[str, Any]:
        """S3's names for it: what a put asks for, and a read answers."""
        if self.kms_key is None:
            return {"ServerSideEncryption": "AES256"}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key, "BucketKeyEnabled": True}


class Store:
    """One bucket. Safe to use from many threads.

    `endpoint` is None for Amazon's own S3. The keys are None if the SDK is to find them: in a role, a profile (in
    `profile`, if it is given), or its own variables. `addressing` is `path`, `virtual` or `auto`: path where there is
    an endpoint, else what the SDK chooses. `encryption` is None if the bucket decides. `names` are those of the
    settings that errors mention. `timeout_s`: how long S3 may be silent. Every method may raise StoreAway and
    StoreRefused.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str,
        access_key: str | None,
        secret_key: str | None,
        profile: str | None = None,
        addressing: str = "auto",
        encryption: Encryption | None = None,
        names: SettingNames = ARCHIVE,
        connections: int = 8,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.bucket = bucket
        self.endpoint = endpoint
        self.encryption = encryption
        self._names = names
        with self.translated(bucket):
            self._connection = Connection(
                endpoint=endpoint,
                region=region,
                access_key=access_key,
                secret_key=secret_key,
                profile=profile,
                addressing=addressing,
                connections=connections,
                timeout_s=timeout_s,
            )
        self._s3: Any = self._connection.client

    @property
    def client(self) -> Any:
        """S3's own client, for the other modules of this folder."""
        return self._s3

    def translated(self, what: str) -> AbstractContextManager[None]:
        """Errors of the SDK become ours, and name the settings of this bucket."""
        return translated(what, self._names)

    def credentials(self) -> str:
        """Where the keys come from, and never a part of them."""
        with self.translated(self.bucket):
            return self._connection.credentials()

    def close(self) -> None:
        self._s3.close()

    def put_once(
        self, key: str, body: bytes, lock: Lock, storage: str = STANDARD, *, content_type: str | None = None
    ) -> bool:
        """Write the object, locked from the start, unless its key exists. True if this call wrote it.

        `storage`: one of S3's storage classes.
        """
        # Not every server knows storage classes, and STANDARD is what they do anyway.
        more = {} if storage == STANDARD else {"StorageClass": storage}
        more |= self.encryption.asked_for if self.encryption else {}
        more |= {"ContentType": content_type} if content_type else {}
        for _ in range(_CONFLICTS):
            with self.translated(key):
                try:
                    self._s3.put_object(
                        Bucket=self.bucket,
                        Key=key,
                        Body=body,
                        IfNoneMatch="*",
                        **checksum(body),
                        ObjectLockMode=lock.mode,
                        ObjectLockRetainUntilDate=lock.until,
                        **more,
                    )
                except ClientError as error:
                    if status(error) == 412:
                        return False
                    if status(error) == 409:
                        continue
                    raise
                return True
        raise StoreAway(f"{key}: another process was writing it, {_CONFLICTS} times in a row")

    def extend(self, key: str, version: str, lock: Lock) -> None:
        """Lock this version for longer. S3 refuses to lock it for shorter."""
        with self.translated(key):
            self._s3.put_object_retention(
                Bucket=self.bucket,
                Key=key,
                VersionId=version,
                Retention={"Mode": lock.mode, "RetainUntilDate": lock.until},
            )

    def get(self, key: str, version: str | None = None) -> Stored:
        """The object, or this version of it. Raises EvidenceDiffers if it is not in the bucket."""
        with self.translated(key):
            answer = self._body(key, version)
            body: bytes = answer["Body"].read()
        mode, until = answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")
        lock = Lock(mode, until) if mode and until else None
        return Stored(body, answer.get("VersionId", ""), lock, answer.get("ObjectLockLegalHoldStatus") == "ON")

    def download(self, key: str, version: str | None, file: IO[bytes]) -> str:
        """Write this version to `file`, a part at a time. Returns the SHA-256 of what was written.

        Raises EvidenceDiffers if it is not in the bucket.
        """
        digest = hashlib.sha256()
        with self.translated(key):
            for part in self._body(key, version)["Body"].iter_chunks(_PART):
                digest.update(part)
                file.write(part)
        return digest.hexdigest()

    def _body(self, key: str, version: str | None) -> dict[str, Any]:
        which = {"VersionId": version} if version else {}
        try:
            answer: dict[str, Any] = self._s3.get_object(Bucket=self.bucket, Key=key, **which)
        except ClientError as error:
            if code(error) in ("NoSuchKey", "NoSuchVersion", "404"):
                raise EvidenceDiffers(key, "it is not in the bucket") from None
            raise
        return answer

    def keys(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Every key that begins with `prefix`, sorted; with `after`, only those behind it."""
        start = {} if after is None else {"StartAfter": after}
        with self.translated(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, **start)
            return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def versions(self, page: Mapping[str, str] | None = None, *, most: int = 1000) -> Page:
        """A page of all versions and delete markers, at most `most`. Call it without `page`, then with `following`."""
        with self.translated(f"{self.bucket}: listing versions, which needs s3:ListBucketVersions"):
            answer = self._s3.list_object_versions(Bucket=self.bucket, MaxKeys=most, **(page or {}))
        entries = [
            Listed(each["Key"], each["VersionId"], marker, each.get("Size", 0), each["LastModified"])
            for kind, marker in (("Versions", False), ("DeleteMarkers", True))
            for each in answer.get(kind, ())
        ]
        if not answer.get("IsTruncated"):
            return Page(entries, None)
        markers = {"KeyMarker": answer.get("NextKeyMarker"), "VersionIdMarker": answer.get("NextVersionIdMarker")}
        following = {name: value for name, value in markers.items() if value}
        if following in ({}, page):
            raise StoreRefused(f"{self.bucket}: this S3 lists versions, and does not say where its next page begins")
        return Page(entries, following)

    def lock(self, key: str, version: str) -> Lock | None:
        """The lock of this version.

        `get` shows no lock to a login that may not read locks; this method raises StoreRefused then.
        """
        with self.translated(key):
            try:
                retention = self._s3.get_object_retention(Bucket=self.bucket, Key=key, VersionId=version)["Retention"]
            except ClientError as error:
                if code(error) in ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"):
                    return None
                raise
        return Lock(retention["Mode"], retention["RetainUntilDate"]) if "Mode" in retention else None

    def set_up(self, environment: str) -> bool:
        """Make the bucket, versioned, with Object Lock and this environment's tag. True if this call made it.

        A bucket that exists must have Object Lock, and is tagged if it has no such tag. Raises WrongBucket.
        """
        with self.translated(self.bucket):
            try:
                self._s3.create_bucket(
                    Bucket=self.bucket, ObjectLockEnabledForBucket=True, **_location(self._s3.meta.region_name)
                )
                made = True
            except ClientError as error:
                if code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
                made = False
            self._check_lock()
            tags = self._tags()
            if TAG not in tags:
                tag_set = [{"Key": name, "Value": value} for name, value in {**tags, TAG: environment}.items()]
                self._s3.put_bucket_tagging(Bucket=self.bucket, Tagging={"TagSet": tag_set})
        self.check(environment)
        return made

    def check(self, environment: str) -> None:
        """Raises WrongBucket if the bucket is not this environment's, or has no Object Lock."""
        with self.translated(self.bucket):
            found = self._tags().get(TAG)
            if found is None:
                raise WrongBucket(
                    f"BILLING_ARCHIVE_BUCKET: {self.bucket} was never set up; run `billing archive setup`"
                )
            if found != environment:
                raise WrongBucket(
                    f"BILLING_ARCHIVE_BUCKET: {self.bucket} belongs to environment {found!r}, and BILLING_ENVIRONMENT "
                    f"says {environment!r}; point one of them elsewhere"
                )
            self._check_lock()

    def _tags(self) -> dict[str, str]:
        try:
            answer = self._s3.get_bucket_tagging(Bucket=self.bucket)
        except ClientError as error:
            if code(error) == "NoSuchTagSet":
                return {}
            if code(error) in ("NoSuchBucket", "404"):
                raise WrongBucket(
                    f"BILLING_ARCHIVE_BUCKET: there is no bucket {self.bucket}; run `billing archive setup`"
                ) from None
            raise
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def _check_lock(self) -> None:
        try:
            answer = self._s3.get_object_lock_configuration(Bucket=self.bucket)
            enabled = answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        except ClientError as error:
            # Whoever is overloaded, or refuses to tell, has not said that it cannot lock.
            if status(error) not in (400, 404, 501) or code(error) == "RequestTimeout":
                raise
            enabled = False
        if not enabled:
            raise WrongBucket(
                f"BILLING_ARCHIVE_BUCKET: {self.bucket} was made without Object Lock, so it cannot hold evidence; "
                "name another and run `billing archive setup`"
            )


def checksum(body: bytes) -> dict[str, str]:
    """What a put says about its body: S3 refuses the object if it differs, and a lock if nothing is said.

    Source: docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html (Object Lock parameters)
    """
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": digest}


def _location(region: str) -> dict[str, Any]:
    # us-east-1 is the one region that must not be named.
    # Source: docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
