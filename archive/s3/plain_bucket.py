"""A bucket without locks, whose objects may be replaced and deleted: for what can be made again from the archive."""

import os
from pathlib import Path

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from archive.errors import EvidenceDiffers, WrongBucket
from archive.s3.s3_errors import code
from archive.s3.store import Store

# Larger files are sent in parts, which the SDK makes one object of at the end; three parts are in memory at once.
_PARTS = TransferConfig(multipart_threshold=32 << 20, multipart_chunksize=32 << 20, max_concurrency=2)


class PlainBucket:
    """Whoever reads a key sees the old object or the new one, whole. Each method may raise StoreAway, StoreRefused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        return f"s3://{self._store.bucket}/"

    def check(self) -> None:
        """Raises WrongBucket if it locks objects, or does not exist."""
        bucket = self._store.bucket
        with self._store.translated(f"{bucket}: reading its lock, which needs s3:GetBucketObjectLockConfiguration"):
            try:
                self._store.client.get_object_lock_configuration(Bucket=bucket)
            except ClientError as error:
                if code(error) in ("NoSuchBucket", "404"):
                    raise WrongBucket(
                        f"BILLING_COMPACTED_BUCKET: there is no bucket {bucket}; make one without Object Lock"
                    ) from None
                if code(error) in ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"):
                    return
                raise
        raise WrongBucket(
            f"BILLING_COMPACTED_BUCKET: {bucket} has Object Lock, and copies are replaced; name one without it"
        )

    def keys(self, prefix: str) -> list[str]:
        return self._store.keys(prefix)

    def read(self, key: str) -> bytes | None:
        """None if it is not there."""
        try:
            return self._store.get(key).body
        except EvidenceDiffers:
            return None

    def digest(self, key: str) -> str | None:
        """The SHA-256 of what is there; None if nothing is."""
        try:
            with open(os.devnull, "wb") as nowhere:
                return self._store.download(key, None, nowhere)
        except EvidenceDiffers:
            return None

    def put(self, key: str, file: Path) -> None:
        with file.open("rb") as body, self._store.translated(key):
            self._store.client.upload_fileobj(body, self._store.bucket, key, Config=_PARTS)

    def remove(self, key: str) -> None:
        """It need not be there."""
        with self._store.translated(key):
            self._store.client.delete_object(Bucket=self._store.bucket, Key=key)
