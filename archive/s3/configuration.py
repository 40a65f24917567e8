"""The bucket's own configuration: versions, default lock, rules of expiry, policy. And locks and holds of objects.

A server that does not know a part says so; that is an answer here and no error.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from archive.policy.retention import Lock
from archive.s3.s3_errors import code, status
from archive.s3.store import Store, checksum

_NOTHING_THERE = {
    "NoSuchLifecycleConfiguration",
    "NoSuchBucketPolicy",
    "ObjectLockConfigurationNotFoundError",
    "NoSuchObjectLockConfiguration",
}


@dataclass(frozen=True, slots=True)
class DefaultLock:
    """The lock of an object that is put without one."""

    mode: str
    days: int

    def __str__(self) -> str:
        return f"{self.mode} for {self.days} days"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a bucket has: rules and statements as S3 writes them."""

    versioned: bool
    default_lock: DefaultLock | None
    lifecycle: list[Mapping[str, Any]] = field(default_factory=list)
    statements: list[Mapping[str, Any]] = field(default_factory=list)


def read(store: Store) -> Configuration:
    """Raises StoreAway and StoreRefused."""
    versioning = _ask(store, "versioning, which needs s3:GetBucketVersioning", store.client.get_bucket_versioning)
    locks = _ask(store, "its lock", store.client.get_object_lock_configuration)
    rules = _ask(
        store, "lifecycle, which needs s3:GetLifecycleConfiguration", store.client.get_bucket_lifecycle_configuration
    )
    policy = _ask(store, "policy, which needs s3:GetBucketPolicy", store.client.get_bucket_policy)
    default = locks.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    return Configuration(
        versioning.get("Status") == "Enabled",
        _default_lock(default) if default else None,
        rules.get("Rules", []),
        json.loads(policy.get("Policy", "{}")).get("Statement", []),
    )


def enable_versions(store: Store) -> str | None:
    return _put(store, "versioning", store.client.put_bucket_versioning, VersioningConfiguration={"Status": "Enabled"})


def put_default_lock(store: Store, lock: DefaultLock) -> str | None:
    rule = {"DefaultRetention": {"Mode": lock.mode, "Days": lock.days}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    return _put(
        store,
        "default lock",
        store.client.put_object_lock_configuration,
        ObjectLockConfiguration=configuration,
    )


def put_lifecycle(store: Store, rules: list[Mapping[str, Any]]) -> str | None:
    return _put(
        store,
        "lifecycle",
        store.client.put_bucket_lifecycle_configuration,
        LifecycleConfiguration={"Rules": rules},
    )


def put_statements(store: Store, statements: list[Mapping[str, Any]]) -> str | None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return _put(store, "policy", store.client.put_bucket_policy, Policy=policy)


def put_without_condition(store: Store, key: str, lock: Lock) -> bool:
    """Whether the bucket takes an empty object without `If-None-Match`, which may overwrite another."""
    with store.translated(key):
        try:
            store.client.put_object(
                Bucket=store.bucket,
                Key=key,
                Body=b"",
                **checksum(b""),
                ObjectLockMode=lock.mode,
                ObjectLockRetainUntilDate=lock.until,
            )
        except ClientError as error:
            if status(error) == 403:
                return False
            raise
    return True


def set_hold(store: Store, key: str, version: str, *, on: bool) -> None:
    """Set or lift the legal hold of this version; setting it again changes nothing."""
    with store.translated(f"{key}: legal hold, which needs s3:PutObjectLegalHold"):
        store.client.put_object_legal_hold(
            Bucket=store.bucket, Key=key, VersionId=version, LegalHold={"Status": "ON" if on else "OFF"}
        )


def raise_lock(store: Store, key: str, version: str, lock: Lock) -> None:
    """Give this version a stronger lock. From GOVERNANCE to COMPLIANCE S3 wants the right to bypass the first."""
    with store.translated(
        f"{key}: raising its lock, which needs s3:PutObjectRetention and s3:BypassGovernanceRetention"
    ):
        store.client.put_object_retention(
            Bucket=store.bucket,
            Key=key,
            VersionId=version,
            Retention={"Mode": lock.mode, "RetainUntilDate": lock.until},
            BypassGovernanceRetention=True,
        )


def _default_lock(retention: Mapping[str, Any]) -> DefaultLock:
    return DefaultLock(retention["Mode"], retention.get("Days") or retention.get("Years", 0) * 365)


def _ask(store: Store, what: str, call: Callable[..., Any]) -> Mapping[str, Any]:
    with store.translated(f"{store.bucket}: reading its {what}"):
        try:
            answer: Mapping[str, Any] = call(Bucket=store.bucket)
        except ClientError as error:
            if code(error) in _NOTHING_THERE or status(error) == 501:
                return {}
            raise
    return answer


def _put(store: Store, what: str, call: Callable[..., Any], **configuration: Any) -> str | None:
    """None if the bucket has it now, else how this server says that it cannot."""
    with store.translated(f"{store.bucket}: its {what}"):
        try:
            call(Bucket=store.bucket, **configuration)
        except ClientError as error:
            if status(error) in (400, 501):
                return f"{status(error)} {code(error)}"
            raise
    return None
