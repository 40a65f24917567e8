"""The bucket: each object is written once, locked, and read back. The only file of the archive that knows S3.

No call is repeated behind our back: whoever asked tries again, and sees that he does.
"""

import base64
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from archive.errors import EvidenceDiffers, StoreAway, StoreRefused, WrongBucket
from archive.retention import Lock, Mode

TAG = "billing-environment"
PROBES = "probes/"
PROBE_LOCK_S = 120
_CONFLICTS = 5
"""A 409 says that somebody writes this key at this moment: asking again tells who won."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object, as the bucket gave it back."""

    body: bytes
    version: str
    lock: Lock | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


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


class Store:
    """One bucket. Safe to use from many threads.

    `endpoint` is None for Amazon's own, and the keys are None for whatever the SDK finds: a role, a profile, or its
    own variables. Raises StoreAway and StoreRefused from every method.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str,
        access_key: str | None,
        secret_key: str | None,
        connections: int = 8,
    ) -> None:
        self.bucket = bucket
        self.endpoint = endpoint
        session = boto3.session.Session(
            aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=region
        )
        self._s3: Any = session.client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=3,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=connections,
                s3={"addressing_style": "path" if endpoint else "auto"},
                # Evidence does not go where a variable of the shell happens to point.
                proxies={},
            ),
        )

    def close(self) -> None:
        self._s3.close()

    def put_once(self, key: str, body: bytes, lock: Lock) -> bool:
        """Write the object unless there is one; locked from its first moment. True if this call wrote it."""
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        for _ in range(_CONFLICTS):
            with _told(key):
                try:
                    self._s3.put_object(
                        Bucket=self.bucket,
                        Key=key,
                        Body=body,
                        IfNoneMatch="*",
                        ChecksumSHA256=digest,
                        ObjectLockMode=lock.mode,
                        ObjectLockRetainUntilDate=lock.until,
                    )
                except ClientError as error:
                    if _status(error) == 412:
                        return False
                    if _status(error) == 409:
                        continue
                    raise
                return True
        raise StoreAway(f"{key}: somebody else was writing it {_CONFLICTS} times in a row")

    def get(self, key: str, version: str | None = None) -> Stored:
        """The object, or that version of it. Raises EvidenceDiffers when it is not there."""
        which = {"VersionId": version} if version else {}
        with _told(key):
            try:
                answer = self._s3.get_object(Bucket=self.bucket, Key=key, **which)
                body: bytes = answer["Body"].read()
            except ClientError as error:
                if _code(error) in ("NoSuchKey", "NoSuchVersion", "404"):
                    raise EvidenceDiffers(key, "it is not in the bucket") from None
                raise
        mode, until = answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")
        return Stored(body, answer.get("VersionId", ""), Lock(mode, until) if mode and until else None)

    def keys(self, prefix: str) -> list[str]:
        """Every key that begins with this, sorted."""
        with _told(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def versions(self, page: Mapping[str, str] | None = None, *, most: int = 1000) -> Page:
        """Every version and delete marker in the bucket, so many at a time: first without `page`, then `following`."""
        with _told(f"{self.bucket}: listing versions, which needs s3:ListBucketVersions"):
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
        """The lock of this version. Reading an object shows it only to those who may read locks; this refuses."""
        with _told(key):
            try:
                told = self._s3.get_object_retention(Bucket=self.bucket, Key=key, VersionId=version)["Retention"]
            except ClientError as error:
                if _code(error) in ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"):
                    return None
                raise
        return Lock(told["Mode"], told["RetainUntilDate"]) if "Mode" in told else None

    def set_up(self, environment: str) -> bool:
        """Make the bucket, versioned, with Object Lock and this environment's tag; True if it was made.

        One that is there already must be able to lock, and is tagged unless it is. Raises WrongBucket.
        """
        with _told(self.bucket):
            try:
                self._s3.create_bucket(
                    Bucket=self.bucket, ObjectLockEnabledForBucket=True, **_location(self._s3.meta.region_name)
                )
                made = True
            except ClientError as error:
                if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
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
        """Raises WrongBucket when the bucket is not this environment's, or cannot lock what is put into it."""
        with _told(self.bucket):
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

    def probe_lock(self) -> str | None:
        """Try to delete a locked version: None when the bucket refuses, else what happened instead.

        Leaves one empty object below `probes/` that can be deleted two minutes later; the next probe does.
        """
        key = f"{PROBES}{uuid.uuid4()}"
        self._clear_probes()
        self.put_once(key, b"", Lock(Mode.GOVERNANCE, datetime.now(UTC) + timedelta(seconds=PROBE_LOCK_S)))
        version = self.get(key).version
        with _told(key):
            try:
                self._s3.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
            except ClientError as error:
                return None if _status(error) == 403 else f"it answered {_code(error)}"
        return "it deleted an object that was locked"

    def _clear_probes(self) -> None:
        """What earlier probes left; what is still locked, or not ours to delete, stays."""
        with _told(PROBES):
            found = self._s3.list_object_versions(Bucket=self.bucket, Prefix=PROBES)
            for entry in found.get("Versions", ()):
                try:
                    self._s3.delete_object(Bucket=self.bucket, Key=entry["Key"], VersionId=entry["VersionId"])
                except ClientError as error:
                    if _status(error) != 403:
                        raise

    def _tags(self) -> dict[str, str]:
        try:
            answer = self._s3.get_bucket_tagging(Bucket=self.bucket)
        except ClientError as error:
            if _code(error) == "NoSuchTagSet":
                return {}
            if _code(error) in ("NoSuchBucket", "404"):
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
            if _status(error) in (401, 403):
                raise
            enabled = False
        if not enabled:
            raise WrongBucket(
                f"BILLING_ARCHIVE_BUCKET: {self.bucket} was made without Object Lock, so it cannot hold evidence; "
                "name another and run `billing archive setup`"
            )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The SDK's errors as ours: whether trying again may help, and no header or credential in the text."""
    try:
        yield
    except ClientError as error:
        told = f"{_setting(error)}: {what}: S3 answers {_status(error)} {_code(error)}"
        if _status(error) >= 500 or _status(error) in (409, 429):
            raise StoreAway(told) from None
        raise StoreRefused(told) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StoreRefused(
            f"{_KEYS}: {what}: neither is set, and AWS's SDK finds none; set both, or give this process a role"
        ) from None
    except BotoCoreError as error:
        raise StoreAway(f"S3_ENDPOINT_URL: {what}: S3 cannot be reached ({type(error).__name__})") from None


_KEYS = "BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY"
_ABOUT_KEYS = frozenset(
    "SignatureDoesNotMatch InvalidAccessKeyId InvalidSecurity InvalidToken ExpiredToken TokenRefreshRequired"
    " AuthorizationHeaderMalformed CredentialsNotSupported UnrecognizedClientException".split()
)
"""Source: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""


def _setting(error: ClientError) -> str:
    """The one that is to be corrected."""
    return _KEYS if _code(error) in _ABOUT_KEYS else "S3_ENDPOINT_URL"


def _status(error: ClientError) -> int:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _location(region: str) -> dict[str, Any]:
    # us-east-1 is the one region that must not be named.
    # Source: docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
