"""The buckets that settings name: that of the evidence, the second one for heads, and that for sorted copies."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from archive.s3.plain_bucket import PlainBucket
from archive.s3.s3_errors import ARCHIVE, SettingNames
from archive.s3.store import Encryption, Store
from jobs.config.secrets import Secret
from jobs.config.settings import Settings
from jobs.config.sources import SettingsError

_HEADS = SettingNames(
    "BILLING_HEADS_ENDPOINT_URL", "BILLING_HEADS_ACCESS_KEY and BILLING_HEADS_SECRET_KEY", "BILLING_HEADS_REGION"
)
"""What errors about the second bucket name."""
_COMPACTED = ARCHIVE._replace(keys="BILLING_COMPACTED_ACCESS_KEY and BILLING_COMPACTED_SECRET_KEY")


@contextmanager
def opened(settings: Settings, *, timeout_s: float | None = None) -> Iterator[Store]:
    """The bucket of these settings; no request is sent yet. `timeout_s`: how long it may be silent, unless as usual.
    Raises SettingsError and SecretError."""
    if settings.archive_bucket is None:
        raise SettingsError("BILLING_ARCHIVE_BUCKET is not set; name the bucket of the evidence")
    encryption = Encryption(settings.s3_kms_key) if settings.s3_encryption else None
    more: dict[str, Any] = {} if timeout_s is None else {"timeout_s": timeout_s}
    with closing(_store(settings, settings.archive_bucket, encryption=encryption, **more)) as store:
        yield store


@contextmanager
def second_opened(settings: Settings) -> Iterator[Store | None]:
    """The bucket to which heads are published; None if none is set. Otherwise as `opened`."""
    if settings.heads_bucket is None:
        yield None
        return
    keys = (settings.heads_access_key, settings.heads_secret_key)
    own = settings.heads_access_key.is_set or settings.heads_profile is not None
    more: dict[str, Any] = {"profile": settings.heads_profile, "names": _HEADS}
    if settings.heads_endpoint_url is not None:
        more |= {"endpoint": settings.heads_endpoint_url, "addressing": "auto"}
    if settings.heads_region is not None:
        more["region"] = settings.heads_region
    with closing(_store(settings, settings.heads_bucket, keys if own else None, **more)) as store:
        yield store


@contextmanager
def compacted_opened(settings: Settings) -> Iterator[PlainBucket]:
    """The bucket for sorted copies of months. Otherwise as `opened`."""
    if settings.compacted_bucket is None:
        raise SettingsError(
            "BILLING_COMPACTED_BUCKET is not set; name the bucket of the copies, or write --to DIRECTORY"
        )
    keys = (settings.compacted_access_key, settings.compacted_secret_key)
    own = settings.compacted_access_key.is_set
    with closing(
        _store(settings, settings.compacted_bucket, keys if own else None, names=_COMPACTED if own else ARCHIVE)
    ) as store:
        yield PlainBucket(store)


def _store(settings: Settings, bucket: str, keys: tuple[Secret, Secret] | None = None, **more: Any) -> Store:
    """A bucket, reached as that of the evidence in all that `more` does not say otherwise; also with its keys, unless
    it has `keys` of its own."""
    access_key, secret_key = map(_s3_key, keys or (settings.s3_access_key, settings.s3_secret_key))
    usual = {
        "endpoint": settings.s3_endpoint_url,
        "region": settings.s3_region,
        "addressing": settings.s3_addressing,
    }
    return Store(bucket, access_key=access_key, secret_key=secret_key, **usual | more)


def _s3_key(secret: Secret) -> str | None:
    """None where it is not set: then AWS's SDK finds keys itself (a role, a profile, its variables)."""
    if not secret.is_set:
        return None
    key = secret.reveal()
    if not (key.isascii() and key.isprintable() and " " not in key):
        # It is sent in a header, and the SDK's error about that would show it.
        raise SettingsError(f"{secret.setting}: not an S3 key; those have only ASCII letters, digits and signs")
    return key
